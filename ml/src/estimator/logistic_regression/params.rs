//! Parameters of logistic regression.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::estimator::support::linear::{ElasticNet, RawBounds, columns_of};
use crate::estimator::support::options::ParamReader;
use crate::estimator::{Params, ProblemType};
use crate::matrix::Feature;
use crate::suggest::did_you_mean;
use crate::{MlError, Result};

const LOWER: &str = "lower_bounds_on_coefficients";
const UPPER: &str = "upper_bounds_on_coefficients";
const LOWER_INTERCEPT: &str = "lower_bounds_on_intercepts";
const UPPER_INTERCEPT: &str = "upper_bounds_on_intercepts";

/// Parameters of one candidate, with Spark ML's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct LogisticRegressionParams {
    /// The weight of the penalty, at least 0. Default 0.
    pub reg_param: f64,
    /// How much of the penalty is the sum of absolute values, 0 to 1; the rest is half the sum of squares. Default 0.
    pub elastic_net_param: f64,
    /// The most Newton steps; of a multiclass problem, whose steps are shorter, twenty of them count as one.
    /// Default 100.
    pub max_iter: usize,
    /// Steps end when the next one promises to lower the objective by less than `tol * 1e-6` of it. Default 1e-6.
    pub tol: f64,
    /// Whether there is an intercept, which is never penalised. Default true.
    pub fit_intercept: bool,
    /// Whether the penalty counts coefficients of columns scaled to unit deviation, as Spark does. Default true.
    pub standardization: bool,
    /// What coefficients of the columns as they are, of all classes, are at least; constant columns' are 0 for all that.
    /// Beside Spark's, penalties of absolute values may be there. Default no bounds.
    pub lower_bounds_on_coefficients: CoefficientBounds,
    /// What they are at most, no less than the lower bounds. Default no bounds.
    pub upper_bounds_on_coefficients: CoefficientBounds,
    /// What the intercept of a binary problem is at least, up to rounding. Default no bound.
    pub lower_bounds_on_intercepts: Option<f64>,
    /// What it is at most, no less than the lower bound. Default no bound.
    pub upper_bounds_on_intercepts: Option<f64>,
}

/// Bounds on coefficients.
#[derive(Debug, Clone, PartialEq)]
pub enum CoefficientBounds {
    /// One bound for all.
    All(f64),
    /// Bounds by feature, or by column of the one-hot view, which a feature's bound gives way to. The others have none.
    ByName(BTreeMap<String, f64>),
}

impl LogisticRegressionParams {
    /// Reads and checks parameters.
    ///
    /// # Errors
    /// An unknown name, a value out of its range, bounds that no value is between.
    pub fn parse(params: &Params) -> Result<Self> {
        let known = [&ElasticNet::KNOWN[..], &[LOWER, UPPER, LOWER_INTERCEPT, UPPER_INTERCEPT]].concat();
        let read = ParamReader::new(super::NAME, params, &known)?;
        let net = ElasticNet::parse(&read)?;
        let ElasticNet { reg_param, elastic_net_param, max_iter, tol, fit_intercept, standardization } = net;
        let bounds = |name| {
            let expected = "a number, or a mapping of numbers by feature";
            read.value(name, CoefficientBounds::default(), expected, CoefficientBounds::read)
        };
        let bound = |name| read.value(name, None, "a number", |value| finite(value).map(Some));
        let params = Self {
            reg_param,
            elastic_net_param,
            max_iter,
            tol,
            fit_intercept,
            standardization,
            lower_bounds_on_coefficients: bounds(LOWER)?,
            upper_bounds_on_coefficients: bounds(UPPER)?,
            lower_bounds_on_intercepts: bound(LOWER_INTERCEPT)?,
            upper_bounds_on_intercepts: bound(UPPER_INTERCEPT)?,
        };
        params.check_bounds()?;
        Ok(params)
    }

    /// Checks that the parameters are for a problem.
    ///
    /// # Errors
    /// Bounds on the intercepts of more classes than two: their mean is 0 in any case.
    pub(super) fn is_for(&self, problem: ProblemType) -> Result<()> {
        if problem == ProblemType::Binary {
            return Ok(());
        }
        self.no_intercept_bounds(&format!("for problems of type binary; the label's problem type is {problem}"))
    }

    pub(super) fn elastic_net(&self) -> ElasticNet {
        let Self { reg_param, elastic_net_param, max_iter, tol, fit_intercept, standardization, .. } = *self;
        ElasticNet { reg_param, elastic_net_param, max_iter, tol, fit_intercept, standardization }
    }

