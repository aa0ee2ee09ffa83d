//! Checks of training data and artifacts that every estimator makes.

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::estimator::{Artifacts, Model, ProblemType};
use crate::matrix::{Feature, FeatureKind, FeatureValues, Features, Matrix};
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
        return Err(one_class(f64::from(u8::from(positives > 0)), labels.len()));
    }
    Ok(labels)
}

/// Labels that are all of one class.
pub(crate) fn one_class(class: f64, n_rows: usize) -> MlError {
    MlError::Invalid(format!(
        "the label has one class only: all {n_rows} training rows are {class}; both 0 and 1 are needed"
    ))
}

/// The numbers of the classes of the rows to train on.
///
/// # Errors
/// No rows, a label that is no class, or rows that are all of one class.
pub(crate) fn class_labels(matrix: &Matrix, rows: &[u32]) -> Result<Vec<u32>> {
    let n = matrix.n_classes;
    let mut is_present = vec![false; n];
    let mut labels = Vec::with_capacity(rows.len());
    for &row in rows {
        let label = matrix.label[row as usize];
        let Some(class) = class_of(label, n) else {
            return Err(MlError::Invalid(format!("the label must be a whole number from 0, below {n}, got {label}")));
        };
        is_present[class] = true;
        labels.push(class as u32);
    }
    if is_present.iter().filter(|present| **present).count() < 2 {
        let class = labels.first().map_or("none".to_owned(), u32::to_string);
        return Err(one_of_classes(class, labels.len()));
    }
    Ok(labels)
}

/// The number of the class that a label is; none if it is no class.
pub(crate) fn class_of(label: f64, n_classes: usize) -> Option<usize> {
    let class = label as usize;
    (class as f64 == label && class < n_classes).then_some(class)
}

/// Labels that are no classes of a problem of so many, of how many are.
pub(crate) fn no_classes(problem: ProblemType, n_classes: usize, wrong: usize, n_rows: usize) -> MlError {
    let expected = match problem {
        ProblemType::Binary => "0 or 1".to_owned(),
        _ => format!("a whole number from 0, below {n_classes}"),
    };
    MlError::Invalid(format!("the label must be {expected}; {wrong} of {n_rows} training rows have something else"))
}

/// Labels of a multiclass problem that are all of one class.
pub(crate) fn one_of_classes(class: impl Display, n_rows: usize) -> MlError {
    MlError::Invalid(format!(
        "the label has one class only: all {n_rows} training rows are {class}; at least two classes are needed"
    ))
}

/// The labels of the rows to train on, as numbers.
///
/// # Errors
/// No rows, or labels that are NaN or infinite.
pub(crate) fn number_labels(matrix: &Matrix, rows: &[u32]) -> Result<Vec<f64>> {
    let labels: Vec<f64> = rows.iter().map(|&r| matrix.label[r as usize]).collect();
    let wrong = labels.iter().filter(|v| !v.is_finite()).count();
    if wrong > 0 || labels.is_empty() {
        return Err(no_numbers(wrong, labels.len()));
    }
    Ok(labels)
}

/// Labels that are NaN or infinite.
pub(crate) fn no_numbers(wrong: usize, n_rows: usize) -> MlError {
    MlError::Invalid(format!("the label must be a finite number; {wrong} of {n_rows} training rows have none"))
}

/// The weights of the rows to train on; none when all rows count alike.
///
/// # Errors
/// Weights that are negative, NaN or infinite, or that are all 0.
pub(crate) fn weights(matrix: &Matrix, rows: &[u32]) -> Result<Option<Vec<f64>>> {
    let Some(all) = &matrix.weight else { return Ok(None) };
    let weights: Vec<f64> = rows.iter().map(|&r| all[r as usize]).collect();
    check_weights(weights.iter().filter(|w| !is_weight(**w)).count(), weights.len())?;
    if weights.iter().all(|w| *w == 0.0) {
        return Err(no_weight(weights.len()));
    }
    Ok(Some(weights))
}

/// Whether a number can be a row's weight.
pub(crate) fn is_weight(weight: f64) -> bool {
    weight.is_finite() && weight >= 0.0
}

