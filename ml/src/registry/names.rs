//! Names of models and aliases.

use crate::{MlError, Result};

/// The longest name, in bytes: stores and file systems take at least this.
const MAX_NAME_BYTES: usize = 128;

/// Checks a name: letters, digits, `_`, `-` and `.`, starting with a letter or digit.
pub(super) fn check(what: &str, name: &str) -> Result<()> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let all_allowed = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if starts_well && all_allowed && name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(MlError::Invalid(format!(
        "{name:?} cannot be the name of a {what}; expected letters, digits, _, - and ., starting with a letter or \
         digit, at most {MAX_NAME_BYTES} bytes"
    )))
}
