//! References to models: `late@live`, `late/3`, `late`.

use std::fmt;
use std::str::FromStr;

use super::names;
use crate::model::ModelVersion;
use crate::{MlError, Result};

/// A model by name, and which of its versions.
///
/// ```
/// use tidemill_ml::registry::{ModelRef, ModelSelector};
///
/// let reference: ModelRef = "late@live".parse().unwrap();
/// assert_eq!(reference.selector, ModelSelector::Alias("live".to_owned()));
/// assert_eq!(reference.to_string(), "late@live");
/// assert!("late@".parse::<ModelRef>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// The model's name.
    pub name: String,
    /// Which version.
    pub selector: ModelSelector,
}

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelSelector {
    /// The one that an alias stands for.
    Alias(String),
    /// This one.
    Version(ModelVersion),
    /// The latest.
    Latest,
}

impl FromStr for ModelRef {
    type Err = MlError;

    fn from_str(text: &str) -> Result<Self> {
        let (name, selector) = match (text.split_once('@'), text.split_once('/')) {
            (Some((name, alias)), None) => {
                names::check("alias", alias)?;
                (name, ModelSelector::Alias(alias.to_owned()))
            }
            (None, Some((name, version))) => {
                let version = version.parse().ok().filter(|&v| v > 0).ok_or_else(|| not_a_reference(text))?;
                (name, ModelSelector::Version(ModelVersion(version)))
            }
            (None, None) => (text, ModelSelector::Latest),
            (Some(_), Some(_)) => return Err(not_a_reference(text)),
        };
        names::check("model", name)?;
        Ok(Self { name: name.to_owned(), selector })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            ModelSelector::Alias(alias) => write!(f, "{}@{alias}", self.name),
            ModelSelector::Version(version) => write!(f, "{}/{version}", self.name),
            ModelSelector::Latest => f.write_str(&self.name),
        }
    }
}

fn not_a_reference(text: &str) -> MlError {
    MlError::Invalid(format!("{text:?} is not a model; expected late@live, late/3 or late"))
}
