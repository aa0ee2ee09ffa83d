//! `CREATE FEATURE VIEW name OPTIONS (…) AS SELECT …`.

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{Expr, Value as SqlValue};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use serde_json::{Map, Value};

use super::FeatureView;
use crate::session::view_query;
use crate::{EngineError, Result};

/// The view that a statement declares; none for another statement.
///
/// Options are the keys of a view's file: texts, lists of texts, and maps as `{'flights': {'time': 'time_hour'}}`.
///
/// # Errors
/// A statement that begins so and does not parse, an option that no view has (with the nearest one).
pub(crate) fn parse_create(sql: &str) -> Result<Option<FeatureView>> {
    let dialect = GenericDialect {};
    let Ok(mut parser) = Parser::new(&dialect).try_with_sql(sql) else { return Ok(None) };
    if !(parser.parse_keyword(Keyword::CREATE)
        && is_word(&mut parser, "feature")
        && parser.parse_keyword(Keyword::VIEW))
    {
        return Ok(None);
    }
    let mut view = options(&mut parser).map_err(DataFusionError::from)?;
    view.insert("sql".to_owned(), Value::String(view_query(sql)?));
    let view: FeatureView = serde_json::from_value(Value::Object(view)).map_err(|e| {
        let message = e.to_string();
        let hint = crate::jobs::suggestion(&message).map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
        EngineError::Invalid(format!("create feature view: {message}{hint}"))
    })?;
    view.validate()?;
    Ok(Some(view))
}

/// Takes the word if it comes next.
fn is_word(parser: &mut Parser<'_>, word: &str) -> bool {
    let next = matches!(parser.peek_token().token, Token::Word(w) if w.value.eq_ignore_ascii_case(word));
    if next {
        parser.advance_token();
    }
    next
}

/// The name and the options, up to the query.
fn options(parser: &mut Parser<'_>) -> Result<Map<String, Value>, ParserError> {
    let mut view = Map::new();
    view.insert("feature_view".to_owned(), Value::String(parser.parse_identifier()?.value));
    parser.expect_keyword_is(Keyword::OPTIONS)?;
    parser.expect_token(&Token::LParen)?;
    loop {
        let name = parser.parse_identifier()?.value.to_ascii_lowercase();
        parser.expect_token(&Token::Eq)?;
        let value = json(parser.parse_expr()?)?;
        view.insert(name, value);
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    parser.expect_keyword_is(Keyword::AS)?;
    Ok(view)
}

/// A literal, a list or a map of them.
fn json(expr: Expr) -> Result<Value, ParserError> {
    match expr {
        Expr::Value(value) => match value.value {
            SqlValue::SingleQuotedString(text) => Ok(Value::String(text)),
            SqlValue::Boolean(truth) => Ok(Value::Bool(truth)),
            SqlValue::Number(number, _) => number
                .to_string()
                .parse::<serde_json::Number>()
                .map(Value::Number)
                .map_err(|_| ParserError::ParserError(format!("{number} is no number"))),
            other => Err(ParserError::ParserError(format!("expected a literal, got {other}"))),
        },
        Expr::Array(array) => array.elem.into_iter().map(json).collect(),
        Expr::Dictionary(fields) => {
            let field =
                |field: datafusion::sql::sqlparser::ast::DictionaryField| Ok((field.key.value, json(*field.value)?));
            fields.into_iter().map(field).collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        other => Err(ParserError::ParserError(format!("expected a text, a list or a map, got {other}"))),
    }
}
