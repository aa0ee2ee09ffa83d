//! Key and time as one number. Sorting by one column of numbers compares integers and merges few runs; sorting by
//! several columns compares bytes of rows and merges a run for each batch.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, UInt64Type};
use datafusion::common::{Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::time::{place, units};

const NAME: &str = "tidemill_asof_order";
/// Sorts of one column make runs of so many bytes and merge those.
const RUN_BYTES: usize = 64 << 20;
/// The options that the function does not look at, the same for all calls: calls are compared by them.
static NO_OPTIONS: LazyLock<Arc<ConfigOptions>> = LazyLock::new(Arc::default);

/// `tidemill_asof_order(key, time)`: a number by which rows order as by key and time, null where one of them is null or
/// the time is NaN. The key is an integer, boolean, date or time, the time one of these or a floating point number.
fn udf() -> Arc<ScalarUDF> {
    static UDF: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(ScalarUDF::from(AsofOrder { signature: Signature::any(2, Volatility::Immutable) })));
    Arc::clone(&UDF)
}

/// The number of these columns; none where their types have no such number.
pub(super) fn order(
    schema: &Schema,
    key: Arc<dyn PhysicalExpr>,
    time: Arc<dyn PhysicalExpr>,
) -> Option<Arc<dyn PhysicalExpr>> {
    let (of_key, of_time) = (key.data_type(schema).ok()?, time.data_type(schema).ok()?);
    if !is_whole(&of_key) || !(is_whole(&of_time) || of_time.is_floating()) {
        return None;
    }
    let call = ScalarFunctionExpr::try_new(udf(), vec![key, time], schema, Arc::clone(&NO_OPTIONS));
    call.ok().map(|call| Arc::new(call) as _)
}

/// A context in which sorts of one column make long runs.
pub(super) fn with_long_runs(ctx: &TaskContext) -> Arc<TaskContext> {
    let mut config = ctx.session_config().clone();
    config.options_mut().execution.sort_in_place_threshold_bytes = RUN_BYTES;
    Arc::new(TaskContext::new(
        ctx.task_id(),
        ctx.session_id(),
        config,
        ctx.scalar_functions().clone(),
        ctx.higher_order_functions().clone(),
        ctx.aggregate_functions().clone(),
        ctx.window_functions().clone(),
        ctx.runtime_env(),
    ))
}

/// Whether a type's values are integers of at most 64 bits.
pub(super) fn is_whole(data_type: &DataType) -> bool {
    use DataType::{Boolean, Date32, Date64, Duration, Time32, Time64, Timestamp};
    let is_time = matches!(data_type, Date32 | Date64 | Timestamp(..) | Time32(_) | Time64(_) | Duration(_));
    data_type.is_integer() || is_time || *data_type == Boolean
}

/// The places of values in the order of their type, as integers that are not negative.
fn places(array: &ArrayRef) -> Result<Vec<Option<u64>>> {
    let from_signed = |v: i64| v.cast_unsigned() ^ (1 << 63);
    Ok(match array.data_type() {
        DataType::UInt64 => array.as_primitive::<UInt64Type>().iter().collect(),
        t if t.is_floating() => {
            let reals = cast(array, &DataType::Float64)?;
            let reals = reals.as_primitive::<Float64Type>().iter();
            reals.map(|v| v.filter(|v| !v.is_nan()).map(|v| from_signed(place(v) as i64))).collect()
        }
        _ => units(array)?.as_primitive::<Int64Type>().iter().map(|v| v.map(from_signed)).collect(),
    })
}

/// The numbers of rows. The type's precision is for people: arrays hold any 128 bits.
fn numbers(key: &ArrayRef, time: &ArrayRef) -> Result<Decimal128Array> {
    let number = |(key, time): (Option<u64>, Option<u64>)| {
        let number = u128::from(key?) << 64 | u128::from(time?);
        Some((number ^ (1 << 127)).cast_signed())
    };
    let numbers: Decimal128Array = places(key)?.into_iter().zip(places(time)?).map(number).collect();
    Ok(numbers.with_precision_and_scale(38, 0)?)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AsofOrder {
    signature: Signature,
}

impl ScalarUDFImpl for AsofOrder {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(38, 0))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [key, time] = args.args.as_slice() else {
            return plan_err!("{NAME} takes a key and a time, got {} arguments", args.args.len());
        };
        let (key, time) = (key.to_array(args.number_rows)?, time.to_array(args.number_rows)?);
        Ok(ColumnarValue::Array(Arc::new(numbers(&key, &time)?)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, BooleanArray, Float64Array, Int32Array, TimestampMicrosecondArray, UInt64Array};
    use arrow::compute::{SortOptions, sort_to_indices};
    use arrow::row::{RowConverter, SortField};

    use super::*;

    /// Every pair of a key and a time orders by the number as by the two columns.
    fn check(keys: &ArrayRef, times: &ArrayRef) {
        let pairs: Vec<(u32, u32)> =
            (0..keys.len() as u32).flat_map(|k| (0..times.len() as u32).map(move |t| (k, t))).collect();
        let taken = |array: &ArrayRef, of: fn(&(u32, u32)) -> u32| {
            let rows: arrow::array::UInt32Array = pairs.iter().map(of).collect::<Vec<_>>().into();
            arrow::compute::take(array, &rows, None).unwrap()
        };
        let (keys, times) = (taken(keys, |p| p.0), taken(times, |p| p.1));
        let ascending = SortOptions { descending: false, nulls_first: false };
        let order = sort_to_indices(&numbers(&keys, &times).unwrap(), Some(ascending), None).unwrap();
        let field = |array: &ArrayRef| SortField::new_with_options(array.data_type().clone(), ascending);
        let converter = RowConverter::new(vec![field(&keys), field(&times)]).unwrap();
        let rows = converter.convert_columns(&[Arc::clone(&keys), Arc::clone(&times)]).unwrap();
        let is_there = |i: &usize| keys.is_valid(*i) && times.is_valid(*i);
        let order: Vec<usize> = order.values().iter().map(|i| *i as usize).filter(is_there).collect();
        assert!(order.windows(2).all(|pair| rows.row(pair[0]) <= rows.row(pair[1])), "{keys:?} {times:?}");
    }

    #[test]
    fn rows_order_as_by_key_and_time() {
        let keys: [ArrayRef; 3] = [
            Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(-1), None, Some(0), Some(7), Some(i32::MAX)])),
            Arc::new(UInt64Array::from(vec![0, 1, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX])),
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ];
        let times: [ArrayRef; 3] = [
            Arc::new(TimestampMicrosecondArray::from(vec![Some(i64::MIN), Some(-5), None, Some(0), Some(i64::MAX)])),
            Arc::new(Float64Array::from(vec![Some(f64::NEG_INFINITY), Some(-0.5), Some(0.0), None, Some(1e300)])),
            Arc::new(Int32Array::from(vec![3, -3, 0])),
        ];
        for key in &keys {
            times.iter().for_each(|time| check(key, time));
        }
    }

    #[test]
    fn nan_is_no_time() {
        let key: ArrayRef = Arc::new(Int32Array::from(vec![1, 1]));
        let time: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 1.0]));
        let found = numbers(&key, &time).unwrap();
        assert!(found.is_null(0) && found.is_valid(1));
    }
}
