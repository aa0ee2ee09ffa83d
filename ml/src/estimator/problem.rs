//! What is to be learnt.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::suggest::did_you_mean;
use crate::{MlError, Result};

/// The most classes of a label.
pub const MAX_CLASSES: usize = 256;

/// What is to be learnt of a label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ProblemType {
    /// A label of 0 and 1; models give the probability of 1.
    #[default]
    Binary,
    /// A label of up to [`MAX_CLASSES`] classes, by their numbers from 0; models give the probability of each.
    Multiclass,
    /// A label that is a number; models give a number.
    Regression,
    /// No label; models give the number of a row's cluster.
    Clustering,
}

impl ProblemType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Binary, Self::Multiclass, Self::Regression, Self::Clustering];

    /// The name in job files and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Multiclass => "multiclass",
            Self::Regression => "regression",
            Self::Clustering => "clustering",
        }
    }

    /// Whether labels are classes.
    pub fn is_classification(self) -> bool {
        matches!(self, Self::Binary | Self::Multiclass)
    }
}

impl fmt::Display for ProblemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ProblemType {
    type Err = MlError;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|problem| problem.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            MlError::Invalid(format!(
                "there is no problem type {text:?}{}; expected one of {}",
                did_you_mean(text, names),
                names.join(", ")
            ))
        })
    }
}

impl TryFrom<String> for ProblemType {
    type Error = MlError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ProblemType> for String {
    fn from(problem: ProblemType) -> Self {
        problem.name().to_owned()
    }
}
