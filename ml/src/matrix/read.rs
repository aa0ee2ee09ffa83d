//! From record batches to feature columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::{Feature, FeatureKind, FeatureValues, Features, model_features};
use crate::functions::vector::{Vectors, vector_type};
use crate::{MlError, Result};

pub(super) fn features_from_batch(features: Arc<[Feature]>, batch: &RecordBatch) -> Result<Features> {
    let mut values = Vec::with_capacity(features.len());
    for feature in features.iter() {
        values.extend(columns(feature, batch)?);
    }
    Ok(Features { features: model_features(&features), values, n_rows: batch.num_rows() })
}

fn columns(feature: &Feature, batch: &RecordBatch) -> Result<Vec<FeatureValues>> {
    let array = batch.column_by_name(&feature.name).ok_or_else(|| {
        MlError::Invalid(format!(
            "the features have no column {:?}; they have {}",
            feature.name,
            batch.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
        ))
    })?;
    match feature.kind {
        FeatureKind::Number => Ok(vec![FeatureValues::Number(numbers_of(cast_to_numbers(array)?.as_primitive()))]),
        FeatureKind::Category { .. } => {
            Ok(vec![FeatureValues::Category(indices_of(cast_to_numbers(array)?.as_primitive()))])
        }
        FeatureKind::Vector { size } => elements_of(&feature.name, size, array),
        FeatureKind::SparseVector { .. } | FeatureKind::Other => Err(MlError::Invalid(format!(
            "feature {:?} is {}; models read numbers, categories and dense vectors: leave it out with a \
             vector_assembler",
            feature.name,
            array.data_type()
        ))),
    }
}

fn cast_to_numbers(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(cast(array, &DataType::Float64)?)
}

fn elements_of(name: &str, size: usize, array: &ArrayRef) -> Result<Vec<FeatureValues>> {
    if !matches!(array.data_type(), DataType::FixedSizeList(_, n) if usize::try_from(*n) == Ok(size)) {
        return Err(MlError::Invalid(format!(
            "feature {name:?} is {}; expected a dense vector of {size} numbers",
            array.data_type()
        )));
    }
    let array = cast(array, &vector_type(size))?;
    let vectors = Vectors::of(&array)?;
    Ok((0..size).map(|i| FeatureValues::Number(vectors.element(i).collect())).collect())
}

fn numbers_of(array: &Float64Array) -> Arc<[f64]> {
    if array.null_count() == 0 {
        return Arc::from(&array.values()[..]);
    }
    array.iter().map(|v| v.unwrap_or(f64::NAN)).collect()
}

fn indices_of(array: &Float64Array) -> Arc<[u32]> {
    array.iter().map(|v| v.map_or(u32::MAX, |v| v as u32)).collect()
}
