//! Tests of whether an element of a vector and a label have to do with one another.
//!
//! Each reads aggregates that are exact, so that a p-value is a function of the rows as a multiset.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::concat;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::{cast, when};

use super::distributions::{chi_squared_above, f_above};
use crate::functions::vector::concat::vector;
use crate::functions::{category_counts, category_means, exact_covariances, exact_moments};
use crate::{MlError, Result};

/// What parts an element's value and the label in a counted pair; no number's text has it.
const SEPARATOR: char = '|';

/// A test of an element against the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementTest {
    /// Pearson's chi-squared test of independence: both are categories.
    ChiSquared,
    /// Analysis of variance: the label is a category.
    Anova,
    /// The F test of a regression on the element alone: both are continuous.
    Regression,
}

impl ElementTest {
    /// How many aggregates the test of an element reads.
    pub(super) const fn n_aggregates(self) -> usize {
        match self {
            Self::ChiSquared => 1,
            Self::Anova | Self::Regression => 2,
        }
    }

    /// The aggregates over an element and the label, both of them `Float64`. Rows without either are left out.
    pub(super) fn aggregates(self, element: Expr, label: &Expr) -> Result<Vec<Expr>> {
        let are_there = element.clone().is_not_null().and(label.clone().is_not_null());
        let element = when(are_there.clone(), element).end()?;
        let text = |number: Expr| cast(number, DataType::Utf8);
        Ok(match self {
            Self::ChiSquared => {
                let pair = concat(vec![text(element), lit(SEPARATOR.to_string()), text(label.clone())]);
                vec![category_counts::category_counts(when(are_there, pair).end()?)]
            }
            Self::Anova => vec![
                exact_moments::exact_moments(element.clone()),
                category_means::category_means(text(label.clone()), element),
            ],
            Self::Regression => vec![
                exact_moments::exact_moments(element.clone()),
                exact_covariances::exact_covariances(when(are_there, vector(vec![element, label.clone()])).end()?),
            ],
        })
    }

    /// The p-value out of the aggregates' values; NaN where it cannot be told, as for an element that does not vary.
    pub(super) fn p_value(self, element: &str, values: &[ScalarValue]) -> Result<f64> {
        let too_many = || MlError::Invalid(format!("{element:?} and the label have too many different values"));
        match (self, values) {
            (Self::ChiSquared, [pairs]) => {
                Ok(chi_squared_p(&category_counts::from_scalar(pairs)?.ok_or_else(too_many)?))
            }
            (Self::Anova, [moments, classes]) => {
                let moments = exact_moments::from_scalar(moments)?;
                let classes = category_means::from_scalar(classes)?.ok_or_else(too_many)?;
                let classes: Vec<(f64, f64)> = classes.iter().map(|class| (class.count as f64, class.mean)).collect();
                Ok(anova_p(moments.count as f64, moments.mean, moments.variance, &classes))
            }
            (Self::Regression, [moments, covariances]) => {
                let n = exact_moments::from_scalar(moments)?.count as f64;
                Ok(regression_p(n, &exact_covariances::from_scalar(covariances)?))
            }
            _ => Err(MlError::Internal(format!("expected {} aggregates, got {}", self.n_aggregates(), values.len()))),
        }
    }
}

/// Of how often each pair of values comes.
fn chi_squared_p(pairs: &[(String, u64)]) -> f64 {
    let (mut rows, mut columns, mut n) = (BTreeMap::new(), BTreeMap::new(), 0.0);
    for (pair, count) in pairs {
        let (value, label) = pair.split_once(SEPARATOR).unwrap_or((pair, ""));
        *rows.entry(value).or_insert(0.0) += *count as f64;
        *columns.entry(label).or_insert(0.0) += *count as f64;
        n += *count as f64;
    }
    let degrees = (rows.len().max(1) - 1) * (columns.len().max(1) - 1);
    if degrees == 0 {
        return 1.0;
    }
    // Σ (observed - expected)² / expected = Σ observed² / expected - n, where pairs that never come add nothing.
    let term = |(pair, count): &(String, u64)| {
        let (value, label) = pair.split_once(SEPARATOR).unwrap_or((pair, ""));
        (*count as f64).powi(2) / (rows[value] * columns[label] / n)
    };
    chi_squared_above(pairs.iter().map(term).sum::<f64>() - n, degrees as f64)
}

/// Of all numbers' count, mean and variance, and the count and mean of each class.
fn anova_p(n: f64, mean: Option<f64>, variance: Option<f64>, classes: &[(f64, f64)]) -> f64 {
    let (Some(mean), Some(variance)) = (mean, variance) else {
        return f64::NAN;
    };
    let between: f64 = classes.iter().map(|(count, class_mean)| count * (class_mean - mean).powi(2)).sum();
    let within = ((n - 1.0) * variance - between).max(0.0);
    let (between_degrees, within_degrees) = (classes.len() as f64 - 1.0, n - classes.len() as f64);
    if between_degrees < 1.0 || within_degrees < 1.0 {
        return f64::NAN;
    }
    f_above((between / between_degrees) / (within / within_degrees), between_degrees, within_degrees)
}

/// Of the covariance matrix of an element and the label over `n` rows.
fn regression_p(n: f64, covariances: &[f64]) -> f64 {
    let &[xx, xy, _, yy] = covariances else {
        return f64::NAN;
    };
    let degrees = n - 2.0;
    let explained = xy * xy / (xx * yy);
    if degrees < 1.0 || explained.is_nan() {
        return f64::NAN;
    }
    f_above(explained / (1.0 - explained).max(0.0) * degrees, 1.0, degrees)
}
