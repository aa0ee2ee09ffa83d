//! Grids of candidates.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Estimator, Params};
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
/// In JSON: `{estimator: {param: value | [values]}}`. A list is always a list of values to try; a parameter that is
/// itself a list is written as a list of lists.
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
    pub fn candidates(&self, estimator_of: impl Fn(&str) -> Result<Arc<dyn Estimator>>) -> Result<Vec<Candidate>> {
        let candidates = self.expand()?;
        for candidate in &candidates {
            let checked = estimator_of(&candidate.estimator).and_then(|e| e.validate(&candidate.params));
            checked.map_err(|e| MlError::Invalid(format!("candidate {}: {e}", candidate.id)))?;
        }
        Ok(candidates)
    }
}

fn combinations(estimator: &str, params: &BTreeMap<String, Value>) -> Result<Vec<Params>> {
    let mut all = vec![Params::new()];
    for (name, values) in params {
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
        let candidates = ParamGrid::from_json(&grid).unwrap().candidates(lookup).unwrap();
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
        let error = ParamGrid::from_json(&grid).unwrap().candidates(lookup).unwrap_err().to_string();
        assert_eq!(error, "candidate 1: logistic_regression reg_param: expected a number of at least 0, got -1");
        let grid = json!({"logistic_regression": {"regparam": 0.1}});
        let error = ParamGrid::from_json(&grid).unwrap().candidates(lookup).unwrap_err().to_string();
        assert!(error.contains("did you mean \"reg_param\"?"), "{error}");
    }

    #[test]
    fn empty_grids_are_errors() {
        assert!(ParamGrid::from_json(&json!({})).unwrap().expand().is_err());
        assert!(ParamGrid::from_json(&json!({"logistic_regression": {"tol": []}})).unwrap().expand().is_err());
        assert!(ParamGrid::from_json(&json!([1])).is_err());
        assert_eq!(ParamGrid::from_json(&json!({"x": null})).unwrap().expand().unwrap().len(), 1);
    }
}
