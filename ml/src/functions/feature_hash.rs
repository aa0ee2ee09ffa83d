//! `tidemill_feature_hash(size, signed, names, x, ...)`: columns hashed into one sparse vector.
//!
//! A number adds itself at the Murmur3 hash of its column's name modulo `size`, and a text adds 1 at that of
//! `name=text`; nulls add nothing. Where `signed`, it is taken off instead where the hash is negative, so that features
//! of one bucket cancel out on average. What adds up to 0 is not stored. `size`, `signed` and `names` are literals,
//! with a name for each of the columns, which are `Float64` or text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::murmur3;
use super::sparse::{self, SparseBuilder, sparse_field};
use super::support;
use super::vector::sparse_vector_type;

const NAME: &str = "tidemill_feature_hash";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(FeatureHash { signature: Signature::variadic_any(Volatility::Immutable) }))
}

/// A call of the function for columns and their names.
pub(crate) fn feature_hash(size: u32, signed: bool, columns: Vec<(String, Expr)>) -> Expr {
    let (names, columns): (Vec<String>, Vec<Expr>) = columns.into_iter().unzip();
    let mut args = vec![lit(i64::from(size)), lit(signed), support::text_list(names.into_iter())];
    args.extend(columns);
    udf().call(args)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FeatureHash {
    signature: Signature,
}

impl ScalarUDFImpl for FeatureHash {
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
        match sparse::size_argument(&args, 0) {
            Some(size) => Ok(sparse_field(NAME, size as usize)),
            None => plan_err!("{NAME}: the size is a literal of 1 to {}", i32::MAX),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [size, signed, ColumnarValue::Scalar(ScalarValue::List(names)), columns @ ..] = args.args.as_slice() else {
            return plan_err!("{NAME} takes three literals, size, signed and names, and columns");
        };
        let size = sparse::size_literal(size).filter(|size| *size > 0);
        let (Some(size), Some(signed)) = (size, support::flag_literal(signed)) else {
            return plan_err!("{NAME}: size is a literal of 1 to {}, and signed true or false", i32::MAX);
        };
        let names = cast(&names.value(0), &DataType::Utf8)?;
        if names.len() != columns.len() {
            return plan_err!("{NAME} takes as many names as columns, got {} and {}", names.len(), columns.len());
        }
        let arrays = columns.iter().map(|column| column.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let named = names.as_string::<i32>().iter().zip(&arrays);
        let columns = named.map(|(name, array)| Column::of(name.unwrap_or(""), array)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(hashed(&columns, args.number_rows, Buckets { size, signed })?))
    }
}

/// One of the columns.
enum Column<'a> {
    /// The hash of its name, and its numbers.
    Number(i32, &'a Float64Array),
    /// Its name and `=`, and its texts.
    Text(String, &'a StringArray),
}

impl<'a> Column<'a> {
    fn of(name: &str, array: &'a ArrayRef) -> Result<Self> {
        if let Some(numbers) = array.as_primitive_opt::<Float64Type>() {
            return Ok(Self::Number(murmur3::hash(name.as_bytes()), numbers));
        }
        match array.as_string_opt::<i32>() {
            Some(texts) => Ok(Self::Text(format!("{name}="), texts)),
            None => exec_err!("{NAME} takes Float64 and Utf8, got {}", array.data_type()),
        }
    }

    /// The hash of what the row has here, and what that adds; `text` is used in between.
    fn entry(&self, row: usize, text: &mut String) -> Option<(i32, f64)> {
        match self {
            Self::Number(hash, numbers) => numbers.is_valid(row).then(|| (*hash, numbers.value(row))),
            Self::Text(prefix, texts) => texts.is_valid(row).then(|| {
                text.clear();
                text.push_str(prefix);
                text.push_str(texts.value(row));
                (murmur3::hash(text.as_bytes()), 1.0)
            }),
        }
    }
}

/// Where hashes go.
#[derive(Clone, Copy)]
struct Buckets {
    size: i32,
    signed: bool,
}

impl Buckets {
    fn of(self, (hash, value): (i32, f64)) -> (u32, f64) {
        let value = if self.signed && hash < 0 { -value } else { value };
        (murmur3::bucket(hash, self.size), value)
    }
}

fn hashed(columns: &[Column<'_>], n_rows: usize, buckets: Buckets) -> Result<ArrayRef> {
    let mut vectors = SparseBuilder::new(n_rows);
    let mut entries: Vec<(u32, f64)> = Vec::with_capacity(columns.len());
    let mut text = String::new();
    for row in 0..n_rows {
        entries.clear();
        entries.extend(columns.iter().filter_map(|column| column.entry(row, &mut text)).map(|e| buckets.of(e)));
        // Stable, so that one bucket is summed in the order of the columns.
        entries.sort_by_key(|(bucket, _)| *bucket);
        for run in entries.chunk_by(|a, b| a.0 == b.0) {
            let sum: f64 = run.iter().map(|(_, value)| value).sum();
            if sum != 0.0 {
                vectors.push(run[0].0, sum);
            }
        }
        vectors.end_row()?;
    }
    vectors.finish()
}

#[cfg(test)]
mod tests {
    use super::super::sparse::SparseVectors;
    use super::*;

    fn rows(columns: &[(&str, ArrayRef)], buckets: Buckets) -> Vec<(Vec<u32>, Vec<f64>)> {
        let columns: Vec<Column<'_>> = columns.iter().map(|(name, array)| Column::of(name, array).unwrap()).collect();
        let vectors = SparseVectors::of("f", &hashed(&columns, 3, buckets).unwrap()).unwrap();
        let owned = |row| (vectors.row(row).0.to_vec(), vectors.row(row).1.to_vec());
        (0..vectors.len()).map(owned).collect()
    }

    fn columns() -> Vec<(&'static str, ArrayRef)> {
        vec![
            ("x", Arc::new(Float64Array::from(vec![Some(2.5), Some(0.0), None]))),
            ("t", Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]))),
            ("u", Arc::new(StringArray::from(vec![Some("c"), None, Some("")]))),
        ]
    }

    #[test]
    fn one_bucket_adds_up() {
        let expected = [(vec![0], vec![4.5]), (vec![], vec![]), (vec![0], vec![2.0])];
        assert_eq!(rows(&columns(), Buckets { size: 1, signed: false }), expected);
    }

    #[test]
    fn signs_change_no_magnitude_and_both_come() {
        let size = 1 << 20;
        let plain = rows(&columns(), Buckets { size, signed: false });
        let signed = rows(&columns(), Buckets { size, signed: true });
        for ((indices, values), (signed_indices, signed_values)) in plain.iter().zip(&signed) {
            assert_eq!(indices, signed_indices);
            assert!(values.iter().zip(signed_values).all(|(a, b)| *a == b.abs()));
        }
        let signs: Vec<bool> = signed.iter().flat_map(|(_, values)| values).map(|value| *value < 0.0).collect();
        assert!(signs.contains(&true) && signs.contains(&false), "{signs:?}");
    }
}
