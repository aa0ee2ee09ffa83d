//! `tidemill_hashing_tf(tokens, size, binary, stage, column)`: how often tokens of each hash bucket come.
//!
//! The result is a sparse vector of `size`, its indices the Murmur3 hashes of the tokens modulo `size`, with 1 for each
//! bucket that comes where `binary`. A null token hashes to the seed, as in Spark ML; a null list fails, naming stage
//! and column. All arguments but the list are literals.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::murmur3::{self, NULL_HASH};
use super::sparse::{self, SparseBuilder, sparse_field};
use super::support;
use super::vector::sparse_vector_type;

const NAME: &str = "tidemill_hashing_tf";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(HashingTf { signature: Signature::any(5, Volatility::Immutable) }))
}

/// A call of the function.
pub(crate) fn hashing_tf(tokens: Expr, size: u32, binary: bool, stage: &str, column: &str) -> Expr {
    udf().call(vec![tokens, lit(i64::from(size)), lit(binary), lit(stage), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct HashingTf {
    signature: Signature,
}

impl ScalarUDFImpl for HashingTf {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(sparse_vector_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match sparse::size_argument(&args, 1) {
            Some(size) => Ok(sparse_field(NAME, size as usize)),
            None => plan_err!("{NAME}: the size is a literal of 1 to {}", i32::MAX),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [tokens, size, binary, stage, column] = args.args.as_slice() else {
            return plan_err!("{NAME} takes a list and four literals: size, binary, stage and column");
        };
        let size = sparse::size_literal(size).filter(|size| *size > 0);
        let (Some(size), Some(binary)) = (size, support::flag_literal(binary)) else {
            return plan_err!("{NAME}: size is a literal of 1 to {}, and binary true or false", i32::MAX);
        };
        let lists = support::present(tokens, args.number_rows, &support::tokens_type(), stage, column)?;
        Ok(ColumnarValue::Array(counted(lists.as_list(), size, binary)?))
    }
}

fn counted(lists: &ListArray, size: i32, binary: bool) -> Result<ArrayRef> {
    let tokens: &StringArray = lists.values().as_string();
    let hash = |i: usize| if tokens.is_null(i) { NULL_HASH } else { murmur3::hash(tokens.value(i).as_bytes()) };
    let mut vectors = SparseBuilder::new(lists.len());
    let mut buckets: Vec<u32> = Vec::new();
    for bounds in lists.offsets().windows(2) {
        buckets.clear();
        buckets.extend((bounds[0] as usize..bounds[1] as usize).map(|i| murmur3::bucket(hash(i), size)));
        buckets.sort_unstable();
        for run in buckets.chunk_by(|a, b| a == b) {
            vectors.push(run[0], if binary { 1.0 } else { run.len() as f64 });
        }
        vectors.end_row()?;
    }
    vectors.finish()
}
