//! `tidemill_remove_words(tokens, words, case_sensitive, stage, column)`: a list of text without some words.
//!
//! Without `case_sensitive` a token is left out where it is one of the words in lower case; the words are then expected
//! in lower case. Null tokens stay; a null list fails, naming stage and column. All arguments but the list are literals.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, ListArray, StringArray};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::compute::{cast, filter};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::support;

const NAME: &str = "tidemill_remove_words";

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(RemoveWords { signature: Signature::any(5, Volatility::Immutable) }))
}

/// A call of the function.
pub(crate) fn remove_words(tokens: Expr, words: &[String], case_sensitive: bool, stage: &str, column: &str) -> Expr {
    let word = |word: &String| if case_sensitive { word.clone() } else { word.to_lowercase() };
    let words = support::text_list(words.iter().map(word));
    udf().call(vec![tokens, words, lit(case_sensitive), lit(stage), lit(column)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RemoveWords {
    signature: Signature,
}

impl ScalarUDFImpl for RemoveWords {
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
        let [tokens, ColumnarValue::Scalar(ScalarValue::List(words)), case_sensitive, stage, column] =
            args.args.as_slice()
        else {
            return plan_err!("{NAME} takes a list and four literals: words, case_sensitive, stage and column");
        };
        let Some(case_sensitive) = support::flag_literal(case_sensitive) else {
            return plan_err!("{NAME}: case_sensitive is a literal, true or false");
        };
        let lists = support::present(tokens, args.number_rows, &support::tokens_type(), stage, column)?;
        let words = cast(&words.value(0), &DataType::Utf8)?;
        let words: HashSet<&str> = words.as_string::<i32>().iter().flatten().collect();
        let is_kept = |token: &str| match case_sensitive || is_lower_ascii(token) {
            true => !words.contains(token),
            false => !words.contains(token.to_lowercase().as_str()),
        };
        Ok(ColumnarValue::Array(Arc::new(filtered(lists.as_list(), is_kept)?)))
    }
}

fn is_lower_ascii(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

fn filtered(lists: &ListArray, is_kept: impl Fn(&str) -> bool) -> Result<ListArray> {
    let tokens: &StringArray = lists.values().as_string();
    let kept: BooleanBuffer = tokens.iter().map(|token| token.is_none_or(&is_kept)).collect();
    // A sliced array has values outside its lists.
    let bounds = lists.offsets();
    let (first, end) = (bounds[0] as usize, bounds[lists.len()] as usize);
    let lengths = bounds.windows(2).map(|w| kept.slice(w[0] as usize, (w[1] - w[0]) as usize).count_set_bits());
    let offsets = OffsetBuffer::from_lengths(lengths);
    let kept = BooleanArray::new(kept.slice(first, end - first), None);
    let values = filter(&tokens.slice(first, end - first), &kept)?;
    Ok(ListArray::try_new(support::token_field(), offsets, values, None)?)
}
