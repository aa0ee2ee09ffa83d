//! `tidemill_count_terms(tokens, terms, indices, min_tf, binary, stage, column)`: how often terms of a vocabulary come.
//!
//! `terms` is a literal list in ascending byte order and `indices` the vocabulary's index of each. The result is a
//! sparse vector as large as the vocabulary. A term that comes fewer than `min_tf` times in the list (below 1: than
//! this share of its tokens) is left out; where `binary` each that is left has 1. Tokens that are not in the
//! vocabulary, nulls among them, only count towards the list's length. A null list fails, naming stage and column. All
//! arguments but the list are literals.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, UInt32Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::sparse::{SparseBuilder, sparse_field};
use super::support;
use super::vector::sparse_vector_type;

const NAME: &str = "tidemill_count_terms";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(CountTerms { signature: Signature::any(7, Volatility::Immutable) }))
}

/// A call of the function; the index of a term is its place in `vocabulary`.
pub(crate) fn count_terms(
    tokens: Expr,
    vocabulary: &[String],
    min_tf: f64,
    binary: bool,
    stage: &str,
    column: &str,
) -> Expr {
    let mut sorted: Vec<(&String, u32)> = vocabulary.iter().zip(0..).collect();
    sorted.sort_unstable();
    let terms = StringArray::from_iter_values(sorted.iter().map(|(term, _)| term));
    let indices = UInt32Array::from_iter_values(sorted.iter().map(|(_, index)| *index));
    let [terms, indices] = [support::literal_list(Arc::new(terms)), support::literal_list(Arc::new(indices))];
    udf().call(vec![tokens, terms, indices, lit(min_tf), lit(binary), lit(stage), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CountTerms {
    signature: Signature,
}

impl ScalarUDFImpl for CountTerms {
    fn name(&self) -> &str {
        NAME
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        support::call_name(NAME, args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(sparse_vector_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.scalar_arguments.get(1) {
            Some(Some(ScalarValue::List(terms))) => Ok(sparse_field(NAME, terms.value_length(0) as usize)),
            _ => plan_err!("{NAME}: the terms are a literal list"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [
            tokens,
            ColumnarValue::Scalar(ScalarValue::List(terms)),
            ColumnarValue::Scalar(ScalarValue::List(indices)),
            ColumnarValue::Scalar(ScalarValue::Float64(Some(min_tf))),
            binary,
            stage,
            column,
        ] = args.args.as_slice()
        else {
            return plan_err!("{NAME} takes a list and six literals: terms, indices, min_tf, binary, stage and column");
        };
        let Some(binary) = support::flag_literal(binary) else {
            return plan_err!("{NAME}: binary is true or false");
        };
        let (terms, indices) = (cast(&terms.value(0), &DataType::Utf8)?, cast(&indices.value(0), &DataType::UInt32)?);
        let (terms, indices) = (terms.as_string::<i32>(), indices.as_primitive::<UInt32Type>());
        if terms.len() != indices.len() {
            return exec_err!("{NAME}: {} terms have {} indices", terms.len(), indices.len());
        }
        let lists = support::present(tokens, args.number_rows, &support::tokens_type(), stage, column)?;
        let counting = Counting { min_tf: *min_tf, binary };
        Ok(ColumnarValue::Array(counting.in_vocabulary(lists.as_list(), terms, indices.values())?))
    }
}

struct Counting {
    min_tf: f64,
    binary: bool,
}

impl Counting {
    fn in_vocabulary(&self, lists: &ListArray, terms: &StringArray, indices: &[u32]) -> Result<ArrayRef> {
        let n_tokens = lists.offsets().last().copied().unwrap_or(0) - lists.offsets().first().copied().unwrap_or(0);
        // For fewer tokens than terms a hash table costs more to build than it saves.
        if (n_tokens as usize) < terms.len() {
            return self.counted(lists, |token| Some(indices[search(terms, token)?]));
        }
        let table: HashMap<&str, u32> = terms.iter().flatten().zip(indices.iter().copied()).collect();
        self.counted(lists, |token| table.get(token).copied())
    }

    fn counted(&self, lists: &ListArray, find: impl Fn(&str) -> Option<u32>) -> Result<ArrayRef> {
        let tokens: &StringArray = lists.values().as_string();
        let index = |i: usize| if tokens.is_null(i) { None } else { find(tokens.value(i)) };
        let mut vectors = SparseBuilder::new(lists.len());
        let mut found: Vec<u32> = Vec::new();
        for bounds in lists.offsets().windows(2) {
            let (start, end) = (bounds[0] as usize, bounds[1] as usize);
            found.clear();
            found.extend((start..end).filter_map(index));
            found.sort_unstable();
            let least = if self.min_tf >= 1.0 { self.min_tf } else { self.min_tf * (end - start) as f64 };
            for run in found.chunk_by(|a, b| a == b).filter(|run| run.len() as f64 >= least) {
                vectors.push(run[0], if self.binary { 1.0 } else { run.len() as f64 });
            }
            vectors.end_row()?;
        }
        vectors.finish()
    }
}

/// The place of a term among those in byte order.
fn search(terms: &StringArray, term: &str) -> Option<usize> {
    let (mut low, mut high) = (0, terms.len());
    while low < high {
        let middle = low.midpoint(high);
        match terms.value(middle).cmp(term) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(middle),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListBuilder, StringBuilder};

    use super::super::sparse::SparseVectors;
    use super::*;

    #[test]
    fn searching_and_a_table_give_the_same() {
        let terms = StringArray::from(vec!["", "a", "b", "c", "é"]);
        let indices = [3, 0, 4, 1, 2];
        let short = vec!["c", "é", "zz", "c"];
        let long: Vec<&str> = ["é", "", "a", "nope", "c"].repeat(3);
        let rows = |row: &[&str]| {
            let mut lists = ListBuilder::new(StringBuilder::new());
            lists.append_value(row.iter().map(Some));
            lists.finish()
        };
        let counting = Counting { min_tf: 0.0, binary: false };
        let found = |row: &[&str]| {
            let vectors = counting.in_vocabulary(&rows(row), &terms, &indices).unwrap();
            let vectors = SparseVectors::of("f", &vectors).unwrap();
            let (indices, values) = vectors.row(0);
            (indices.to_vec(), values.to_vec())
        };
        assert_eq!(found(&short), (vec![1, 2], vec![2.0, 1.0]));
        assert_eq!(found(&long), (vec![0, 1, 2, 3], vec![3.0; 4]));
    }

    #[test]
    fn every_term_is_found_and_nothing_else() {
        let terms = StringArray::from(vec!["", "a", "ab", "b", "é", "😀"]);
        assert!(terms.iter().flatten().enumerate().all(|(place, term)| search(&terms, term) == Some(place)));
        assert!(["A", "aa", "c", "😁"].iter().all(|term| search(&terms, term).is_none()));
    }
}