    /// The bounds of the columns of features and of the intercept; none where nothing has one.
    ///
    /// # Errors
    /// A bound on a feature that is not there, a lower bound above the upper one.
    pub(super) fn raw_bounds(&self, features: &[Feature]) -> Result<Option<RawBounds>> {
        let (no_lower, no_upper) = (f64::NEG_INFINITY, f64::INFINITY);
        let mut lower = self.lower_bounds_on_coefficients.of_columns(LOWER, features, no_lower)?;
        let mut upper = self.upper_bounds_on_coefficients.of_columns(UPPER, features, no_upper)?;
        for ((_, column), (lower, upper)) in columns_of(features).iter().zip(lower.iter().zip(&upper)) {
            in_order(&format!("coefficient {column:?}"), *lower, *upper)?;
        }
        lower.push(self.lower_bounds_on_intercepts.unwrap_or(no_lower));
        upper.push(self.upper_bounds_on_intercepts.unwrap_or(no_upper));
        let has_some = lower.iter().chain(&upper).any(|bound| bound.is_finite());
        Ok(has_some.then_some(RawBounds { lower, upper }))
    }

    /// What can be told of bounds without the features.
    fn check_bounds(&self) -> Result<()> {
        let (lower, upper) = (&self.lower_bounds_on_coefficients, &self.upper_bounds_on_coefficients);
        for name in lower.names().chain(upper.names()) {
            if let (Some(lower), Some(upper)) = (lower.of(name), upper.of(name)) {
                in_order(&format!("coefficient {name:?}"), lower, upper)?;
            }
        }
        if let (CoefficientBounds::All(lower), CoefficientBounds::All(upper)) = (lower, upper) {
            in_order("all coefficients", *lower, *upper)?;
        }
        if let (Some(lower), Some(upper)) = (self.lower_bounds_on_intercepts, self.upper_bounds_on_intercepts) {
            in_order("the intercept", lower, upper)?;
        }
        if self.fit_intercept {
            return Ok(());
        }
        self.no_intercept_bounds("for fits with an intercept; fit_intercept is false")
    }

    fn no_intercept_bounds(&self, why: &str) -> Result<()> {
        let given =
            [(LOWER_INTERCEPT, self.lower_bounds_on_intercepts), (UPPER_INTERCEPT, self.upper_bounds_on_intercepts)];
        match given.iter().find(|(_, bound)| bound.is_some()) {
            Some((name, _)) => Err(MlError::Invalid(format!("{} {name} is {why}; leave it out", super::NAME))),
            None => Ok(()),
        }
    }
}

impl Default for CoefficientBounds {
    /// No bounds.
    fn default() -> Self {
        Self::ByName(BTreeMap::new())
    }
}

impl CoefficientBounds {
    fn read(value: &Value) -> Option<Self> {
        if let Some(bound) = finite(value) {
            return Some(Self::All(bound));
        }
        let by_name = value.as_object()?.iter().map(|(name, bound)| Some((name.clone(), finite(bound)?)));
        by_name.collect::<Option<_>>().map(Self::ByName)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let by_name = match self {
            Self::All(_) => None,
            Self::ByName(bounds) => Some(bounds),
        };
        by_name.into_iter().flatten().map(|(name, _)| name.as_str())
    }

    fn of(&self, name: &str) -> Option<f64> {
        match self {
            Self::All(bound) => Some(*bound),
            Self::ByName(bounds) => bounds.get(name).copied(),
        }
    }

    /// The bound of each column; `none` where there is none.
    fn of_columns(&self, parameter: &str, features: &[Feature], none: f64) -> Result<Vec<f64>> {
        let columns = columns_of(features);
        let known = || columns.iter().flat_map(|(feature, column)| [feature.name.as_str(), column]);
        if let Some(name) = self.names().find(|name| known().all(|known| known != *name)) {
            let suggested = did_you_mean(name, known());
            let features = features.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(MlError::Invalid(format!(
                "{} {parameter}: there is no feature {name:?}{suggested}; the features are {features}",
                super::NAME
            )));
        }
        let bound = |(feature, column): &(&Feature, String)| self.of(column).or_else(|| self.of(&feature.name));
        Ok(columns.iter().map(|column| bound(column).unwrap_or(none)).collect())
    }
}

fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|v| v.is_finite())
}

/// Checks that there is a value between two bounds.
fn in_order(what: &str, lower: f64, upper: f64) -> Result<()> {
    if lower <= upper {
        return Ok(());
    }
    Err(MlError::Invalid(format!(
        "{}: the lower bound {lower} on {what} is above its upper bound {upper}; make it less or leave one out",
        super::NAME
    )))
}
