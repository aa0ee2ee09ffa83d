//! `category_counts(x [, include])`: how often each value comes, exactly, sorted by value.
//!
//! Values are read as text, those of a dictionary once for each batch; nulls, and rows for which `include` is not true,
//! are left out. The result is a list of structs `value, count` in ascending byte order of the values, or null for a
//! column of more than [`MAX_CATEGORIES`] distinct values.

use std::sync::Arc;

use arrow::array::{
    AnyDictionaryArray, Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr};

use super::aggregate::{self, Aggregate};
use super::exact::take;
use super::support;
use super::text_map::{TextKey, TextMap, Texts};

/// Distinct values that are counted: what an encoder's labels may grow to and still travel inside a plan.
pub const MAX_CATEGORIES: usize = 50_000;

const NAME: &str = "category_counts";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<CategoryCounts>()
}

/// A call of the function.
pub fn category_counts(x: Expr) -> Expr {
    udaf().call(vec![x])
}

/// Reads the function's result: values and counts, sorted by value; none when there are too many of them.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<Option<Vec<(String, u64)>>> {
    let ScalarValue::List(list) = value else {
        return exec_err!("expected the list that {NAME} gives, got {}", value.data_type());
    };
    if list.is_null(0) {
        return Ok(None);
    }
    let entries = list.value(0);
    let columns = entries.as_struct_opt().map(|entries| entries.columns());
    match columns.map(|c| (c[0].as_string_opt::<i32>(), c[1].as_primitive_opt::<Int64Type>())) {
        Some((Some(values), Some(counts))) => {
            let pair = |(value, &count): (Option<&str>, &i64)| (value.unwrap_or("").to_owned(), count as u64);
            Ok(Some(values.iter().zip(counts.values()).map(pair).collect()))
        }
        _ => support::damaged(NAME),
    }
}

fn entry_fields() -> Fields {
    Fields::from(vec![Field::new("value", DataType::Utf8, false), Field::new("count", DataType::Int64, false)])
}

fn list_field() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(entry_fields()), true))
}

/// The type that values are counted in: text, views of text, or a dictionary of text.
fn counted_type(x: &DataType) -> DataType {
    match x {
        DataType::Utf8View => DataType::Utf8View,
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => x.clone(),
        _ => DataType::Utf8,
    }
}

/// Counts by value; none once there are too many.
#[derive(Debug)]
struct CategoryCounts(Option<TextMap<u64>>);

impl CategoryCounts {
    fn add<'a>(&mut self, value: impl Into<TextKey<'a>>, count: u64) {
        let Some(counts) = &mut self.0 else { return };
        *counts.get_or_default(value) += count;
        if counts.len() > MAX_CATEGORIES {
            self.0 = None;
        }
    }

    fn add_dictionary(&mut self, dictionary: &dyn AnyDictionaryArray, include: Option<&BooleanArray>) -> Result<()> {
        let Some(values) = dictionary.values().as_string_opt::<i32>() else {
            return exec_err!("{NAME}: expected a dictionary of Utf8, got one of {}", dictionary.values().data_type());
        };
        if values.is_empty() {
            return Ok(()); // all keys are null
        }
        let mut counts = vec![0; values.len()];
        for (row, key) in dictionary.normalized_keys().into_iter().enumerate() {
            counts[key] += u64::from(dictionary.keys().is_valid(row) && support::is_included(include, row));
        }
        for (value, count) in values.iter().zip(counts) {
            if let Some(value) = value.filter(|_| count > 0) {
                self.add(value, count);
            }
        }
        Ok(())
    }
}

