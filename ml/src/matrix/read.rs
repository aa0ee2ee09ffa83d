//! From record batches to feature columns.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::{Feature, FeatureKind, FeatureValues, Features};
use crate::{MlError, Result};

pub(super) fn features_from_batch(features: Arc<[Feature]>, batch: &RecordBatch) -> Result<Features> {
    let values = features.iter().map(|f| column(f, batch)).collect::<Result<Vec<_>>>()?;
    Ok(Features { features, values, n_rows: batch.num_rows() })
}

fn column(feature: &Feature, batch: &RecordBatch) -> Result<FeatureValues> {
    let array = batch.column_by_name(&feature.name).ok_or_else(|| {
        MlError::Invalid(format!(
            "the features have no column {:?}; they have {}",
            feature.name,
            batch.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
        ))
    })?;
    if feature.kind == FeatureKind::Other {
        return Err(MlError::Invalid(format!(
            "feature {:?} is {}; models read numbers and categories: leave it out with a vector_assembler",
            feature.name,
            array.data_type()
        )));
    }
    let array = cast(array, &DataType::Float64)?;
    let numbers = array.as_primitive::<Float64Type>();
    Ok(match &feature.kind {
        FeatureKind::Number | FeatureKind::Other => FeatureValues::Number(numbers_of(numbers)),
        FeatureKind::Category { .. } => FeatureValues::Category(indices_of(numbers)),
    })
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
