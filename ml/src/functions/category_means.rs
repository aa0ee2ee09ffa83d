//! `category_means(x, y [, include])`: how often each value of `x` comes and the mean of `y` there, exactly.
//!
//! Values are read as text; null is a value of its own. Rows whose `y` is null or NaN, or for which `include` is not
//! true, are left out. The result is a list of structs `value, count, mean`, null first and then in ascending byte order
//! of the values, or null for a column of more than [`MAX_CATEGORIES`] distinct values. Each mean is rounded once,
//! whatever the order and partitioning of the rows; infinities as in [`ExactMoments`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr};

use super::aggregate::{self, Aggregate};
use super::category_counts::MAX_CATEGORIES;
use super::exact::{ExactMoments, take};
use super::support;
use super::text_map::TextMap;

const NAME: &str = "category_means";
/// What a category's exact sum mostly takes, in bytes.
const BYTES_PER_SUM: usize = 1 << 10;

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<CategoryMeans>()
}

/// A call of the function.
pub fn category_means(x: Expr, y: Expr) -> Expr {
    udaf().call(vec![x, y])
}

/// One value of a column.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryMean {
    /// The value; none is null.
    pub value: Option<String>,
    /// How often it comes.
    pub count: u64,
    /// The mean of the other column where it does.
    pub mean: f64,
}

/// Reads the function's result, sorted by value; none when there are too many of them.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<Option<Vec<CategoryMean>>> {
    let ScalarValue::List(list) = value else {
        return exec_err!("expected the list that {NAME} gives, got {}", value.data_type());
    };
    if list.is_null(0) {
        return Ok(None);
    }
    let entries = list.value(0);
    let Some([values, counts, means]) = entries.as_struct_opt().map(StructArray::columns) else {
        return support::damaged(NAME);
    };
    let (Some(values), Some(counts), Some(means)) = (
        values.as_string_opt::<i32>(),
        counts.as_primitive_opt::<Int64Type>(),
        means.as_primitive_opt::<Float64Type>(),
    ) else {
        return support::damaged(NAME);
    };
    let numbers = counts.values().iter().zip(means.values());
    let mean = |(value, (&count, &mean)): (Option<&str>, (&i64, &f64))| CategoryMean {
        value: value.map(str::to_owned),
        count: count as u64,
        mean,
    };
    Ok(Some(values.iter().zip(numbers).map(mean).collect()))
}

fn entry_fields() -> Fields {
    Fields::from(vec![
        Field::new("value", DataType::Utf8, true),
        Field::new("count", DataType::Int64, false),
        Field::new("mean", DataType::Float64, false),
    ])
}

fn list_field() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(entry_fields()), true))
}

/// Sums by value; none once there are too many.
#[derive(Debug)]
struct CategoryMeans(Option<Sums>);

#[derive(Debug, Default)]
struct Sums {
    of_values: TextMap<SumOf>,
    of_null: Option<SumOf>,
}

#[derive(Debug)]
struct SumOf(ExactMoments);

impl Default for SumOf {
    fn default() -> Self {
        Self(ExactMoments::without_squares())
    }
}

impl Sums {
    fn sorted(&mut self) -> impl Iterator<Item = (Option<String>, &mut ExactMoments)> {
        let values = self.of_values.sorted().into_iter().map(|(value, sum)| (Some(value), &mut sum.0));
        self.of_null.iter_mut().map(|sum| (None, &mut sum.0)).chain(values)
    }
}

impl CategoryMeans {
    /// The sum of a value, unless there are too many.
    fn sum_of(&mut self, value: Option<&str>) -> Option<&mut ExactMoments> {
        let sums = self.0.as_mut()?;
        if sums.of_values.len() == MAX_CATEGORIES && value.is_some_and(|value| sums.of_values.get(value).is_none()) {
            self.0 = None;
        }
        let sums = self.0.as_mut()?;
        Some(match value {
            Some(value) => &mut sums.of_values.get_or_default(value).0,
            None => &mut sums.of_null.get_or_insert_default().0,
        })
    }
}

