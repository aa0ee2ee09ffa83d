//! Parses SQL, with the clauses of as-of joins that the parser does not know.
//!
//! The parser knows `ASOF JOIN … MATCH_CONDITION (…) ON …`. Where `TOLERANCE x` or `KNOWN AS OF x` follow, they are
//! handed to it as further conditions of ON, each an equality with a name that stands for the clause and the place in
//! the text that the clause had. DataFusion asks for relations, not for joins: each as-of join is therefore put into
//! parentheses of its own, for [`super::PlanAsofJoin`] to find.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::{CopyToSource, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Join, JoinOperator, Select, TableFactor, TableWithJoins, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::{GenericDialect, dialect_from_str};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::{EngineError, Result};

/// The names that stand for the clauses. No column is called so.
pub(super) const TOLERANCE: &str = "as-of join: tolerance";
pub(super) const KNOWN_AS_OF: &str = "as-of join: known as of";

/// The clauses: their words, and the names that stand for them.
const CLAUSES: [(&[&str], &str); 2] = [(&["tolerance"], TOLERANCE), (&["known", "as", "of"], KNOWN_AS_OF)];

/// Keywords that end what belongs to an as-of join.
const ENDS: [Keyword; 13] = [
    Keyword::SELECT,
    Keyword::WHERE,
    Keyword::GROUP,
    Keyword::HAVING,
    Keyword::QUALIFY,
    Keyword::WINDOW,
    Keyword::ORDER,
    Keyword::LIMIT,
    Keyword::OFFSET,
    Keyword::FETCH,
    Keyword::UNION,
    Keyword::INTERSECT,
    Keyword::EXCEPT,
];

/// The one statement of a text.
///
/// # Errors
/// Text that does not parse, with line and column; none or several statements.
pub(crate) fn parse_statement(state: &SessionState, sql: &str) -> Result<Statement> {
    let options = &state.config().options().sql_parser;
    let Some(dialect) = dialect_from_str(options.dialect) else {
        return Err(EngineError::Invalid(format!("the SQL dialect {} is not known", options.dialect)));
    };
    let tokens = Tokenizer::new(dialect.as_ref(), sql).tokenize_with_location().map_err(ParserError::from);
    let tokens = tokens.and_then(|t| clauses_as_conditions(&t)).map_err(DataFusionError::from)?;
    let parser = DFParserBuilder::new(tokens).with_dialect(dialect.as_ref());
    let mut statements = parser.with_recursion_limit(options.recursion_limit.get()).build()?.parse_statements()?;
    match (statements.pop_front(), statements.len()) {
        (Some(mut statement), 0) => {
            isolate_in_statement(&mut statement);
            Ok(statement)
        }
        (None, _) => Err(EngineError::Invalid("expected an SQL statement, got none".to_owned())),
        (Some(_), n) => Err(EngineError::Invalid(format!("expected one SQL statement, got {}", n + 1))),
    }
}

/// The text of a view's query: what follows the first `as`.
pub(crate) fn view_query(sql: &str) -> Result<String> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().map_err(ParserError::from);
    let tokens = tokens.map_err(DataFusionError::from)?;
    let mut depth = 0_usize;
    for t in &tokens {
        match &t.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            token if depth == 0 && is_word(token, "as") => {
                let query = sql.get(offset(sql, t.span.end)..).unwrap_or_default();
                return Ok(query.trim().trim_end_matches(';').to_owned());
            }
            _ => {}
        }
    }
    Err(EngineError::Internal("a view's statement is not one".to_owned()))
}

/// The byte at a line and column, both counted from one, columns in characters.
fn offset(text: &str, at: Location) -> usize {
    let before: usize = text.split_inclusive('\n').take((at.line as usize).saturating_sub(1)).map(str::len).sum();
    let line = text[before..].char_indices().nth((at.column as usize).saturating_sub(1));
    line.map_or(text.len(), |(i, _)| before + i)
}

/// Where the scan is within an as-of join.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Outside,
    /// After `ASOF JOIN`.
    Joined,
    /// After `MATCH_CONDITION`.
    Matched,
    /// After `ON`.
    Keyed,
}

impl Place {
    fn after(self, before: &Token, token: &Token) -> Self {
        match (token, self) {
            (Token::Comma | Token::SemiColon, _) => Self::Outside,
            (Token::Word(w), place) => match (w.keyword, place) {
                (Keyword::JOIN, _) if is_word(before, "asof") => Self::Joined,
                (Keyword::JOIN, _) => Self::Outside,
                (Keyword::MATCH_CONDITION, Self::Joined) => Self::Matched,
                (Keyword::ON, Self::Matched) => Self::Keyed,
                (keyword, _) if ENDS.contains(&keyword) => Self::Outside,
                _ => place,
            },
            _ => self,
        }
    }
}