impl Aggregate for CategoryCounts {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [x] => Ok(vec![counted_type(x)]),
            [x, include] => {
                support::check_condition(NAME, include)?;
                Ok(vec![counted_type(x), DataType::Boolean])
            }
            _ => plan_err!("{NAME} takes a column and, if wanted, a condition, got {} arguments", arg_types.len()),
        }
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::List(list_field())
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self(Some(TextMap::default())))
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        let include = support::condition(values);
        let Some(column) = values.first() else {
            return exec_err!("{NAME}: expected a column");
        };
        if let Some(dictionary) = column.as_any_dictionary_opt() {
            return self.add_dictionary(dictionary, include);
        }
        let mut rows = 0..column.len();
        Texts::of(column)?.map::<(), ()>(|value| {
            let is_included = rows.next().is_some_and(|row| support::is_included(include, row));
            if let Some(value) = value.filter(|_| is_included) {
                self.add(value, 1);
            }
        });
        Ok(())
    }

    /// Nothing when there are too many values, else a 1 and each value with its count.
    fn to_bytes(&mut self) -> Vec<u8> {
        let Some(counts) = &mut self.0 else { return Vec::new() };
        let mut bytes = vec![1];
        for (value, count) in counts.sorted() {
            support::put_text(&mut bytes, &value);
            bytes.extend(count.to_le_bytes());
        }
        bytes
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            self.0 = None;
            return Some(());
        }
        let bytes = &mut bytes;
        let [_] = take(bytes)?;
        while !bytes.is_empty() {
            let value = support::take_text(bytes)?;
            self.add(value, u64::from_le_bytes(take(bytes)?));
        }
        Some(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(counts) = &mut self.0 else {
            return Ok(ScalarValue::List(Arc::new(ListArray::new_null(list_field(), 1))));
        };
        let pairs = counts.sorted();
        let values = StringArray::from_iter_values(pairs.iter().map(|(value, _)| value));
        let counts = Int64Array::from_iter_values(pairs.iter().map(|(_, count)| **count as i64));
        let columns: Vec<ArrayRef> = vec![Arc::new(values), Arc::new(counts)];
        let entries = StructArray::try_new(entry_fields(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths([entries.len()]);
        let list = ListArray::try_new(list_field(), offsets, Arc::new(entries), None)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.as_ref().map_or(0, TextMap::heap_bytes)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int8Array};

    use super::*;

    fn counts(values: &[ArrayRef]) -> Vec<(String, u64)> {
        let mut counts = CategoryCounts(Some(TextMap::default()));
        counts.update(values).unwrap();
        from_scalar(&counts.evaluate().unwrap()).unwrap().unwrap()
    }

    #[test]
    fn merging_parts_is_counting_all() {
        let texts = |texts: &[Option<&str>]| -> [ArrayRef; 1] { [Arc::new(StringArray::from(texts.to_vec()))] };
        let rows = [Some("b"), None, Some("a longer text than most"), Some(""), Some("b"), Some("ä")];
        let of = |rows: &[Option<&str>]| {
            let mut counts = CategoryCounts(Some(TextMap::default()));
            counts.update(&texts(rows)).unwrap();
            counts
        };
        let all = of(&rows).to_bytes();
        for cut in 0..=rows.len() {
            let mut right = of(&rows[cut..]);
            right.merge(&of(&rows[..cut]).to_bytes()).unwrap();
            assert_eq!(right.to_bytes(), all);
        }
        assert!(of(&[]).merge(&all[..all.len() - 1]).is_none());
        let mut none = of(&rows);
        none.merge(&[]).unwrap();
        assert_eq!(from_scalar(&none.evaluate().unwrap()).unwrap(), None);
    }

    #[test]
    fn a_dictionary_counts_as_its_text() {
        // "b" comes twice in the dictionary, "unused" never in the rows, and null as a key and as a value.
        let values = StringArray::from(vec![Some("b"), Some("a"), Some("b"), Some("unused"), None]);
        let keys = Int8Array::from(vec![Some(0), Some(1), Some(2), None, Some(4), Some(0)]);
        let dictionary: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(values)));
        let text = arrow::compute::cast(&dictionary, &DataType::Utf8).unwrap();
        let expected = [("a".to_owned(), 1), ("b".to_owned(), 3)];
        assert_eq!(counts(&[Arc::clone(&dictionary)]), expected);
        assert_eq!(counts(&[Arc::clone(&text)]), expected);

        let include = BooleanArray::from(vec![Some(true), Some(false), None, Some(true), Some(true), Some(true)]);
        let include: ArrayRef = Arc::new(include);
        let expected = [("b".to_owned(), 2)];
        assert_eq!(counts(&[dictionary, Arc::clone(&include)]), expected);
        assert_eq!(counts(&[text, include]), expected);
    }

    #[test]
    fn a_dictionary_of_nothing_has_no_counts() {
        let keys = Int8Array::from(vec![None, None]);
        let dictionary = DictionaryArray::new(keys, Arc::new(StringArray::from(Vec::<&str>::new())));
        assert_eq!(counts(&[Arc::new(dictionary)]), []);
    }
}
