//! `sparse_to_dense(vectors [, size])`: sparse vectors as dense ones of the same size.
//!
//! The size is that of the field, or the literal `size` where a field does not say it, and at most [`MAX_DENSE_SIZE`].
//! Elements that are not stored are 0; null stays null.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility, lit,
};

use super::sparse::{self, SparseVectors};
use super::vector::{SPARSE_SIZE_KEY, vector_size, vector_type, vectors};

/// The largest size that is made dense: a batch of 8,192 rows is 1 GiB.
pub const MAX_DENSE_SIZE: usize = 1 << 14;

const NAME: &str = "sparse_to_dense";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    let one_or_two = Signature::one_of(vec![TypeSignature::Any(1), TypeSignature::Any(2)], Volatility::Immutable);
    Arc::new(ScalarUDF::from(SparseToDense { signature: one_or_two }))
}

/// A call of the function for vectors of `size`.
pub fn sparse_to_dense(vectors: Expr, size: usize) -> Expr {
    udf().call(vec![vectors, lit(size as i64)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SparseToDense {
    signature: Signature,
}

impl ScalarUDFImpl for SparseToDense {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: its type is known from its arguments only")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let of_field = |field: &FieldRef| field.metadata().get(SPARSE_SIZE_KEY)?.parse::<usize>().ok();
        let literal = sparse::size_argument(&args, 1).map(|size| size as usize);
        let Some(size) = literal.or_else(|| args.arg_fields.first().and_then(of_field)) else {
            return plan_err!(
                "{NAME}: the size of the vectors is not known; give it as the second argument, a literal"
            );
        };
        if size > MAX_DENSE_SIZE {
            return plan_err!("{NAME}: dense vectors have at most {MAX_DENSE_SIZE} elements, got {size}");
        }
        Ok(Arc::new(Field::new(NAME, vector_type(size), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(column), Some(size)) = (args.args.first(), vector_size(args.return_field.data_type())) else {
            return plan_err!("{NAME} takes sparse vectors and, where it is not known, their size");
        };
        Ok(ColumnarValue::Array(dense(&column.to_array(args.number_rows)?, size)?))
    }
}

/// Sparse vectors of `size` as dense ones.
pub(crate) fn dense(array: &ArrayRef, size: usize) -> Result<ArrayRef> {
    let sparse = SparseVectors::of(NAME, array)?;
    let mut elements = vec![0.0; size * sparse.len()];
    for row in (0..sparse.len()).filter(|&row| !sparse.is_null(row)) {
        let (indices, values) = sparse.row(row);
        if let Some(last) = indices.last().filter(|last| **last as usize >= size) {
            return exec_err!("{NAME}: a vector of {size} elements has the index {last}");
        }
        indices.iter().zip(values).for_each(|(&index, &value)| elements[row * size + index as usize] = value);
    }
    let nulls: NullBuffer = (0..sparse.len()).map(|row| !sparse.is_null(row)).collect();
    vectors(elements, size, sparse.len(), Some(nulls).filter(|nulls| nulls.null_count() > 0))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, ListBuilder, RecordBatch, StringBuilder};
    use arrow::datatypes::Float64Type;
    use datafusion::prelude::{SessionContext, ident};

    use super::super::hashing_tf::hashing_tf;
    use super::super::sparse::SparseBuilder;
    use super::*;

    fn one_row(entries: &[(u32, f64)]) -> ArrayRef {
        let mut vectors = SparseBuilder::new(1);
        entries.iter().for_each(|&(index, value)| vectors.push(index, value));
        vectors.end_row().unwrap();
        vectors.finish().unwrap()
    }

    #[test]
    fn elements_that_are_not_stored_are_zero() {
        let dense = dense(&one_row(&[(1, 2.5), (3, -1.0)]), 4).unwrap();
        let elements = dense.as_fixed_size_list().value(0);
        assert_eq!(elements.as_primitive::<Float64Type>().values()[..], [0.0, 2.5, 0.0, -1.0]);
    }

    #[tokio::test]
    async fn the_size_is_that_of_the_field() {
        let mut tokens = ListBuilder::new(StringBuilder::new());
        tokens.append_value([Some("a"), Some("b"), Some("a")]);
        let rows = RecordBatch::try_from_iter([("tokens", Arc::new(tokens.finish()) as ArrayRef)]).unwrap();
        let hashed = hashing_tf(ident("tokens"), 7, false, "stage", "tokens").alias("v");
        let df = SessionContext::new().read_batch(rows).unwrap().select(vec![hashed]).unwrap();
        let batches = df.select(vec![udf().call(vec![ident("v")]).alias("v")]).unwrap().collect().await.unwrap();
        let elements = batches[0].column(0).as_fixed_size_list().value(0);
        let elements = elements.as_primitive::<Float64Type>().values();
        assert_eq!((elements.len(), elements.iter().sum::<f64>()), (7, 3.0));
    }

    #[test]
    fn an_index_beyond_the_size_is_refused() {
        let error = dense(&one_row(&[(4, 1.0)]), 4).unwrap_err().to_string();
        assert!(error.contains("a vector of 4 elements has the index 4"), "{error}");
    }
}
