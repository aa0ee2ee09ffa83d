//! Families and links, and half a row's deviance by its margin.

use serde::{Deserialize, Serialize};

use crate::estimator::ProblemType;
use crate::estimator::support::linear::{Logistic, RowLoss};
use crate::estimator::support::math::{exp, ln, normal_cdf, normal_density, sigmoid};

/// Margins of the probit link count as at most this far from 0: beyond, probabilities have no double.
const FARTHEST_PROBIT: f64 = 37.0;

/// A family of distributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Numbers with one variance.
    Gaussian,
    /// 0 or 1.
    Binomial,
    /// Numbers of at least 0 whose variance is their mean.
    Poisson,
    /// Numbers above 0 whose deviation is in proportion to their mean.
    Gamma,
}

/// A link: the margin as a function of the mean `m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// `m`.
    Identity,
    /// `ln m`.
    Log,
    /// `1 / m`.
    Inverse,
    /// The root of `m`.
    Sqrt,
    /// `ln(m / (1 - m))`.
    Logit,
    /// The quantile of the standard normal distribution at `m`.
    Probit,
    /// `ln(-ln(1 - m))`.
    Cloglog,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gaussian, Self::Binomial, Self::Poisson, Self::Gamma];

    /// The name in job files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::Binomial => "binomial",
            Self::Poisson => "poisson",
            Self::Gamma => "gamma",
        }
    }

    /// Whether labels of a problem can be of this family.
    pub fn is_for(self, problem: ProblemType) -> bool {
        problem == if self == Self::Binomial { ProblemType::Binary } else { ProblemType::Regression }
    }

    /// The links that go with it, the canonical one first.
    pub fn links(self) -> &'static [Link] {
        match self {
            Self::Gaussian => &[Link::Identity, Link::Log, Link::Inverse],
            Self::Binomial => &[Link::Logit, Link::Probit, Link::Cloglog],
            Self::Poisson => &[Link::Log, Link::Identity, Link::Sqrt],
            Self::Gamma => &[Link::Inverse, Link::Identity, Link::Log],
        }
    }

    /// Whether a label can be of this family.
    pub(super) fn allows(self, label: f64) -> bool {
        match self {
            Self::Gaussian => true,
            Self::Binomial => (0.0..=1.0).contains(&label),
            Self::Poisson => label >= 0.0,
            Self::Gamma => label > 0.0,
        }
    }

    /// The labels it allows, in words.
    pub(super) fn range(self) -> &'static str {
        match self {
            Self::Gaussian => "any number",
            Self::Binomial => "from 0 to 1",
            Self::Poisson => "at least 0",
            Self::Gamma => "above 0",
        }
    }

    /// The change of the mean over its variance.
    fn over_variance(self, mean: f64, change: f64) -> f64 {
        match self {
            Self::Gaussian => change,
            Self::Binomial => change / mean / (1.0 - mean),
            Self::Poisson => change / mean,
            Self::Gamma => change / mean / mean,
        }
    }

    /// Half the deviance of a label from a mean.
    fn half_deviance(self, mean: f64, label: f64) -> f64 {
        let log_ratio = || if label > 0.0 { ln(label / mean) } else { 0.0 };
        match self {
            Self::Gaussian => 0.5 * (mean - label) * (mean - label),
            Self::Binomial => f64::NAN,
            Self::Poisson => label * log_ratio() + (mean - label),
            Self::Gamma => (label - mean) / mean - log_ratio(),
        }
    }
}

impl Link {
    /// The name in job files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Log => "log",
            Self::Inverse => "inverse",
            Self::Sqrt => "sqrt",
            Self::Logit => "logit",
            Self::Probit => "probit",
            Self::Cloglog => "cloglog",
        }
    }

    /// The mean of a margin.
    #[inline]
    pub(super) fn mean(self, margin: f64) -> f64 {
        match self {
            Self::Identity => margin,
            Self::Log => exp(margin),
            Self::Inverse => 1.0 / margin,
            Self::Sqrt => margin * margin,
            Self::Logit => sigmoid(margin),
            Self::Probit => normal_cdf(margin),
            Self::Cloglog => one_less_exp(exp(margin)),
        }
    }

    /// The margin of a mean within the family's range.
    pub(super) fn margin(self, mean: f64) -> f64 {
        match self {
            Self::Identity => mean,
            Self::Log => ln(mean),
            Self::Inverse => 1.0 / mean,
            Self::Sqrt => mean.sqrt(),
            Self::Logit => ln(mean / (1.0 - mean)),
            Self::Probit => normal_quantile(mean),
            Self::Cloglog => ln(-ln(1.0 - mean)),
        }
    }

    /// The change of the mean with the margin.
    #[inline]
    fn slope(self, margin: f64, mean: f64) -> f64 {
        match self {
            Self::Identity => 1.0,
            Self::Log => mean,
            Self::Inverse => -mean * mean,
            Self::Sqrt => 2.0 * margin,
            Self::Logit => mean * (1.0 - mean),
            Self::Probit => normal_density(margin),
            Self::Cloglog => exp(margin) * exp(-exp(margin)),
        }
    }
}

