//! `tidemill_weigh_elements(vectors, size, indices, weights, other, stage, column)`: each element times its weight.
//!
//! `weights` are those of the elements `indices`, which ascend, and `other` is that of all other elements. Vectors are
//! sparse ones of `size` or dense ones (fixed-size lists of numbers), and stay what they are; a null element counts as
//! NaN. A null vector fails, naming stage and column. All arguments but the vectors are literals.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt32Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::sparse::{self, SparseBuilder, SparseVectors, sparse_field};
use super::support;
use super::vector::{Vectors, coerce_vector, sparse_vector_type};

const NAME: &str = "tidemill_weigh_elements";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(WeighElements { signature: Signature::any(7, Volatility::Immutable) }))
}

/// What each element of a vector is multiplied by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// The elements that have a weight of their own, ascending.
    pub(crate) indices: &'a [u32],
    /// Their weights.
    pub(crate) weights: &'a [f64],
    /// The weight of all others.
    pub(crate) other: f64,
}

impl Weights<'_> {
    fn of(&self, index: u32) -> f64 {
        self.indices.binary_search(&index).map_or(self.other, |place| self.weights[place])
    }
}

/// A call of the function for vectors of `size`.
pub(crate) fn weigh_elements(vectors: Expr, size: u32, weights: Weights<'_>, stage: &str, column: &str) -> Expr {
    let indices = support::literal_list(Arc::new(UInt32Array::from(weights.indices.to_vec())));
    let own = support::literal_list(Arc::new(Float64Array::from(weights.weights.to_vec())));
    udf().call(vec![vectors, lit(i64::from(size)), indices, own, lit(weights.other), lit(stage), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WeighElements {
    signature: Signature,
}

impl ScalarUDFImpl for WeighElements {
    fn name(&self) -> &str {
        NAME
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        support::call_name(NAME, args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types.first() {
            Some(DataType::Struct(_)) => Ok(sparse_vector_type()),
            Some(dense) => coerce_vector(NAME, dense),
            None => plan_err!("{NAME} takes vectors"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let data_type = self.return_type(&types)?;
        let Some(size) = sparse::size_argument(&args, 1) else {
            return plan_err!("{NAME}: the size is a literal of 0 to {}", i32::MAX);
        };
        Ok(match data_type {
            DataType::Struct(_) => sparse_field(NAME, size as usize),
            dense => Arc::new(Field::new(NAME, dense, true)),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [
            vectors,
            _,
            ColumnarValue::Scalar(ScalarValue::List(indices)),
            ColumnarValue::Scalar(ScalarValue::List(weights)),
            ColumnarValue::Scalar(ScalarValue::Float64(Some(other))),
            stage,
            column,
        ] = args.args.as_slice()
        else {
            return plan_err!("{NAME} takes vectors and six literals: size, indices, weights, other, stage and column");
        };
        let (indices, weights) =
            (cast(&indices.value(0), &DataType::UInt32)?, cast(&weights.value(0), &DataType::Float64)?);
        let (indices, weights) = (indices.as_primitive::<UInt32Type>(), weights.as_primitive::<Float64Type>());
        if indices.len() != weights.len() {
            return exec_err!("{NAME}: {} elements have {} weights", indices.len(), weights.len());
        }
        let weights = Weights { indices: indices.values(), weights: weights.values(), other: *other };
        let vectors = support::present(vectors, args.number_rows, args.return_field.data_type(), stage, column)?;
        Ok(ColumnarValue::Array(match vectors.data_type() {
            DataType::Struct(_) => sparse(&SparseVectors::of(NAME, &vectors)?, weights)?,
            _ => dense(&Vectors::of(&vectors)?, weights)?,
        }))
    }
}

fn sparse(vectors: &SparseVectors, weights: Weights<'_>) -> Result<ArrayRef> {
    let mut weighed = SparseBuilder::new(vectors.len());
    for row in 0..vectors.len() {
        let (indices, values) = vectors.row(row);
        indices.iter().zip(values).for_each(|(&index, value)| weighed.push(index, value * weights.of(index)));
        weighed.end_row()?;
    }
    weighed.finish()
}

fn dense(vectors: &Vectors<'_>, weights: Weights<'_>) -> Result<ArrayRef> {
    let by_element: Vec<f64> = (0..vectors.size() as u32).map(|index| weights.of(index)).collect();
    let weighed = vectors.rows().flat_map(|row| row.iter().zip(&by_element).map(|(value, weight)| value * weight));
    vectors.with_elements(weighed.collect(), vectors.size())
}
