//! Grids of candidates.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fold::{FoldKey, fold_hash};
use super::support::math::{exp, ln};
use super::support::random::Random;
use super::{Estimator, Params, ProblemType};
use crate::{MlError, Result};

/// The most candidates of one grid: a misplaced list multiplies fast.
const MOST_CANDIDATES: usize = 10_000;

/// One point of a grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its place in the grid, from 0.
    pub id: usize,
    /// The estimator's name.
    pub estimator: String,
    /// Its parameters.
    pub params: Params,
}

/// Parameters and the values to try, by estimator.
///
/// In JSON: `{estimator: {param: value | [values] | {distribution: [low, high]}}}`. A list is always a list of values to try;
/// a parameter that is itself a list is written as a list of lists. Distributions are for [`Self::sample`]; a mapping without
/// a list is a value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ParamGrid(pub BTreeMap<String, BTreeMap<String, Value>>);

impl ParamGrid {
    /// Reads a grid from JSON.
    ///
    /// # Errors
    /// Anything but an object of objects.
    pub fn from_json(grid: &Value) -> Result<Self> {
        let wrong = |what: String| {
            MlError::Invalid(format!("grid: expected {{estimator: {{param: value or [values]}}}}, got {what}"))
        };
        let estimators = grid.as_object().ok_or_else(|| wrong(grid.to_string()))?;
        let mut out = BTreeMap::new();
        for (estimator, params) in estimators {
            let params = match params {
                Value::Null => BTreeMap::new(),
                Value::Object(params) => params.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
                other => return Err(wrong(format!("{estimator}: {other}"))),
            };
            out.insert(estimator.clone(), params);
        }
        Ok(Self(out))
    }

    /// All candidates: estimators and parameters by name, values in their order, the last parameter changing fastest.
    ///
    /// # Errors
    /// An empty grid, a parameter without values, or too many candidates.
    pub fn expand(&self) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for (estimator, params) in &self.0 {
            for params in combinations(estimator, params)? {
                candidates.push(Candidate { id: candidates.len(), estimator: estimator.clone(), params });
            }
        }
        if candidates.is_empty() {
            return Err(MlError::Invalid("the grid is empty; name at least one estimator".into()));
        }
        Ok(candidates)
    }

    /// All candidates, each checked by its estimator before anything runs.
    ///
    /// # Errors
    /// Those of [`Self::expand`], of `estimator_of`, and the first candidate with wrong parameters.
    pub fn candidates(
        &self,
        problem: ProblemType,
        estimator_of: impl Fn(&str) -> Result<Arc<dyn Estimator>>,
    ) -> Result<Vec<Candidate>> {
        checked(self.expand()?, problem, estimator_of)
    }

    /// `n` candidates of each estimator, drawn by a seed (Bergstra, Bengio 2012): of a list each value is as likely as
    /// another, and of a distribution the number is drawn. Distributions are `{uniform: [low, high]}`,
    /// `{log_uniform: [low, high]}` (its logarithm is uniform) and `{int_uniform: [low, high]}` (whole numbers, both ends in). A
    /// candidate's draw depends on the seed, its number, the estimator and the parameter alone. Equal candidates are drawn
    /// once.
    ///
    /// # Errors
    /// An empty grid, a parameter without values, a distribution that is none, and the first candidate with wrong parameters.
    pub fn sample(
        &self,
        n: usize,
        seed: u64,
        problem: ProblemType,
        estimator_of: impl Fn(&str) -> Result<Arc<dyn Estimator>>,
    ) -> Result<Vec<Candidate>> {
        let mut candidates: Vec<Candidate> = Vec::new();
        if n > MOST_CANDIDATES {
            return Err(MlError::Invalid(format!("{n} candidates are more than {MOST_CANDIDATES}")));
        }
        for (estimator, params) in &self.0 {
            for number in 0..n as u64 {
                let draw = |(name, values): (&String, &Value)| {
                    let purpose = fold_hash(FoldKey::Text(&format!("{estimator} {name}")), number);
                    let drawn = draw(values, &mut Random::new(seed, purpose));
                    let wrong = |why| MlError::Invalid(format!("grid: {estimator} {name}: {why}, got {values}"));
                    Ok((name.clone(), drawn.map_err(wrong)?))
                };
                let params: Params = params.iter().map(draw).collect::<Result<_>>()?;
                if !candidates.iter().any(|c| c.estimator == *estimator && c.params == params) {
                    candidates.push(Candidate { id: candidates.len(), estimator: estimator.clone(), params });
                }
            }
        }
        if candidates.is_empty() {
            return Err(MlError::Invalid("the grid is empty; name at least one estimator".into()));
        }
        checked(candidates, problem, estimator_of)
    }
}

