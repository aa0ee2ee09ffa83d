//! Checks of training data and artifacts that every estimator makes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::estimator::Artifacts;
use crate::matrix::{Feature, FeatureValues, Features, Matrix};
use crate::{MlError, Result};

/// The 0/1 labels of the rows to train on.
///
/// # Errors
/// No rows, a label that is neither 0 nor 1, or rows that are all of one class.
pub(crate) fn binary_labels(matrix: &Matrix, rows: &[u32]) -> Result<Vec<f64>> {
    let labels: Vec<f64> = rows.iter().map(|&r| matrix.label[r as usize]).collect();
    if let Some(bad) = labels.iter().find(|v| **v != 0.0 && **v != 1.0) {
        return Err(MlError::Invalid(format!("the label must be 0 or 1, got {bad}")));
    }
    let positives = labels.iter().filter(|v| **v == 1.0).count();
    if positives == 0 || positives == labels.len() {
        let class = u8::from(positives > 0);
        return Err(MlError::Invalid(format!(
            "the label has one class only: all {} training rows are {class}; both 0 and 1 are needed",
            labels.len()
        )));
    }
    Ok(labels)
}

/// Checks that no number of the training rows is missing or infinite.
///
/// # Errors
/// The first such column by name, with how many of its values are missing.
pub(crate) fn numbers_are_present(matrix: &Matrix, rows: &[u32]) -> Result<()> {
    for (feature, values) in matrix.x.features.iter().zip(&matrix.x.values) {
        let FeatureValues::Number(values) = values else { continue };
        let missing = rows.iter().filter(|&&r| !values[r as usize].is_finite()).count();
        if missing > 0 {
            return Err(MlError::Invalid(format!(
                "column {:?} has {missing} missing or infinite values in {} training rows; put an imputer before \
                 this estimator",
                feature.name,
                rows.len()
            )));
        }
    }
    Ok(())
}

/// Checks that rows to score have the columns of the fit, in order.
///
/// # Errors
/// The columns expected and the columns that came.
pub(crate) fn same_columns(expected: &[Feature], x: &Features) -> Result<()> {
    let kinds_agree = x.values.len() == expected.len()
        && expected.iter().zip(&x.values).all(|(f, v)| {
            matches!(
                (&f.kind, v),
                (crate::matrix::FeatureKind::Number, FeatureValues::Number(_))
                    | (crate::matrix::FeatureKind::Category { .. }, FeatureValues::Category(_))
            )
        });
    let names_agree = x.features.iter().map(|f| &f.name).eq(expected.iter().map(|f| &f.name));
    if kinds_agree && names_agree {
        return Ok(());
    }
    let names = |f: &[Feature]| f.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
    Err(MlError::Invalid(format!("expected the model's features {}, got {}", names(expected), names(&x.features))))
}

/// One artifact as JSON.
///
/// # Errors
/// [`MlError::Internal`], when the value has no JSON form.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| MlError::Internal(format!("a model has no JSON form: {e}")))
}

/// An artifact's bytes.
///
/// # Errors
/// [`MlError::Corrupt`] when it is absent.
pub(crate) fn artifact<'a>(artifacts: &'a Artifacts, name: &str) -> Result<&'a [u8]> {
    artifacts.get(name).map(Vec::as_slice).ok_or_else(|| {
        let present = artifacts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        corrupt(name, format!("it is absent, the model has {present}"))
    })
}

/// Reads an artifact from JSON.
///
/// # Errors
/// [`MlError::Corrupt`] when it is absent or is not of the form expected.
pub(crate) fn from_json<T: DeserializeOwned>(artifacts: &Artifacts, name: &str) -> Result<T> {
    serde_json::from_slice(artifact(artifacts, name)?).map_err(|e| corrupt(name, e.to_string()))
}

/// An artifact that cannot be read.
pub(crate) fn corrupt(what: &str, why: impl Into<String>) -> MlError {
    MlError::Corrupt { what: what.to_owned(), why: why.into() }
}

/// Checks that an artifact's format is one that this build reads.
///
/// # Errors
/// [`MlError::Corrupt`] naming both formats.
pub(crate) fn known_format(name: &str, format: u32, known: u32) -> Result<()> {
    if format == known {
        return Ok(());
    }
    Err(corrupt(name, format!("expected format {known}, got {format}; a newer build may read it")))
}
