//! `tidemill_regex_tokens(text, pattern, gaps, min_token_length, stage, column)`: a text's tokens, as a list.
//!
//! With `gaps` the tokens are what lies between matches of the pattern, as Java's `Pattern.split` cuts it: an empty
//! token at the front stays, empty ones at the end go, a text without a match is one token. Otherwise they are the
//! matches. Tokens of fewer UTF-16 units than `min_token_length` are left out. A null fails, naming stage and column.
//!
//! All arguments but the text are literals. The pattern is compiled once for each batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use regex::{Match, Regex};

use super::support;

const NAME: &str = "tidemill_regex_tokens";

/// Which tokens are taken out of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenRule<'a> {
    pub(crate) pattern: &'a str,
    /// Whether the pattern matches what lies between tokens.
    pub(crate) gaps: bool,
    /// In UTF-16 units, as Java counts.
    pub(crate) min_token_length: u32,
}

/// The function.
pub fn udf() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(RegexTokens { signature: Signature::any(6, Volatility::Immutable) }))
}

/// A call of the function.
pub(crate) fn regex_tokens(text: Expr, rule: TokenRule<'_>, stage: &str, column: &str) -> Expr {
    let rule = [lit(rule.pattern), lit(rule.gaps), lit(i64::from(rule.min_token_length))];
    udf().call([text].into_iter().chain(rule).chain([lit(stage), lit(column)]).collect())
}

/// The pattern ready to match, with `\s`, `\d` and `\w` of ASCII alone, as in Java.
///
/// # Errors
/// What the `regex` crate finds wrong with it, in a line.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(&with_ascii_classes(pattern)).map_err(|e| {
        let text = e.to_string();
        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

fn with_ascii_classes(pattern: &str) -> String {
    let mut ascii = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        let escaped = if char == '\\' { chars.next() } else { None };
        match escaped {
            Some('s') => ascii.push_str(r"[\t\n\x0B\f\r\x20]"),
            Some('S') => ascii.push_str(r"[^\t\n\x0B\f\r\x20]"),
            Some('d') => ascii.push_str("[0-9]"),
            Some('D') => ascii.push_str("[^0-9]"),
            Some('w') => ascii.push_str("[0-9A-Z_a-z]"),
            Some('W') => ascii.push_str("[^0-9A-Z_a-z]"),
            Some(other) => ascii.extend([char, other]),
            None => ascii.push(char),
        }
    }
    ascii
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RegexTokens {
    signature: Signature,
}

impl ScalarUDFImpl for RegexTokens {
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
        let [text, pattern, gaps, min_token_length, stage, column] = args.args.as_slice() else {
            return plan_err!("{NAME} takes a text and five literals, got {} arguments", args.args.len());
        };
        let (Some(pattern), Some(gaps), Some(min_token_length)) =
            (support::text_literal(pattern), support::flag_literal(gaps), support::count_literal(min_token_length))
        else {
            return plan_err!("{NAME} takes a pattern, true or false, and a length as literals");
        };
        let texts = support::present(text, args.number_rows, &DataType::Utf8, stage, column)?;
        let regex = compile(pattern).map_err(|e| exec_datafusion_err!("{NAME}: pattern {pattern:?}: {e}"))?;
        Ok(ColumnarValue::Array(tokens(&texts, &regex, gaps, min_token_length)))
    }
}

fn tokens(texts: &ArrayRef, regex: &Regex, gaps: bool, min_length: usize) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for text in texts.as_string::<i32>().iter().flatten() {
        if gaps {
            push_between(text, regex, min_length, lists.values());
        } else {
            for_each_match(text, regex, |found| push(found.as_str(), min_length, lists.values()));
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn push_between(text: &str, regex: &Regex, min_length: usize, tokens: &mut StringBuilder) {
    let mut start = 0;
    // Empty tokens are held back until another follows: at the end they are dropped.
    let mut empty = 0;
    let mut push_next = |token: &str| {
        if token.is_empty() {
            empty += 1;
            return;
        }
        (0..std::mem::take(&mut empty)).for_each(|_| push("", min_length, tokens));
        push(token, min_length, tokens);
    };
    for_each_match(text, regex, |found| {
        // Nothing lies before an empty match at the front.
        if found.end() > 0 {
            push_next(&text[start..found.start()]);
            start = found.end();
        }
    });
    if start > 0 {
        push_next(&text[start..]);
    } else {
        push(text, min_length, tokens);
    }
}

/// Calls `f` with each match. Unlike `find_iter`, and like Java, an empty match may follow right after another match.
fn for_each_match<'t>(text: &'t str, regex: &Regex, mut f: impl FnMut(Match<'t>)) {
    let mut at = 0;
    while at <= text.len() {
        let Some(found) = regex.find_at(text, at) else { return };
        f(found);
        at = found.end();
        if found.is_empty() {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
}

fn push(token: &str, min_length: usize, tokens: &mut StringBuilder) {
    // A character has at least as many bytes as UTF-16 units.
    if token.len() >= min_length && (min_length <= 1 || token.encode_utf16().count() >= min_length) {
        tokens.append_value(token);
    }
}