/// Candidates, each checked by its estimator.
fn checked(
    candidates: Vec<Candidate>,
    problem: ProblemType,
    estimator_of: impl Fn(&str) -> Result<Arc<dyn Estimator>>,
) -> Result<Vec<Candidate>> {
    for candidate in &candidates {
        let checked = estimator_of(&candidate.estimator).and_then(|e| e.validate(&candidate.params, problem));
        checked.map_err(|e| MlError::Invalid(format!("candidate {}: {e}", candidate.id)))?;
    }
    Ok(candidates)
}

/// A value of a list, a number of a distribution, or the value itself.
fn draw(values: &Value, random: &mut Random) -> std::result::Result<Value, &'static str> {
    match values {
        Value::Array(values) if values.is_empty() => return Err("there are no values"),
        Value::Array(values) => return Ok(values[random.below(values.len())].clone()),
        _ => {}
    }
    let Some(distribution) = distribution(values) else { return Ok(values.clone()) };
    let expected = "expected {uniform | log_uniform | int_uniform: [low, high]}";
    let Some((name, bounds)) = distribution.iter().next().filter(|_| distribution.len() == 1) else {
        return Err(expected);
    };
    let bounds: Option<Vec<f64>> = bounds.as_array().map(|b| b.iter().filter_map(Value::as_f64).collect());
    let Some([low, high]) = bounds.as_deref() else { return Err(expected) };
    if low > high {
        return Err("the low end is above the high one");
    }
    let drawn = match name.as_str() {
        "uniform" => low + random.unit() * (high - low),
        "log_uniform" if *low <= 0.0 => return Err("log_uniform is for numbers above 0"),
        "log_uniform" => exp(ln(*low) + random.unit() * (ln(*high) - ln(*low))).clamp(*low, *high),
        "int_uniform" if low.fract() != 0.0 || high.fract() != 0.0 => return Err("int_uniform is for whole numbers"),
        "int_uniform" => return Ok(Value::from(*low as i64 + random.below((high - low) as usize + 1) as i64)),
        _ => return Err(expected),
    };
    Ok(Value::from(drawn))
}

/// The distribution that a mapping is: it has a list. A mapping of numbers is a value, such as one of bounds by feature.
fn distribution(values: &Value) -> Option<&Map<String, Value>> {
    values.as_object().filter(|mapping| mapping.values().any(Value::is_array))
}

fn combinations(estimator: &str, params: &BTreeMap<String, Value>) -> Result<Vec<Params>> {
    let mut all = vec![Params::new()];
    for (name, values) in params {
        if distribution(values).is_some() {
            return Err(MlError::Invalid(format!(
                "grid: {estimator} {name} is a distribution, got {values}; distributions are drawn from by search: random"
            )));
        }
        let values = values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice);
        if values.is_empty() {
            return Err(MlError::Invalid(format!("grid: {estimator} {name} has no values")));
        }
        if all.len() * values.len() > MOST_CANDIDATES {
            return Err(MlError::Invalid(format!("grid: {estimator} has more than {MOST_CANDIDATES} candidates")));
        }
        all = all.iter().flat_map(|params| values.iter().map(|v| with(params, name, v))).collect();
    }
    Ok(all)
}