/// Checks that no weight is wrong.
///
/// # Errors
/// How many are.
pub(crate) fn check_weights(wrong: usize, n_rows: usize) -> Result<()> {
    if wrong == 0 {
        return Ok(());
    }
    Err(MlError::Invalid(format!(
        "weights must be finite numbers of at least 0; {wrong} of {n_rows} training rows have others"
    )))
}

/// Weights that are all 0.
pub(crate) fn no_weight(n_rows: usize) -> MlError {
    MlError::Invalid(format!("all {n_rows} training rows have the weight 0"))
}

/// The labels and weights of the rows to train on, of classes and numbers alike.
#[derive(Debug)]
pub(crate) struct Labels {
    /// The label of each row; of classes, its number.
    pub(crate) label: Vec<f64>,
    /// How much each row counts; none when all count alike.
    pub(crate) weight: Option<Vec<f64>>,
    /// How many numbers a row is given: one for each class of a multiclass problem, else one.
    pub(crate) n_outputs: usize,
}

impl Labels {
    /// Reads those of an estimator's problem.
    ///
    /// # Errors
    /// A problem that it is not for, labels that are not the problem's, wrong weights.
    pub(crate) fn new(estimator: &str, known: &[ProblemType], matrix: &Matrix, rows: &[u32]) -> Result<Self> {
        is_for(estimator, matrix.problem, known)?;
        let (label, n_outputs) = match matrix.problem {
            ProblemType::Binary => (binary_labels(matrix, rows)?, 1),
            ProblemType::Multiclass => {
                (class_labels(matrix, rows)?.into_iter().map(f64::from).collect(), matrix.n_classes)
            }
            _ => (number_labels(matrix, rows)?, 1),
        };
        Ok(Self { label, weight: weights(matrix, rows)?, n_outputs })
    }
}

/// Fitted models of one kind as models of any.
pub(crate) fn boxed<M: Model + 'static>(fitted: Vec<Result<M>>) -> Vec<Result<Box<dyn Model>>> {
    fitted.into_iter().map(|fitted| fitted.map(|model| Box::new(model) as Box<dyn Model>)).collect()
}

/// An error of the data as each candidate's error, in the same words; candidates that do not parse keep their own.
pub(crate) fn failed<P, M>(parsed: Vec<Result<P>>, error: &MlError) -> Vec<Result<M>> {
    let text = error.to_string();
    parsed.into_iter().map(|p| p.and(Err(MlError::Invalid(text.clone())))).collect()
}

/// Checks that an estimator is for a problem.
///
/// # Errors
/// The problems that it is for.
pub(crate) fn is_for(estimator: &str, problem: ProblemType, known: &[ProblemType]) -> Result<()> {
    if known.contains(&problem) {
        return Ok(());
    }
    let known = known.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
    Err(MlError::Invalid(format!("{estimator} is for problems of type {known}; the label's problem type is {problem}")))
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
            return Err(missing_numbers(&feature.name, missing, rows.len()));
        }
    }
    Ok(())
}

/// Checks that no number is missing or infinite, of how many are by column of numbers.
///
/// # Errors
/// The first such column by name, with how many.
pub(crate) fn none_missing(features: &[Feature], missing: &[f64], n_rows: usize) -> Result<()> {
    let numbers = features.iter().filter(|feature| feature.kind == FeatureKind::Number);
    match numbers.zip(missing).find(|(_, missing)| **missing > 0.0) {
        Some((feature, missing)) => Err(missing_numbers(&feature.name, *missing as usize, n_rows)),
        None => Ok(()),
    }
}

/// Numbers that are missing or infinite.
fn missing_numbers(column: &str, missing: usize, n_rows: usize) -> MlError {
    MlError::Invalid(format!(
        "column {column:?} has {missing} missing or infinite values in {n_rows} training rows; put an imputer before this \
         estimator"
    ))
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
                (FeatureKind::Number, FeatureValues::Number(_))
                    | (FeatureKind::Category { .. }, FeatureValues::Category(_))
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

/// The number of an artifact's format.
///
/// # Errors
/// [`MlError::Corrupt`] when the artifact is absent or has none.
pub(crate) fn format_of(artifacts: &Artifacts, name: &str) -> Result<u32> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    from_json(artifacts, name).map(|Format { format }| format)
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
