//! Folds of the rows of a fit, each encoded by the others.

use datafusion::logical_expr::{Expr, case, lit};
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};

use super::{NAME, Scope, StageParams};
use crate::estimator::{fold_hash_of, is_fold_key};
use crate::{MlError, Result};

/// Each fold is a sum for each category more in the fit, and an encoding more in the rows' expression.
const MAX_CV: u32 = 50;
/// Not that of a grid: with its seed, column and number of folds, the rows of its fold would be a fold here too.
const DEFAULT_SEED: u32 = 1;

/// How the rows of a fit are dealt to folds: `fold_hash(by, seed) % cv`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CrossFit {
    pub(super) cv: u32,
    pub(super) by: String,
    pub(super) seed: u64,
}

impl CrossFit {
    pub(super) fn new(cv: u32, by: &str, seed: u64) -> Result<Self> {
        if (2..=MAX_CV).contains(&cv) {
            return Ok(Self { cv, by: by.to_owned(), seed });
        }
        Err(MlError::Invalid(format!("expected a \"cv\" of 2 to {MAX_CV} folds, got {cv}")))
    }

    /// Reads `cv`, `by` and `seed`; none where `cv` is 1 or absent.
    pub(super) fn parse(params: &StageParams<'_>) -> Result<Option<Self>> {
        let cv = params.count("cv", 1..=MAX_CV, 1)?;
        let by = params.column("by")?;
        let seed = params.count("seed", 0..=u32::MAX, DEFAULT_SEED)?;
        match by {
            None if cv == 1 => Ok(None),
            Some(_) if cv == 1 => {
                Err(MlError::Invalid("\"by\" deals rows to folds; give their number as \"cv\"".into()))
            }
            None => Err(MlError::Invalid(format!(
                "\"cv\" of {cv} needs \"by\", a column whose hash deals rows to folds, such as a row's key"
            ))),
            Some(by) => Self::new(cv, &by, u64::from(seed)).map(Some),
        }
    }

    /// Checks that the hash takes the column.
    pub(super) fn check(&self, scope: &Scope) -> Result<()> {
        let column = scope.column(&self.by)?;
        if is_fold_key(&column.data_type) {
            return Ok(());
        }
        Err(MlError::Invalid(format!(
            "column {:?} is {}; expected a whole number, a date or text to deal rows to folds by",
            self.by,
            column.describe()
        )))
    }

    /// For each fold, which rows are outside it.
    pub(super) fn complements(&self) -> impl Iterator<Item = Expr> {
        let fold = self.fold();
        (0..u64::from(self.cv)).map(move |number| fold.clone().not_eq(lit(number)))
    }

    /// A row's value, out of one for each fold.
    pub(super) fn by_fold(&self, values: Vec<Expr>) -> Result<Expr> {
        if values.len() != self.cv as usize {
            return Err(MlError::Invalid(format!(
                "a saved {NAME} does not keep the means of its {} folds; fit the pipeline again for its training rows",
                self.cv
            )));
        }
        let mut values = (0_u64..).zip(values);
        let Some((_, first)) = values.next() else { return Err(MlError::Internal("no fold".to_owned())) };
        let mut by_fold = case(self.fold());
        let mut last = by_fold.when(lit(0_u64), first);
        for (number, value) in values {
            last = last.when(lit(number), value);
        }
        Ok(last.end()?)
    }

    pub(super) fn describe(&self) -> String {
        format!("; training rows by {} folds of {}", self.cv, self.by)
    }

    fn fold(&self) -> Expr {
        fold_hash_of(ident(&self.by), self.seed) % lit(u64::from(self.cv))
    }
}
