//! A text with several SQL statements, parted.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// The statements of a text, in order. What stands before a statement is kept as white space, so that the lines and
/// columns of errors are those of the whole text. A text that has no tokens in SQL is one statement: its parser
/// says what is wrong.
pub(crate) fn split(text: &str) -> Vec<String> {
    let dialect = GenericDialect {};
    let Ok(tokens) = Tokenizer::new(&dialect, text).tokenize_with_location() else {
        return vec![text.to_owned()];
    };
    let mut statements = Vec::new();
    let (mut start, mut empty) = (0, true);
    for token in &tokens {
        match token.token {
            Token::SemiColon => {
                let end = offset(text, token.span.start.line, token.span.start.column);
                push(&mut statements, text, start, end, empty);
                (start, empty) = (end + 1, true);
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => empty = false,
        }
    }
    push(&mut statements, text, start, text.len(), empty);
    statements
}

fn push(statements: &mut Vec<String>, text: &str, start: usize, end: usize, empty: bool) {
    if empty {
        return;
    }
    let before = text[..start].chars().map(|c| if c == '\n' { '\n' } else { ' ' });
    statements.push(before.chain(text[start..end].chars()).collect());
}

/// The byte at a line and column, both counted from one, columns in characters.
fn offset(text: &str, line: u64, column: u64) -> usize {
    let line_start = match line {
        0 | 1 => 0,
        n => text.match_indices('\n').nth(n as usize - 2).map_or(text.len(), |(at, _)| at + 1),
    };
    let within = text[line_start..].char_indices().nth((column as usize).saturating_sub(1));
    within.map_or(text.len(), |(at, _)| line_start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_part_statements_outside_of_text_and_comments() {
        let text = "select ';'; -- a; b\nselect 2;\n;  ";
        let statements = split(text);
        assert_eq!(statements.len(), 2, "{statements:?}");
        assert_eq!(statements[0], "select ';'");
        assert_eq!(statements[1].trim(), "-- a; b\nselect 2");
    }

    #[test]
    fn positions_stay_those_of_the_whole_text() {
        let statements = split("select 'é';\n select 1; select x");
        assert_eq!(statements[1], "           \n select 1");
        assert_eq!(statements[2].find("select x"), Some("           \n           ".len()));
    }

    #[test]
    fn text_without_statements_has_none() {
        assert!(split(" -- nothing\n;;").is_empty());
    }

    #[test]
    fn a_text_that_has_no_tokens_is_left_to_the_parser() {
        assert_eq!(split("select 'open"), ["select 'open"]);
    }
}