impl Aggregate for CategoryMeans {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (y, include) = match arg_types {
            [_, y] => (y, None),
            [_, y, include] => (y, Some(include)),
            _ => return plan_err!("{NAME} takes a column and a number, got {} arguments", arg_types.len()),
        };
        support::check_number(NAME, y)?;
        include.map_or(Ok(()), |include| support::check_condition(NAME, include))?;
        let types = [DataType::Utf8, DataType::Float64, DataType::Boolean];
        Ok(types.into_iter().take(arg_types.len()).collect())
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::List(list_field())
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self(Some(Sums::default())))
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (Some(texts), Some(numbers)) = (
            values.first().and_then(|v| v.as_string_opt::<i32>()),
            values.get(1).and_then(|v| v.as_primitive_opt::<Float64Type>()),
        ) else {
            return exec_err!("{NAME}: expected a Utf8 and a Float64 column");
        };
        let include = values.get(2).and_then(|v| v.as_boolean_opt());
        for (row, (text, number)) in texts.iter().zip(numbers).enumerate() {
            let is_there = |number: &f64| !number.is_nan() && support::is_included(include, row);
            let Some(number) = number.filter(is_there) else { continue };
            if let Some(sum) = self.sum_of(text) {
                sum.add(number);
            }
        }
        Ok(())
    }

    /// Nothing when there are too many values, else a 1 and for each value whether it is a text, the text, and the sum,
    /// these two after their lengths.
    fn to_bytes(&mut self) -> Vec<u8> {
        let Some(sums) = &mut self.0 else { return Vec::new() };
        let mut bytes = vec![1];
        for (value, sum) in sums.sorted() {
            bytes.push(u8::from(value.is_some()));
            support::put_text(&mut bytes, value.as_deref().unwrap_or(""));
            let sum = sum.state_bytes();
            bytes.extend((sum.len() as u32).to_le_bytes());
            bytes.extend(sum);
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
            let [is_text] = take(bytes)?;
            let text = support::take_text(bytes)?;
            let sum = support::take_part(bytes)?;
            if let Some(into) = self.sum_of((is_text == 1).then_some(text)) {
                into.merge(sum)?;
            }
        }
        Some(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(sums) = &mut self.0 else {
            return Ok(ScalarValue::List(Arc::new(ListArray::new_null(list_field(), 1))));
        };
        let (values, moments): (Vec<Option<String>>, Vec<_>) =
            sums.sorted().map(|(value, sum)| (value, sum.moments())).unzip();
        let counts: Vec<i64> = moments.iter().map(|m| m.count as i64).collect();
        let means: Vec<f64> = moments.iter().map(|m| m.mean.unwrap_or(f64::NAN)).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(values)),
            Arc::new(Int64Array::from(counts)),
            Arc::new(Float64Array::from(means)),
        ];
        let entries = StructArray::try_new(entry_fields(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths([entries.len()]);
        let list = ListArray::try_new(list_field(), offsets, Arc::new(entries), None)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }

    fn size(&self) -> usize {
        let sums = self.0.as_ref().map_or(0, |s| s.of_values.heap_bytes() + s.of_values.len() * BYTES_PER_SUM);
        size_of::<Self>() + sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accumulator() -> CategoryMeans {
        CategoryMeans(Some(Sums::default()))
    }

    fn add(means: &mut CategoryMeans, rows: &[(Option<&str>, Option<f64>)]) {
        let texts: StringArray = rows.iter().map(|(text, _)| *text).collect();
        let numbers: Float64Array = rows.iter().map(|(_, number)| *number).collect();
        means.update(&[Arc::new(texts), Arc::new(numbers)]).unwrap();
    }

    #[test]
    fn merging_parts_is_adding_all() {
        let rows = [
            (Some("b"), Some(0.1)),
            (None, Some(4.0)),
            (Some("b"), Some(0.2)),
            (Some("a"), Some(1e300)),
            (Some("b"), None),
            (Some("b"), Some(f64::NAN)),
            (Some("a"), Some(-1e300)),
            (Some("b"), Some(0.3)),
        ];
        let mut all = accumulator();
        add(&mut all, &rows);
        let (mut left, mut right) = (accumulator(), accumulator());
        add(&mut left, &rows[..3]);
        add(&mut right, &rows[3..]);
        right.merge(&left.to_bytes()).unwrap();
        assert_eq!(right.to_bytes(), all.to_bytes());
        let means = from_scalar(&right.evaluate().unwrap()).unwrap().unwrap();
        let found: Vec<_> = means.iter().map(|m| (m.value.as_deref(), m.count, m.mean)).collect();
        assert_eq!(found, [(None, 1, 4.0), (Some("a"), 2, 0.0), (Some("b"), 3, 0.2)]);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let mut means = accumulator();
        add(&mut means, &[(Some("b"), Some(0.1))]);
        let bytes = means.to_bytes();
        assert!((2..bytes.len()).all(|len| accumulator().merge(&bytes[..len]).is_none()));
    }
}
