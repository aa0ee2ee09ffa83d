//! `tidemill_yeo_johnson(x, lambda)`: a number stretched or squeezed so that its distribution is closer to a normal
//! one.
//!
//! With `λ`, a number from 0 on becomes `((x + 1)^λ - 1) / λ`, or `ln(x + 1)` where `λ` is 0; one below 0 becomes
//! `-((1 - x)^(2 - λ) - 1) / (2 - λ)`, or `-ln(1 - x)` where `λ` is 2 (Yeo and Johnson, A new family of power
//! transformations to improve normality or symmetry, Biometrika 87, 2000). It ascends with `x`, and 1 changes nothing.
//! Null stays null and NaN stays NaN. `lambda` is a literal.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

const NAME: &str = "tidemill_yeo_johnson";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(YeoJohnson {
        signature: Signature::exact(vec![DataType::Float64; 2], Volatility::Immutable),
    }))
}

/// A call of the function.
pub(crate) fn yeo_johnson(x: Expr, lambda: f64) -> Expr {
    udf().call(vec![x, lit(lambda)])
}

/// The transformed number.
pub(super) fn transformed(x: f64, lambda: f64) -> f64 {
    if x >= 0.0 { power(x.ln_1p(), lambda) } else { -power((-x).ln_1p(), 2.0 - lambda) }
}

/// `(e^(exponent · log) - 1) / exponent`, and its limit `log` at 0.
pub(super) fn power(log: f64, exponent: f64) -> f64 {
    if exponent == 0.0 { log } else { (exponent * log).exp_m1() / exponent }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct YeoJohnson {
    signature: Signature,
}

impl ScalarUDFImpl for YeoJohnson {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [x, ColumnarValue::Scalar(ScalarValue::Float64(Some(lambda)))] = args.args.as_slice() else {
            return plan_err!("{NAME} takes a number and a literal, lambda");
        };
        let x: ArrayRef = x.to_array(args.number_rows)?;
        let Some(numbers) = x.as_primitive_opt::<Float64Type>() else {
            return exec_err!("{NAME} takes Float64, got {}", x.data_type());
        };
        let transformed: Float64Array = numbers.unary(|x| transformed(x, *lambda));
        Ok(ColumnarValue::Array(Arc::new(transformed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_scipy() {
        // scipy.stats.yeojohnson(x, lmbda) of scipy 1.17.1.
        let expected = [
            (-3.5, -1.5, -54.94437608767784),
            (-3.5, 0.0, -9.625000000000002),
            (-3.5, 0.3, -6.997756211014431),
            (-3.5, 2.0, -1.5040773967762742),
            (-3.5, 3.25, -0.6779397248055041),
            (-0.001, -1.5, -0.001001250625078117),
            (-0.001, 0.0, -0.0010005),
            (-0.001, 0.3, -0.0010003499650113698),
            (-0.001, 2.0, -0.0009995003330835331),
            (-0.001, 3.25, -0.0009988762174564364),
            (0.0, -1.5, 0.0),
            (0.0, 0.0, 0.0),
            (0.0, 0.3, 0.0),
            (0.0, 2.0, 0.0),
            (0.0, 3.25, 0.0),
            (0.25, -1.5, 0.18963883146671157),
            (0.25, 0.0, 0.22314355131420976),
            (0.25, 0.3, 0.23078199997062676),
            (0.25, 2.0, 0.28125),
            (0.25, 3.25, 0.3277471535099545),
            (12.0, -1.5, 0.6524435847121736),
            (12.0, 0.0, 2.5649493574615367),
            (12.0, 0.3, 3.8621794814052657),
            (12.0, 2.0, 84.0),
            (12.0, 3.25, 1283.3006590426849),
        ];
        for (x, lambda, y) in expected {
            assert!((transformed(x, lambda) - y).abs() <= 1e-14 * y.abs().max(1e-3), "{x} {lambda}");
        }
    }

    #[test]
    fn limits_are_met() {
        for x in [-7.5, -0.25, 0.0, 0.5, 30.0] {
            assert!((transformed(x, 1.0) - x).abs() <= 1e-14 * x.abs());
            for (special, near) in [(0.0, 1e-12), (2.0, 2.0 - 1e-12)] {
                let limit = transformed(x, special);
                assert!((limit - transformed(x, near)).abs() <= 1e-10 * limit.abs().max(1.0));
            }
        }
        assert!(transformed(f64::NAN, 0.5).is_nan());
        assert_eq!(transformed(f64::INFINITY, -2.0), 0.5);
        assert_eq!(transformed(f64::NEG_INFINITY, 0.5), f64::NEG_INFINITY);
    }
}
