//! `tidemill_shift_scale(v, shifts, scales, offsets)`: each element as `(x - shift) * scale + offset`.
//!
//! The three are literal lists with a number for each element. With a scale of 0 an element is its offset whatever it
//! was, but for NaN, which stays; an offset of 0 is not added. Null stays null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, ScalarUDF};

use super::{Arguments, VectorFunction, Vectors, coerce_vector, number_list, numbers_of, same_size};

const NAME: &str = "tidemill_shift_scale";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    VectorFunction { name: NAME, coerce, returns: same_size, evaluate }.udf()
}

/// A call of the function.
pub(crate) fn shift_scale(v: Expr, shifts: &[f64], scales: &[f64], offsets: &[f64]) -> Expr {
    udf().call(vec![v, number_list(shifts), number_list(scales), number_list(offsets)])
}

fn coerce(arg_types: &[DataType]) -> Result<Vec<DataType>> {
    match arg_types {
        [v, _, _, _] => Ok([coerce_vector(NAME, v)?].into_iter().chain(arg_types[1..].iter().cloned()).collect()),
        _ => plan_err!("{NAME} takes a vector and three literal lists, got {} arguments", arg_types.len()),
    }
}

fn evaluate(args: &Arguments) -> Result<ArrayRef> {
    let array = args.column(0)?;
    let vectors = Vectors::of(&array)?;
    let list = |index| args.literal(index).and_then(numbers_of).filter(|numbers| numbers.len() == vectors.size());
    let (Some(shifts), Some(scales), Some(offsets)) = (list(1), list(2), list(3)) else {
        return plan_err!("{NAME}: shifts, scales and offsets are literal lists of {} numbers", vectors.size());
    };
    let mut elements = Vec::with_capacity(array.len() * vectors.size());
    for row in vectors.rows() {
        let scaling = shifts.iter().zip(&scales).zip(&offsets);
        elements.extend(row.iter().zip(scaling).map(|(&x, ((shift, &scale), &offset))| {
            if scale == 0.0 {
                return if x.is_nan() { x } else { offset };
            }
            let scaled = (x - shift) * scale;
            if offset == 0.0 { scaled } else { scaled + offset }
        }));
    }
    vectors.with_elements(elements, vectors.size())
}
