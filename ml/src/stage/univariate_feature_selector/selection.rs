//! Which elements are selected by their p-values.

use serde_json::Value;

use crate::stage::StageParams;
use crate::{MlError, Result};

/// How many elements are selected, and by what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// This many of the lowest p-values.
    NumTopFeatures(u32),
    /// This share of the elements, rounded down, by the lowest p-values.
    Percentile(f64),
    /// P-values below a threshold: the rate of false positives.
    Fpr(f64),
    /// P-values that the procedure of Benjamini and Hochberg accepts: the rate of false discoveries.
    Fdr(f64),
    /// P-values below the threshold over the number of elements: the rate of any error in the family.
    Fwe(f64),
}

impl Selection {
    /// By the name of its mode in parameters, with a threshold or the mode's default.
    ///
    /// # Errors
    /// An unknown mode, and a threshold that does not fit it.
    pub(crate) fn parse(mode: &str, params: &StageParams<'_>, threshold: &str) -> Result<Self> {
        let share = |default: f64| {
            let share = params.number(threshold, default)?;
            if (0.0..=1.0).contains(&share) {
                return Ok(share);
            }
            Err(MlError::Invalid(format!("expected a {threshold:?} within 0 and 1, got {share}")))
        };
        match mode {
            "num_top_features" => Ok(Self::NumTopFeatures(params.count(threshold, 1..=u32::MAX, 50)?)),
            "percentile" => Ok(Self::Percentile(share(0.1)?)),
            "fpr" => Ok(Self::Fpr(share(0.05)?)),
            "fdr" => Ok(Self::Fdr(share(0.05)?)),
            "fwe" => Ok(Self::Fwe(share(0.05)?)),
            other => Err(MlError::Invalid(format!("unknown selection mode {}", Value::from(other)))),
        }
    }

    /// The places of the elements that are selected, ascending. Of equal p-values the first come first; NaN last.
    pub(super) fn select(self, p_values: &[f64]) -> Vec<usize> {
        let n = p_values.len();
        let mut order: Vec<usize> = (0..n).collect();
        // Adding 0 makes the two zeros one; a NaN's sign says nothing.
        let key = |i: usize| if p_values[i].is_nan() { f64::NAN } else { p_values[i] + 0.0 };
        order.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
        let below = |threshold: f64| order.iter().filter(|&&i| p_values[i] < threshold).count();
        let n_selected = match self {
            Self::NumTopFeatures(top) => top as usize,
            Self::Percentile(share) => (n as f64 * share) as usize,
            Self::Fpr(threshold) => below(threshold),
            Self::Fwe(threshold) => below(threshold / n as f64),
            Self::Fdr(threshold) => {
                let accepted = |rank: &usize| p_values[order[*rank]] <= threshold / n as f64 * (rank + 1) as f64;
                (0..n).rev().find(accepted).map_or(0, |rank| rank + 1)
            }
        };
        order.truncate(n_selected);
        order.sort_unstable();
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_select_by_p_values() {
        let p_values = [0.04, f64::NAN, 0.001, 0.02, 0.3, 0.001];
        let check = |selection: Selection, expected: &[usize]| assert_eq!(selection.select(&p_values), expected);
        check(Selection::NumTopFeatures(1), &[2]);
        check(Selection::NumTopFeatures(3), &[2, 3, 5]);
        check(Selection::NumTopFeatures(9), &[0, 1, 2, 3, 4, 5]);
        check(Selection::Percentile(0.5), &[2, 3, 5]);
        check(Selection::Percentile(0.1), &[]);
        check(Selection::Fpr(0.04), &[2, 3, 5]);
        check(Selection::Fwe(0.05), &[2, 5]);
        check(Selection::Fdr(0.05), &[2, 3, 5]);
        check(Selection::Fdr(0.066), &[0, 2, 3, 5]);
    }
}