/// The tokens with each clause as a condition.
fn clauses_as_conditions(tokens: &[TokenWithSpan]) -> Result<Vec<TokenWithSpan>, ParserError> {
    let mut out = Vec::with_capacity(tokens.len());
    let (mut places, mut place) = (Vec::new(), Place::Outside);
    let mut before = &Token::EOF;
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        let clause = if ends_expression(before) { clause(rest) } else { None };
        match (place, clause) {
            (Place::Matched, Some((name, _))) => return Err(before_on(name, first)),
            (Place::Keyed, Some((name, after))) => {
                let condition = [Token::make_keyword("AND"), Token::make_word(name, Some('"')), Token::Eq];
                out.extend(condition.map(|t| TokenWithSpan::new(t, first.span)));
                (before, rest) = (&Token::Eq, after);
                continue;
            }
            _ => {}
        }
        match &first.token {
            Token::LParen => places.push(std::mem::replace(&mut place, Place::Outside)),
            Token::RParen => place = places.pop().unwrap_or(Place::Outside),
            token => place = place.after(before, token),
        }
        if !is_space(first) {
            before = &first.token;
        }
        out.push(first.clone());
        rest = after;
    }
    Ok(out)
}

/// The clause that begins here, and what follows its words.
fn clause(tokens: &[TokenWithSpan]) -> Option<(&'static str, &[TokenWithSpan])> {
    if tokens.first().is_none_or(is_space) {
        return None;
    }
    CLAUSES.iter().find_map(|(words, name)| Some((*name, after_words(tokens, words)?)))
}

fn after_words<'a>(tokens: &'a [TokenWithSpan], words: &[&str]) -> Option<&'a [TokenWithSpan]> {
    words.iter().try_fold(tokens, |tokens, word| {
        let at = tokens.iter().position(|t| !is_space(t))?;
        is_word(&tokens[at].token, word).then(|| &tokens[at + 1..])
    })
}

fn is_space(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Whether a condition may end with this token: what follows is then not a column of that name.
fn ends_expression(token: &Token) -> bool {
    match token {
        Token::Word(w) => !matches!(w.keyword, Keyword::ON | Keyword::AND | Keyword::OR | Keyword::NOT),
        Token::RParen | Token::RBracket | Token::Number(..) | Token::SingleQuotedString(_) => true,
        _ => false,
    }
}

fn before_on(name: &str, found: &TokenWithSpan) -> ParserError {
    let clause = if name == TOLERANCE { "TOLERANCE" } else { "KNOWN AS OF" };
    let at = found.span.start;
    ParserError::ParserError(format!("Expected: ON with the keys of the as-of join, found: {clause}{at}"))
}

fn isolate_in_statement(statement: &mut Statement) {
    match statement {
        Statement::Statement(s) => isolate_in(&mut **s),
        Statement::Explain(e) => isolate_in_statement(&mut e.statement),
        Statement::CopyTo(c) => {
            if let CopyToSource::Query(query) = &mut c.source {
                isolate_in(&mut **query);
            }
        }
        Statement::CreateExternalTable(_) | Statement::Reset(_) => {}
    }
}

fn isolate_in(syntax: &mut impl VisitMut) {
    let ControlFlow::Continue(()) = syntax.visit(&mut IsolateAsofJoins);
}

/// Puts each as-of join into parentheses, together with what stands before it.
struct IsolateAsofJoins;

impl VisitorMut for IsolateAsofJoins {
    type Break = Infallible;

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        select.from.iter_mut().for_each(isolate);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            isolate(table_with_joins);
        }
        ControlFlow::Continue(())
    }
}

fn isolate(from: &mut TableWithJoins) {
    let is_asof = |join: &Join| matches!(join.join_operator, JoinOperator::AsOf { .. });
    if !from.joins.iter().any(is_asof) {
        return;
    }
    let start = TableWithJoins { relation: from.relation.clone(), joins: Vec::new() };
    *from = from.joins.drain(..).fold(start, |mut left, join| {
        if !is_asof(&join) {
            left.joins.push(join);
            return left;
        }
        let relation = if left.joins.is_empty() { left.relation } else { in_parentheses(left) };
        let alone = TableWithJoins { relation, joins: vec![join] };
        TableWithJoins { relation: in_parentheses(alone), joins: Vec::new() }
    });
}

fn in_parentheses(joins: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin { table_with_joins: Box::new(joins), alias: None }
}