/// Half the deviance of a row; its curvature is the expected one (Fisher's), which is never negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Deviance {
    pub(super) family: Family,
    pub(super) link: Link,
}

impl Deviance {
    /// The mean and its change with the margin; none where the family has no such mean.
    #[inline]
    fn mean(&self, margin: f64) -> Option<(f64, f64)> {
        let mean = self.link.mean(margin);
        let is_allowed = mean.is_finite() && (self.family == Family::Gaussian || mean > 0.0);
        is_allowed.then(|| (mean, self.link.slope(margin, mean)))
    }
}

impl RowLoss for Deviance {
    #[inline]
    fn loss_and_slope(&self, margin: f64, label: f64) -> (f64, f64) {
        match self.link {
            Link::Logit => Logistic.loss_and_slope(margin, label),
            Link::Probit => probit(margin, label),
            Link::Cloglog => cloglog(margin, label),
            _ => match self.mean(margin) {
                Some((mean, change)) => {
                    let slope = (mean - label) * self.family.over_variance(mean, change);
                    (self.family.half_deviance(mean, label), slope)
                }
                None => (f64::INFINITY, 0.0),
            },
        }
    }

    #[inline]
    fn curvature(&self, margin: f64, label: f64) -> f64 {
        match self.link {
            Link::Logit => Logistic.curvature(margin, label),
            Link::Probit => {
                let z = margin.clamp(-FARTHEST_PROBIT, FARTHEST_PROBIT);
                let density = normal_density(z);
                (density / normal_cdf(z)) * (density / normal_cdf(-z))
            }
            Link::Cloglog => {
                // Beyond this margin the curvature is nothing, and its factors have no double.
                let e = exp(margin.min(6.0));
                e / one_less_exp(e) * e * exp(-e)
            }
            _ => self.mean(margin).map_or(0.0, |(mean, change)| change * self.family.over_variance(mean, change)),
        }
    }
}

/// The log loss of the probit link and its slope.
fn probit(margin: f64, label: f64) -> (f64, f64) {
    let z = margin.clamp(-FARTHEST_PROBIT, FARTHEST_PROBIT);
    let (yes, no, density) = (normal_cdf(z), normal_cdf(-z), normal_density(z));
    let loss = -(label * ln(yes) + (1.0 - label) * ln(no));
    (loss, (1.0 - label) * density / no - label * density / yes)
}

/// The log loss of the complementary log-log link and its slope.
fn cloglog(margin: f64, label: f64) -> (f64, f64) {
    let e = exp(margin);
    let yes = one_less_exp(e);
    let loss = (1.0 - label) * e - label * ln(yes);
    (loss, (1.0 - label) * e - label * (e / yes) * exp(-e))
}

/// `1 - e^-x` for `x` above 0.
fn one_less_exp(x: f64) -> f64 {
    if x > 0.5 {
        return 1.0 - exp(-x);
    }
    // x - x^2 / 2 + x^3 / 6 ..., whose first terms the difference would lose.
    (1..=16).rev().fold(0.0, |sum, k| (1.0 - sum) * x / f64::from(k))
}

/// The margin whose probability is `p`, by halving.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-FARTHEST_PROBIT, FARTHEST_PROBIT);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if normal_cdf(middle) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_losses() {
        for family in Family::ALL {
            for &link in family.links() {
                let deviance = Deviance { family, link };
                for (margin, label) in [(0.3, 1.0), (1.7, 0.0), (2.5, 1.0), (0.8, 1.0)] {
                    if !family.allows(label) {
                        continue;
                    }
                    let at = |z| deviance.loss_and_slope(z, label);
                    let numeric = (at(margin + 1e-6).0 - at(margin - 1e-6).0) / 2e-6;
                    let slope = at(margin).1;
                    assert!((slope - numeric).abs() < 1e-6 * slope.abs().max(1.0), "{deviance:?} {slope} {numeric}");
                    assert!(deviance.curvature(margin, label) >= 0.0);
                }
                let mean = 0.35;
                assert!((link.mean(link.margin(mean)) - mean).abs() < 1e-14, "{link:?}");
            }
        }
    }

    #[test]
    fn margins_far_out_have_finite_losses() {
        for link in [Link::Logit, Link::Probit, Link::Cloglog] {
            let deviance = Deviance { family: Family::Binomial, link };
            for (margin, label) in [(-900.0, 1.0), (-900.0, 0.0), (6.0, 0.0), (900.0, 1.0)] {
                let (loss, slope) = deviance.loss_and_slope(margin, label);
                assert!(loss.is_finite() && slope.is_finite(), "{link:?} at {margin} of {label}: {loss}, {slope}");
                assert!(deviance.curvature(margin, label).is_finite(), "{link:?} at {margin}");
            }
        }
        assert!((one_less_exp(1e-12) / 1e-12 - 1.0).abs() < 1e-11);
    }
}
