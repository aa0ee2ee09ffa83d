//! `category_counts(x [, include])`: how often each value comes, exactly, sorted by value.
//!
//! Values are read as text; nulls, and rows for which `include` is not true, are left out. The result is a list of
//! structs `value, count` in ascending byte order of the values, or null for a column of more than [`MAX_CATEGORIES`]
//! distinct values.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
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
            [_] => Ok(vec![DataType::Utf8]),
            [_, include] => {
                support::check_condition(NAME, include)?;
                Ok(vec![DataType::Utf8, DataType::Boolean])
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
        Ok(Box::new(CountsAccumulator { counts: Some(HashMap::new()), bytes: 0 }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
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
        let Some(strings) = values.first().and_then(|v| v.as_string_opt::<i32>()) else {
            return exec_err!(
                "{NAME}: expected a Utf8 column, got {:?}",
                values.first().map(|v| v.data_type().clone())
            );
        };
        match support::condition(values) {
            None => strings.iter().flatten().for_each(|value| self.add(value, 1)),
            Some(include) => {
                let included = strings.iter().zip(include).filter(|(_, include)| *include == Some(true));
                included.filter_map(|(value, _)| value).for_each(|value| self.add(value, 1));
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
