//! Successive halving (Jamieson, Talwalkar 2016): all candidates on little, the better part of them on more.
//!
//! A rung is one round: its candidates are trained with the rung's share of the resource, and the best `1 / factor` of them
//! go on. Rungs are synchronous: a rung is decided when all its candidates are done, by their metrics and then by their
//! numbers, so that who finishes first decides nothing.

use std::cmp::Ordering;

use serde::Deserialize;
use tidemill_ml::eval::Metric;

use crate::jobs::CandidateRecord;
use crate::{EngineError, Result};

/// How a search by successive halving spends.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halving {
    /// What a rung has more of than the one before.
    #[serde(default)]
    pub resource: Resource,
    /// How much more, and of how many candidates one goes on; at least 2.
    #[serde(default = "default_factor")]
    pub factor: u32,
    /// The share of the resource that the first rung has, above 0, below 1.
    #[serde(default = "default_min_share")]
    pub min_share: f64,
}

fn default_factor() -> u32 {
    3
}

fn default_min_share() -> f64 {
    0.1
}

/// What candidates are given more of from rung to rung.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Rows to train on, by hash; candidates are validated on all rows of their fold.
    #[default]
    Rows,
    /// Iterations: the candidate's `max_iter`, which each must have.
    Iterations,
}

impl Halving {
    /// Checks its numbers.
    ///
    /// # Errors
    /// A factor below 2, a share that is none.
    pub fn check(&self) -> Result<()> {
        if self.factor < 2 {
            return Err(EngineError::Invalid(format!("halving.factor must be at least 2, got {}", self.factor)));
        }
        if !(self.min_share > 0.0 && self.min_share < 1.0) {
            return Err(EngineError::Invalid(format!(
                "halving.min_share must be above 0 and below 1, got {}",
                self.min_share
            )));
        }
        Ok(())
    }

    /// The share of the resource of each rung, the last one all of it.
    pub(super) fn shares(&self, n_candidates: usize) -> Vec<f64> {
        let factor = f64::from(self.factor);
        let (mut shares, mut left) = (vec![1.0], n_candidates);
        // No more rungs than there are candidates to drop.
        while let Some(last) = shares.last()
            && last / factor >= self.min_share
            && left > 1
        {
            left = self.n_survivors(left);
            shares.push(last / factor);
        }
        shares.reverse();
        shares
    }

    /// How many of so many candidates go on.
    pub(super) fn n_survivors(&self, n_candidates: usize) -> usize {
        n_candidates.div_ceil(self.factor as usize)
    }

    /// The candidates that go on, by their numbers: the best of those that did not fail, the first of equals.
    pub(super) fn survivors(&self, candidates: &[CandidateRecord], metric: Metric) -> Vec<usize> {
        let mut ranked: Vec<(f64, usize)> =
            candidates.iter().filter_map(|c| Some((c.mean.filter(|mean| mean.is_finite())?, c.id))).collect();
        ranked.sort_by(|a, b| match metric.is_better(a.0, b.0) {
            true => Ordering::Less,
            false if metric.is_better(b.0, a.0) => Ordering::Greater,
            false => a.1.cmp(&b.1),
        });
        ranked.truncate(self.n_survivors(candidates.len()));
        let mut survivors: Vec<usize> = ranked.into_iter().map(|(_, id)| id).collect();
        survivors.sort_unstable();
        survivors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: Halving = Halving { resource: Resource::Rows, factor: 3, min_share: 0.1 };

    #[test]
    fn rungs_grow_by_the_factor_up_to_all() {
        assert_eq!(ROWS.shares(27), [1.0 / 3.0 / 3.0, 1.0 / 3.0, 1.0]);
        assert_eq!(ROWS.shares(3), [1.0 / 3.0, 1.0]);
        assert_eq!(ROWS.shares(1), [1.0]);
        assert_eq!(Halving { min_share: 0.5, ..ROWS }.shares(27), [1.0]);
    }

    #[test]
    fn the_best_go_on_and_the_first_of_equals() {
        let candidate = |id, mean| CandidateRecord { id, mean, ..CandidateRecord::default() };
        let all = [
            candidate(0, Some(0.5)),
            candidate(1, None),
            candidate(2, Some(0.7)),
            candidate(3, Some(0.7)),
            candidate(4, Some(f64::NAN)),
            candidate(5, Some(0.9)),
            candidate(6, Some(0.1)),
        ];
        assert_eq!(ROWS.survivors(&all, Metric::AreaUnderRoc), [2, 3, 5]);
        assert_eq!(ROWS.survivors(&all, Metric::LogLoss), [0, 2, 6]);
        assert_eq!(ROWS.survivors(&all[1..2], Metric::LogLoss), [0usize; 0]);
    }

    #[test]
    fn numbers_are_checked() {
        assert!(Halving { factor: 1, ..ROWS }.check().is_err());
        assert!(Halving { min_share: 0.0, ..ROWS }.check().is_err());
        assert!(ROWS.check().is_ok());
    }
}
