//! Tokens to how often each term of a vocabulary comes.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::count_terms::count_terms;
use crate::functions::term_counts::{self, MAX_TERMS, Term, TermCounts};
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "count_vectorizer";
const PARAMS: [&str; 7] = ["inputs", "outputs", "vocab_size", "min_df", "max_df", "min_tf", "binary"];
/// The most terms of a vocabulary, and how many it has by default: they travel inside plans.
const MAX_VOCAB_SIZE: u32 = 1 << 18;

/// How often terms come, as Spark ML's `CountVectorizer`; the outputs are sparse vectors as large as the vocabulary.
///
/// The fit takes the `vocab_size` terms that come most often; of those that come equally often, the ones that sort
/// first by UTF-16 code units, as in Spark. A term is left out that is in fewer than `min_df` or more than `max_df`
/// rows; below 1 these are shares of the rows. A count below `min_tf` (below 1: a share of the row's tokens) is left
/// out. Terms that are not in the vocabulary count for nothing; null tokens and null lists fail the fit, and null lists
/// fail later.
///
/// Parameters: `inputs`, `outputs`, `vocab_size` (default 2^18, which is the most), `min_df` (default 1), `max_df`
/// (default: no bound), `min_tf` (default 1), `binary` (default false: with it, 1 for each term whose count is not left
/// out).
///
/// Differs from Spark: a fit refuses columns of more than 2^20 distinct terms.
#[derive(Debug, Clone)]
pub struct CountVectorizer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    vocab_size: u32,
    min_df: f64,
    max_df: f64,
    min_tf: f64,
    binary: bool,
}

impl CountVectorizer {
    /// Counts the 2^18 commonest terms, in place.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self {
            outputs: inputs.clone(),
            inputs,
            vocab_size: MAX_VOCAB_SIZE,
            min_df: 1.0,
            max_df: f64::INFINITY,
            min_tf: 1.0,
            binary: false,
        }
    }

    /// The same with at most so many terms.
    ///
    /// # Errors
    /// 0, and more than 2^18.
    pub fn with_vocab_size(self, vocab_size: u32) -> Result<Self> {
        if !(1..=MAX_VOCAB_SIZE).contains(&vocab_size) {
            return Err(MlError::Invalid(format!("vocab_size is 1 to {MAX_VOCAB_SIZE}, got {vocab_size}")));
        }
        Ok(Self { vocab_size, ..self })
    }

    /// The same without terms that are in fewer or more rows; below 1, than these shares of the rows.
    ///
    /// # Errors
    /// A bound that is NaN or below 0.
    pub fn with_df(self, min_df: f64, max_df: f64) -> Result<Self> {
        Ok(Self { min_df: from_zero("min_df", min_df)?, max_df: from_zero("max_df", max_df)?, ..self })
    }

    /// The same without counts below this; below 1, below this share of the row's tokens.
    ///
    /// # Errors
    /// NaN and a number below 0.
    pub fn with_min_tf(self, min_tf: f64) -> Result<Self> {
        Ok(Self { min_tf: from_zero("min_tf", min_tf)?, ..self })
    }

    /// The same with 1 for each term that comes.
    #[must_use]
    pub fn binary(self) -> Self {
        Self { binary: true, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let stage = Self {
            outputs: params.outputs(&inputs)?,
            vocab_size: params.count("vocab_size", 1..=MAX_VOCAB_SIZE, MAX_VOCAB_SIZE)?,
            binary: params.flag("binary", false)?,
            ..Self::new(inputs)
        };
        let stage = stage.with_df(params.number("min_df", 1.0)?, params.number("max_df", f64::INFINITY)?)?;
        Ok(Arc::new(stage.with_min_tf(params.number("min_tf", 1.0)?)?))
    }

    fn vocabulary(&self, column: &str, counts: TermCounts) -> Result<Vec<String>> {
        if counts.nulls > 0 {
            return Err(MlError::Invalid(format!(
                "column {column:?} has {} nulls, lists or tokens; leave such rows out in SQL",
                counts.nulls
            )));
        }
        let Some(mut terms) = counts.terms else {
            return Err(MlError::Invalid(format!(
                "column {column:?} has more than {MAX_TERMS} distinct terms; leave rare ones out before, or use \
                 hashing_tf"
            )));
        };
        let rows = |bound: f64| if bound >= 1.0 { bound } else { bound * counts.documents as f64 };
        let (min_df, max_df) = (rows(self.min_df), rows(self.max_df));
        if min_df > max_df {
            return Err(MlError::Invalid(format!(
                "expected \"min_df\" of at most \"max_df\", got {min_df} and {max_df} of {} rows",
                counts.documents
            )));
        }
        terms.retain(|term| (min_df..=max_df).contains(&(term.documents as f64)));
        terms.sort_unstable_by(commonest_first);
        terms.truncate(self.vocab_size as usize);
        Ok(terms.into_iter().map(|term| term.term).collect())
    }
}

fn from_zero(name: &str, number: f64) -> Result<f64> {
    if number >= 0.0 {
        return Ok(number);
    }
    Err(MlError::Invalid(format!("expected {name:?} of at least 0, got {number}")))
}

/// Ties by UTF-16 code units, as Java compares text.
fn commonest_first(a: &Term, b: &Term) -> Ordering {
    b.count.cmp(&a.count).then_with(|| a.term.encode_utf16().cmp(b.term.encode_utf16()))
}

impl Stage for CountVectorizer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        self.inputs.iter().try_for_each(|name| scope.tokens(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::sparse_vector(name, None)).collect())
    }

    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        Ok(self.inputs.iter().map(|column| term_counts::term_counts(ident(column))).collect())
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let vocabulary =
            |(column, value): (&String, &ScalarValue)| self.vocabulary(column, term_counts::from_scalar(value)?);
        Ok(Arc::new(FittedCountVectorizer {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            vocabularies: self.inputs.iter().zip(values).map(vocabulary).collect::<Result<_>>()?,
            min_tf: self.min_tf,
            binary: self.binary,
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedCountVectorizer {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The terms of each input, by index.
    vocabularies: Vec<Vec<String>>,
    #[serde(with = "exact")]
    min_tf: f64,
    binary: bool,
}

impl FittedStage for FittedCountVectorizer {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.vocabularies);
        let output = |((input, output), vocabulary): ((&String, &String), &Vec<String>)| FittedOutput {
            column: output.clone(),
            expr: count_terms(ident(input), vocabulary, self.min_tf, self.binary, NAME, input),
            kind: FeatureKind::SparseVector { size: vocabulary.len() },
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.vocabularies);
        let lines: Vec<String> = columns.map(|(c, vocabulary)| format!("{c} has {} terms", vocabulary.len())).collect();
        lines.join(", ")
    }
}
