//! Folds by hash of a key: `fold_hash(key, seed) % k`.
//!
//! The hash is SplitMix64's output function `mix`, chained. A whole number or a date (days since 1970-01-01) hashes
//! as `mix(mix(seed) ^ key)`; text as `h = mix(seed)`, then `h = mix(h ^ chunk)` for each eight bytes of UTF-8
//! (little-endian, the last chunk filled with zeros), then `mix(h ^ length)`; null as `mix(mix(!seed))`, so that no
//! row is outside all folds. The SQL function `fold_hash(value, seed)` is the same formula.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Int64Type, UInt64Type};
use datafusion::common::{Result as DfResult, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::support::random::mix;

/// A value that assigns a row to a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoldKey<'a> {
    /// A whole number, or a date as days since 1970-01-01.
    Number(i64),
    /// Text.
    Text(&'a str),
    /// No value.
    Null,
}

/// The hash of a key; see the module's documentation for the formula.
pub fn fold_hash(key: FoldKey<'_>, seed: u64) -> u64 {
    match key {
        FoldKey::Number(value) => mix(mix(seed) ^ value as u64),
        FoldKey::Text(text) => {
            let (chunks, rest) = text.as_bytes().as_chunks();
            let chain = |h, chunk: &[u8; 8]| mix(h ^ u64::from_le_bytes(*chunk));
            let mut chained = chunks.iter().fold(mix(seed), chain);
            if !rest.is_empty() {
                let mut last = [0; 8];
                last[..rest.len()].copy_from_slice(rest);
                chained = chain(chained, &last);
            }
            mix(chained ^ text.len() as u64)
        }
        FoldKey::Null => mix(mix(!seed)),
    }
}

/// The fold of a key, `0..k`; 0 when `k` is 0.
pub fn fold_of(key: FoldKey<'_>, seed: u64, k: u32) -> u32 {
    fold_hash(key, seed).checked_rem(u64::from(k)).unwrap_or(0) as u32
}

/// The scalar functions of this module: `fold_hash(value, seed) -> UInt64`, never null.
pub fn scalar_udfs() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::from(FoldHash::default()))]
}

/// Whether `fold_hash` takes values of a type: whole numbers, dates and text.
pub fn is_fold_key(data_type: &DataType) -> bool {
    hashed_type(data_type).is_some()
}

/// A call of `fold_hash` on a whole number, a date or text.
pub fn fold_hash_of(value: Expr, seed: u64) -> Expr {
    ScalarUDF::from(FoldHash::default()).call(vec![value, lit(seed as i64)])
}

/// `fold_hash(value, seed)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FoldHash {
    signature: Signature,
}

impl Default for FoldHash {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FoldHash {
    fn name(&self) -> &str {
        "fold_hash"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::UInt64)
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let [value, seed] = types else {
            return plan_err!("fold_hash takes a value and a seed, got {} arguments", types.len());
        };
        if !seed.is_integer() {
            return plan_err!("fold_hash: expected a whole number as the seed, got {seed}");
        }
        match hashed_type(value) {
            Some(value) => Ok(vec![value, seed.clone()]),
            None => plan_err!("fold_hash: expected a whole number, a date or text, got {value}; cast it first"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [value, ColumnarValue::Scalar(seed)] = &args.args[..] else {
            return exec_err!("fold_hash: the seed must be a constant");
        };
        let seed = match seed.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(seed)) => seed as u64,
            _ => return exec_err!("fold_hash: the seed must not be null"),
        };
        match value {
            ColumnarValue::Scalar(value) => {
                let hashes = hash_array(&value.to_array()?, seed)?;
                Ok(ColumnarValue::Scalar(ScalarValue::UInt64(Some(hashes.value(0)))))
            }
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(Arc::new(hash_array(values, seed)?))),
        }
    }
}

