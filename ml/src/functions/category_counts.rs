//! `category_counts(x [, include])`: how often each value comes, exactly, sorted by value.
//!
//! Values are read as text, those of a dictionary once for each batch; nulls, and rows for which `include` is not true,
//! are left out. The result is a list of structs `value, count` in ascending byte order of the values, or null for a
//! column of more than [`MAX_CATEGORIES`] distinct values.

use std::sync::Arc;

use arrow::array::{AnyDictionaryArray, Array, ArrayRef, AsArray, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion::common::{HashMap, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature};

use super::support;

/// Distinct values that are counted: what an encoder's labels may grow to and still travel inside a plan.
pub const MAX_CATEGORIES: usize = 50_000;

const NAME: &str = "category_counts";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(CategoryCounts { signature: support::own_coercion() }))
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
    match value {
        ScalarValue::List(list) => pairs_of(list, 0),
        other => exec_err!("expected the list that {NAME} gives, got {}", other.data_type()),
    }
}

fn pairs_of(list: &ListArray, row: usize) -> Result<Option<Vec<(String, u64)>>> {
    if list.is_null(row) {
        return Ok(None);
    }
    let entries = list.value(row);
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

#[derive(Debug, PartialEq, Eq, Hash)]
struct CategoryCounts {
    signature: Signature,
}

impl AggregateUDFImpl for CategoryCounts {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [x] => Ok(vec![counted_type(x)]),
            [x, include] => {
                support::check_condition(NAME, include)?;
                Ok(vec![counted_type(x), DataType::Boolean])
            }
            _ => plan_err!("{NAME} takes a column and, if wanted, a condition, got {} arguments", arg_types.len()),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(list_field()))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format_state_name(args.name, "counts");
        Ok(vec![Arc::new(Field::new(name, DataType::List(list_field()), true))])
    }

    fn accumulator(&self, _args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(CountsAccumulator { counts: Some(HashMap::default()), bytes: 0 }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The type that values are counted in: text, or a dictionary of text.
fn counted_type(x: &DataType) -> DataType {
    match x {
        DataType::Dictionary(_, values) if **values == DataType::Utf8 => x.clone(),
        _ => DataType::Utf8,
    }
}

/// Counts by value; none once there are too many.
#[derive(Debug)]
struct CountsAccumulator {
    counts: Option<HashMap<String, u64>>,
    bytes: usize,
}

impl CountsAccumulator {
    fn add(&mut self, value: &str, count: u64) {
        let Some(counts) = &mut self.counts else {
            return;
        };
        if let Some(sum) = counts.get_mut(value) {
            *sum += count;
            return;
        }
        self.bytes += value.len();
        counts.insert(value.to_owned(), count);
        if counts.len() > MAX_CATEGORIES {
            self.counts = None;
        }
    }

    fn add_dictionary(
        &mut self,
        dictionary: &dyn AnyDictionaryArray,
        is_included: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let Some(values) = dictionary.values().as_string_opt::<i32>() else {
            return exec_err!("{NAME}: expected a dictionary of Utf8, got one of {}", dictionary.values().data_type());
        };
        if values.is_empty() {
            return Ok(()); // all keys are null
        }
        let mut counts = vec![0; values.len()];
        for (row, key) in dictionary.normalized_keys().into_iter().enumerate() {
            counts[key] += u64::from(dictionary.keys().is_valid(row) && is_included(row));
        }
        for (value, count) in values.iter().zip(counts) {
            if let Some(value) = value.filter(|_| count > 0) {
                self.add(value, count);
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<ScalarValue> {
        let Some(counts) = &self.counts else {
            return Ok(ScalarValue::List(Arc::new(ListArray::new_null(list_field(), 1))));
        };
        let mut pairs: Vec<(&str, u64)> = counts.iter().map(|(v, &n)| (v.as_str(), n)).collect();
        pairs.sort_unstable();
        let values: StringArray = pairs.iter().map(|(v, _)| Some(*v)).collect();
        let counts: Int64Array = pairs.iter().map(|(_, n)| *n as i64).collect::<Vec<_>>().into();
        let columns: Vec<ArrayRef> = vec![Arc::new(values), Arc::new(counts)];
        let entries = StructArray::try_new(entry_fields(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths([entries.len()]);
        let list = ListArray::try_new(list_field(), offsets, Arc::new(entries), None)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }
}

impl Accumulator for CountsAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let include = support::condition(values);
        let is_included = |row: usize| include.is_none_or(|include| include.is_valid(row) && include.value(row));
        let Some(column) = values.first() else {
            return exec_err!("{NAME}: expected a column");
        };
        if let Some(dictionary) = column.as_any_dictionary_opt() {
            return self.add_dictionary(dictionary, is_included);
        }
        let Some(strings) = column.as_string_opt::<i32>() else {
            return exec_err!("{NAME}: expected a Utf8 column, got {}", column.data_type());
        };
        for (row, value) in strings.iter().enumerate() {
            if let Some(value) = value.filter(|_| is_included(row)) {
                self.add(value, 1);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(lists) = states.first().and_then(|v| v.as_list_opt::<i32>()) else {
            return support::damaged(NAME);
        };
        for row in 0..lists.len() {
            match pairs_of(lists, row)? {
                Some(pairs) => pairs.iter().for_each(|(value, count)| self.add(value, *count)),
                None => self.counts = None,
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.list()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.list()
    }

    fn size(&self) -> usize {
        let entries = self.counts.as_ref().map_or(0, HashMap::capacity);
        size_of::<Self>() + self.bytes + entries * (size_of::<String>() + 9)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, DictionaryArray, Int8Array};

    use super::*;

    fn counts(values: &[ArrayRef]) -> Vec<(String, u64)> {
        let mut accumulator = CountsAccumulator { counts: Some(HashMap::default()), bytes: 0 };
        accumulator.update_batch(values).unwrap();
        from_scalar(&accumulator.evaluate().unwrap()).unwrap().unwrap()
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
