//! `tidemill_n_grams(tokens, n, stage, column)`: each `n` tokens that follow one another, with a blank between them.
//!
//! A list of fewer than `n` tokens gives an empty list, a null token is the text `null`, and a null list fails, naming
//! stage and column. All arguments but the list are literals.

use std::sync::Arc;

use arrow::array::{Array, AsArray, ListArray, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::support;

const NAME: &str = "tidemill_n_grams";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(NGrams { signature: Signature::any(4, Volatility::Immutable) }))
}

/// A call of the function.
pub(crate) fn n_grams(tokens: Expr, n: u32, stage: &str, column: &str) -> Expr {
    udf().call(vec![tokens, lit(i64::from(n)), lit(stage), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NGrams {
    signature: Signature,
}

impl ScalarUDFImpl for NGrams {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(support::tokens_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [tokens, n, stage, column] = args.args.as_slice() else {
            return plan_err!("{NAME} takes a list and three literals: n, stage and column");
        };
        let Some(n) = support::count_literal(n).filter(|n| *n > 0) else {
            return plan_err!("{NAME}: n is a literal of at least 1");
        };
        let lists = support::present(tokens, args.number_rows, &support::tokens_type(), stage, column)?;
        Ok(ColumnarValue::Array(Arc::new(joined(lists.as_list(), n))))
    }
}

fn joined(lists: &ListArray, n: usize) -> ListArray {
    let tokens: &StringArray = lists.values().as_string();
    let token = |i: usize| if tokens.is_null(i) { "null" } else { tokens.value(i) };
    let mut grams = ListBuilder::new(StringBuilder::new());
    let mut gram = String::new();
    for bounds in lists.offsets().windows(2) {
        let (start, end) = (bounds[0] as usize, bounds[1] as usize);
        for first in start..(end + 1).saturating_sub(n) {
            gram.clear();
            gram.push_str(token(first));
            for next in first + 1..first + n {
                gram.push(' ');
                gram.push_str(token(next));
            }
            grams.values().append_value(&gram);
        }
        grams.append(true);
    }
    grams.finish()
}