fn with(params: &Params, name: &str, value: &Value) -> Params {
    let mut params = params.clone();
    params.insert(name.to_owned(), value.clone());
    params
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::estimator::logistic_regression::LogisticRegression;

    fn lookup(name: &str) -> Result<Arc<dyn Estimator>> {
        match name {
            "logistic_regression" => Ok(Arc::new(LogisticRegression)),
            other => Err(MlError::Invalid(format!("no estimator {other:?}"))),
        }
    }

    #[test]
    fn a_grid_is_the_product_of_its_values_in_order() {
        let grid =
            json!({"logistic_regression": {"reg_param": [0.1, 0.01], "elastic_net_param": [0.0, 1.0], "tol": 1e-8}});
        let candidates = ParamGrid::from_json(&grid).unwrap().candidates(ProblemType::Binary, lookup).unwrap();
        let seen: Vec<_> = candidates
            .iter()
            .map(|c| (c.id, c.params["elastic_net_param"].as_f64(), c.params["reg_param"].as_f64()))
            .collect();
        assert_eq!(
            seen,
            [
                (0, Some(0.0), Some(0.1)),
                (1, Some(0.0), Some(0.01)),
                (2, Some(1.0), Some(0.1)),
                (3, Some(1.0), Some(0.01))
            ]
        );
        assert!(candidates.iter().all(|c| c.params["tol"] == json!(1e-8)));
    }

    #[test]
    fn a_wrong_candidate_is_named_before_anything_runs() {
        let grid = json!({"logistic_regression": {"reg_param": [0.1, -1]}});
        let error =
            ParamGrid::from_json(&grid).unwrap().candidates(ProblemType::Binary, lookup).unwrap_err().to_string();
        assert_eq!(error, "candidate 1: logistic_regression reg_param: expected a number of at least 0, got -1");
        let grid = json!({"logistic_regression": {"regparam": 0.1}});
        let error =
            ParamGrid::from_json(&grid).unwrap().candidates(ProblemType::Binary, lookup).unwrap_err().to_string();
        assert!(error.contains("did you mean \"reg_param\"?"), "{error}");
    }

    #[test]
    fn empty_grids_are_errors() {
        assert!(ParamGrid::from_json(&json!({})).unwrap().expand().is_err());
        assert!(ParamGrid::from_json(&json!({"logistic_regression": {"tol": []}})).unwrap().expand().is_err());
        assert!(ParamGrid::from_json(&json!([1])).is_err());
        assert_eq!(ParamGrid::from_json(&json!({"x": null})).unwrap().expand().unwrap().len(), 1);
    }

    #[test]
    fn draws_follow_their_distributions_and_the_seed() {
        let grid = json!({"logistic_regression": {
            "reg_param": {"log_uniform": [1e-4, 1.0]},
            "elastic_net_param": {"uniform": [0.25, 0.75]},
            "max_iter": {"int_uniform": [3, 5]},
            "fit_intercept": [true, false],
        }});
        let grid = ParamGrid::from_json(&grid).unwrap();
        let sample = |n, seed| grid.sample(n, seed, ProblemType::Binary, lookup).unwrap();
        let drawn = sample(400, 7);
        let number = |c: &Candidate, name: &str| c.params[name].as_f64().unwrap();
        let share =
            |keep: &dyn Fn(&Candidate) -> bool| drawn.iter().filter(|c| keep(c)).count() as f64 / drawn.len() as f64;
        assert_eq!(drawn.len(), 400);
        assert!(drawn.iter().all(|c| (1e-4..=1.0).contains(&number(c, "reg_param"))));
        assert!(drawn.iter().all(|c| (0.25..=0.75).contains(&number(c, "elastic_net_param"))));
        // Half of the logarithms are below 1e-2; four deviations of 400 draws are 0.1.
        assert!((share(&|c| number(c, "reg_param") < 1e-2) - 0.5).abs() < 0.1);
        assert!((share(&|c| number(c, "max_iter") == 4.0) - 1.0 / 3.0).abs() < 0.1);
        assert!((share(&|c| c.params["fit_intercept"] == true) - 0.5).abs() < 0.1);
        assert_eq!(sample(10, 7), drawn[..10], "the first draws do not depend on how many follow");
        assert_ne!(sample(10, 8), drawn[..10]);
    }

    #[test]
    fn a_mapping_without_a_list_is_a_value() {
        let bounds = json!({"x": 0, "y": 0.5});
        let grid = json!({"logistic_regression": {"lower_bounds_on_coefficients": bounds}});
        let grid = ParamGrid::from_json(&grid).unwrap();
        let drawn = grid.sample(3, 1, ProblemType::Binary, lookup).unwrap();
        assert_eq!(drawn, grid.candidates(ProblemType::Binary, lookup).unwrap());
        assert_eq!(drawn[0].params["lower_bounds_on_coefficients"], bounds);
    }

    #[test]
    fn equal_draws_are_one_candidate() {
        let grid = ParamGrid::from_json(&json!({"logistic_regression": {"fit_intercept": [true, false]}})).unwrap();
        assert_eq!(grid.sample(50, 1, ProblemType::Binary, lookup).unwrap().len(), 2);
    }

    #[test]
    fn wrong_distributions_say_what_is_expected() {
        let error = |values: Value| {
            let grid = ParamGrid::from_json(&json!({"logistic_regression": {"reg_param": values}})).unwrap();
            grid.sample(1, 1, ProblemType::Binary, lookup).unwrap_err().to_string()
        };
        assert!(error(json!({"normal": [0, 1]})).contains("expected {uniform | log_uniform | int_uniform"));
        assert!(error(json!({"uniform": [1, 0]})).contains("the low end is above the high one"));
        assert!(error(json!({"log_uniform": [0, 1]})).contains("log_uniform is for numbers above 0"));
        assert!(error(json!({"int_uniform": [0.5, 1]})).contains("int_uniform is for whole numbers"));
        assert!(error(json!({"uniform": [-2, -1]})).contains("candidate 0"));
        let grid = ParamGrid::from_json(&json!({"logistic_regression": {"reg_param": {"uniform": [0, 1]}}})).unwrap();
        assert!(grid.expand().unwrap_err().to_string().contains("search: random"));
    }
}