/// The type that a value is hashed as; none for a type that is not hashed.
fn hashed_type(value: &DataType) -> Option<DataType> {
    match value {
        DataType::Date64 => Some(DataType::Date32),
        DataType::Utf8View => Some(DataType::Utf8View),
        DataType::Utf8 | DataType::LargeUtf8 => Some(DataType::Utf8),
        DataType::Dictionary(_, of) if of.is_string() => Some(DataType::Utf8),
        DataType::Null => Some(DataType::Int64),
        DataType::Date32 | DataType::UInt64 => Some(value.clone()),
        whole if whole.is_integer() => Some(DataType::Int64),
        _ => None,
    }
}

fn hash_array(values: &ArrayRef, seed: u64) -> DfResult<UInt64Array> {
    let hash = |key: Option<FoldKey<'_>>| fold_hash(key.unwrap_or(FoldKey::Null), seed);
    Ok(match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().iter().map(|v| hash(v.map(FoldKey::Text))).collect(),
        DataType::Utf8View => values.as_string_view().iter().map(|v| hash(v.map(FoldKey::Text))).collect(),
        DataType::Date32 => {
            let days = values.as_primitive::<Date32Type>().iter();
            days.map(|v| hash(v.map(|v| FoldKey::Number(i64::from(v))))).collect()
        }
        DataType::UInt64 => {
            let numbers = values.as_primitive::<UInt64Type>().iter();
            numbers.map(|v| hash(v.map(|v| FoldKey::Number(v as i64)))).collect()
        }
        _ => {
            let numbers = cast(values, &DataType::Int64)?;
            numbers.as_primitive::<Int64Type>().iter().map(|v| hash(v.map(FoldKey::Number))).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, RecordBatch, StringArray};
    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn hashes_never_change() {
        // These numbers are a format: models' folds depend on them.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(fold_hash(FoldKey::Number(0), 0), mix(mix(0)));
        let text = mix(mix(mix(7) ^ u64::from_le_bytes(*b"UA\0\0\0\0\0\0")) ^ 2);
        assert_eq!(fold_hash(FoldKey::Text("UA"), 7), text);
    }

    #[test]
    fn folds_are_even_and_differ_by_seed() {
        let mut counts = [0; 3];
        let mut moved = 0;
        for day in 0..30_000 {
            let fold = fold_of(FoldKey::Number(day), 42, 3);
            counts[fold as usize] += 1;
            moved += u32::from(fold != fold_of(FoldKey::Number(day), 43, 3));
        }
        assert!(counts.iter().all(|c| (9_700..10_300).contains(c)), "{counts:?}");
        assert!((19_500..20_500).contains(&moved), "{moved}");
        assert_eq!(fold_of(FoldKey::Number(5), 1, 0), 0);
    }

    #[tokio::test]
    async fn the_sql_function_is_the_same_formula() {
        let ctx = SessionContext::new();
        scalar_udfs().into_iter().for_each(|f| ctx.register_udf(f.as_ref().clone()));
        let batch = RecordBatch::try_from_iter([
            ("day", Arc::new(Date32Array::from(vec![Some(15_706), None])) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec![Some("a longer name"), Some("")])) as ArrayRef),
        ])
        .unwrap();
        ctx.register_batch("t", batch).unwrap();
        let sql = "select fold_hash(day, 42), fold_hash(name, 42), fold_hash(7, 42), \
                   fold_hash(arrow_cast(name, 'Utf8View'), 42) from t";
        let out = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let column = |i: usize| out[0].column(i).as_primitive::<UInt64Type>().values().to_vec();
        assert_eq!(column(0), [fold_hash(FoldKey::Number(15_706), 42), fold_hash(FoldKey::Null, 42)]);
        assert_eq!(column(1), [fold_hash(FoldKey::Text("a longer name"), 42), fold_hash(FoldKey::Text(""), 42)]);
        assert_eq!(column(1), column(3));
        assert_eq!(column(2)[0], fold_hash(FoldKey::Number(7), 42));
        let error = ctx.sql("select fold_hash(1.5, 42)").await.unwrap_err().to_string();
        assert!(error.contains("a whole number, a date or text"), "{error}");
    }
}
