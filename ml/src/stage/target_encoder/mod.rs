//! Categories to the label's mean, in training out of fold where asked.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::{abs, isnan};
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::when;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::cross_fit::CrossFit;
use super::scope::{number_expr, text_expr};
use super::{FittedOutput, FittedStage, Invalid, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::category_counts::MAX_CATEGORIES;
use crate::functions::category_means::{self, CategoryMean};
use crate::functions::category_value::{CategoryNumbers, category_value};
use crate::functions::exact_moments;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

mod cross_fit;
#[cfg(test)]
mod tests;

const NAME: &str = "target_encoder";
const PARAMS: [&str; 9] =
    ["inputs", "outputs", "label_col", "target_type", "smoothing", "handle_invalid", "cv", "by", "seed"];

/// What the label is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetType {
    /// 0 or 1; anything else fails the fit.
    Binary,
    /// Any number.
    Continuous,
}

/// The label's mean over the rows of a category, as Spark ML's `TargetEncoder`.
///
/// With `smoothing` m, a category of n rows gets `w · its mean + (1 - w) · the mean over all rows`, `w = n / (n + m)`.
/// Null is a category of its own. Rows whose label is null or NaN are left out of the fit; scoring needs no label.
/// `handle_invalid` says what becomes of a category unseen in the fit, and of a null where the fit had none: `error`
/// (default) fails, `keep` gives the mean over all rows. Means are exact sums divided once, whatever the rows' order.
/// Parameters: `inputs`, `outputs`, `label_col` (default `label`), `target_type` (`binary`, default; `continuous`),
/// `smoothing` (default 0), `handle_invalid`, and for out-of-fold encoding `cv`, `by`, `seed`.
///
/// A row that is encoded by a mean that its own label is part of tells the model that label. With `cv` above 1 the rows
/// of the fit are encoded out of fold, as scikit-learn's `TargetEncoder` does: `fold_hash(by, seed) % cv` deals them to
/// folds, and each gets the means over the other folds ([`FittedStage::training_outputs`]); a category that the other
/// folds do not have gets their mean over all rows. Rows to be scored get the means over all rows of the fit. Rows of
/// equal `by`, a whole number, a date or text, share a fold. All of it is found in the same pass over the rows. A saved
/// encoder scores; the means of its folds are not kept, and asking it for training outputs is an error.
///
/// Differs from Spark: categories are any text, number or boolean, read as text (Spark's are whole numbers from 0 on),
/// so NaN is a category, and -0.0 is another one than 0.0.
#[derive(Debug, Clone)]
pub struct TargetEncoder {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The label, and the column that deals rows to folds if there are any: what only the fit reads.
    fit_inputs: Vec<String>,
    cross_fit: Option<CrossFit>,
    target_type: TargetType,
    smoothing: f64,
    invalid: Invalid,
}

impl TargetEncoder {
    /// Encodes in place by the mean of a binary label, without smoothing.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, label_col: &str) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self {
            outputs: inputs.clone(),
            inputs,
            fit_inputs: vec![label_col.to_owned()],
            cross_fit: None,
            target_type: TargetType::Binary,
            smoothing: 0.0,
            invalid: Invalid::Error,
        }
    }

    /// The same for another kind of label.
    #[must_use]
    pub fn with_target_type(self, target_type: TargetType) -> Self {
        Self { target_type, ..self }
    }

    /// The same with so many rows' worth of the mean over all rows in each category.
    ///
    /// # Errors
    /// A number below 0, or one that is not finite.
    pub fn with_smoothing(self, smoothing: f64) -> Result<Self> {
        if smoothing.is_finite() && smoothing >= 0.0 {
            return Ok(Self { smoothing, ..self });
        }
        Err(MlError::Invalid(format!("expected a finite \"smoothing\" of at least 0, got {smoothing}")))
    }

    /// The same, encoding the rows of the fit out of `cv` folds, dealt by the hash of the column `by`.
    ///
    /// # Errors
    /// A number of folds outside 2 to 50.
    pub fn with_cross_fit(self, cv: u32, by: &str, seed: u64) -> Result<Self> {
        let cross_fit = CrossFit::new(cv, by, seed)?;
        let fit_inputs = vec![self.fit_inputs[0].clone(), by.to_owned()];
        Ok(Self { fit_inputs, cross_fit: Some(cross_fit), ..self })
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let label_col = match params.columns("label_col")?.as_deref() {
            None => "label".to_owned(),
            Some([label_col]) => label_col.clone(),
            Some(several) => return Err(MlError::Invalid(format!("\"label_col\" is one column, got {several:?}"))),
        };
        let target_type = match params.choice("target_type", &["binary", "continuous"], "binary")?.as_str() {
            "continuous" => TargetType::Continuous,
            _ => TargetType::Binary,
        };
        let invalid = params.choice("handle_invalid", &["error", "keep"], "error")?;
        let stage = Self {
            outputs: params.outputs(&inputs)?,
            target_type,
            invalid: Invalid::parse(&invalid).unwrap_or(Invalid::Error),
            ..Self::new(inputs, &label_col)
        };
        let stage = stage.with_smoothing(params.number("smoothing", 0.0)?)?;
        Ok(Arc::new(match CrossFit::parse(&params)? {
            Some(CrossFit { cv, by, seed }) => stage.with_cross_fit(cv, &by, seed)?,
            None => stage,
        }))
    }

    fn label_col(&self) -> &str {
        &self.fit_inputs[0]
    }

    fn label(&self) -> Expr {
        number_expr(self.label_col())
    }

    /// The label where `condition` is true, and null elsewhere.
    fn label_where(&self, condition: Expr) -> Result<Expr> {
        Ok(when(condition, self.label()).otherwise(lit(ScalarValue::Float64(None)))?)
    }

    fn one_fold_only(&self) -> MlError {
        let by = self.cross_fit.as_ref().map_or("", |cross_fit| cross_fit.by.as_str());
        MlError::Invalid(format!(
            "all rows with a label are in one fold of column {by:?}; take a \"by\" of more values, or another \"seed\""
        ))
    }

    fn check_label(&self, wrong: &ScalarValue) -> Result<()> {
        match exact_moments::from_scalar(wrong)?.max {
            Some(wrong) if self.target_type == TargetType::Binary => Err(MlError::Invalid(format!(
                "label {:?} has the value {wrong}; expected 0 and 1, or target_type = continuous",
                self.label_col()
            ))),
            _ => Ok(()),
        }
    }

    /// What is found over the rows for which `rows` is true: the moments of the label, and each column's means.
    fn statistics(&self, rows: Expr) -> Result<Vec<Expr>> {
        let present = self.label_where(rows.clone().and(!isnan(self.label())))?;
        let label = self.label_where(rows)?;
        let means = self.inputs.iter().map(|column| category_means::category_means(text_expr(column), label.clone()));
        Ok([exact_moments::exact_moments(present)].into_iter().chain(means).collect())
    }

    /// The encodings of what [`Self::statistics`] found; none where no row has a label.
    fn encodings(&self, statistics: &[ScalarValue], invalid: Invalid) -> Result<Option<Vec<Encoding>>> {
        let Some((label, means)) = statistics.split_first() else {
            return Err(MlError::Internal(format!("{NAME} is fitted without statistics of its label")));
        };
        let Some(overall) = exact_moments::from_scalar(label)?.mean else { return Ok(None) };
        let encoding = |(column, means): (&String, &ScalarValue)| {
            self.encoding(column, category_means::from_scalar(means)?, overall, invalid)
        };
        self.inputs.iter().zip(means).map(encoding).collect::<Result<_>>().map(Some)
    }

    /// What was found for one column.
    fn encoding(
        &self,
        column: &str,
        means: Option<Vec<CategoryMean>>,
        overall: f64,
        invalid: Invalid,
    ) -> Result<Encoding> {
        let Some(means) = means else {
            return Err(MlError::Invalid(format!(
                "column {column:?} has more than {MAX_CATEGORIES} distinct values; group the rare ones in SQL, or leave \
                 it out"
            )));
        };
        let smoothed = |mean: &CategoryMean| {
            let weight = mean.count as f64 / (mean.count as f64 + self.smoothing);
            weight * mean.mean + (1.0 - weight) * overall
        };
        let null = means.iter().find(|mean| mean.value.is_none()).map(smoothed);
        let known = means.iter().filter_map(|mean| Some((mean.value.clone()?, smoothed(mean))));
        let (labels, mut numbers): (Vec<String>, Vec<f64>) = known.unzip();
        if invalid == Invalid::Keep {
            numbers.push(overall);
        }
        Ok(Encoding { labels, numbers, null: null.into_iter().collect() })
    }
}

impl Stage for TargetEncoder {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn fit_inputs(&self) -> &[String] {
        &self.fit_inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        for name in &self.inputs {
            scope.values(name)?;
        }
        scope.number(self.label_col())?;
        self.cross_fit.iter().try_for_each(|cross_fit| cross_fit.check(scope))?;
        Ok(self.outputs.iter().map(|name| StageColumn::number(name)).collect())
    }

    /// The moments of what a binary label cannot be, then the statistics of all rows and of those outside each fold.
    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        // Comparisons here tell -0.0 from 0.0; its magnitude is one zero.
        let wrong = abs(self.label()).not_eq(lit(0.0)).and(self.label().not_eq(lit(1.0))).and(!isnan(self.label()));
        let mut aggregates = vec![exact_moments::exact_moments(self.label_where(wrong)?)];
        aggregates.extend(self.statistics(lit(true))?);
        for others in self.cross_fit.iter().flat_map(CrossFit::complements) {
            aggregates.extend(self.statistics(others)?);
        }
        Ok(aggregates)
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let damaged = || MlError::Internal(format!("{NAME} is fitted with {} values", values.len()));
        let (wrong, statistics) = values.split_first().ok_or_else(damaged)?;
        self.check_label(wrong)?;
        let mut statistics = statistics.chunks(1 + self.inputs.len());
        let all_rows = statistics.next().ok_or_else(damaged)?;
        let encodings = self
            .encodings(all_rows, self.invalid)?
            .ok_or_else(|| MlError::Invalid(format!("label {:?} has no value that is present", self.label_col())))?;
        // What the other folds lack gets their mean, as an unseen category does with `keep`.
        let folds =
            statistics.map(|others| self.encodings(others, Invalid::Keep)).collect::<Result<Option<Vec<_>>>>()?;
        let out_of_fold = folds.ok_or_else(|| self.one_fold_only())?;
        Ok(Arc::new(FittedTargetEncoder {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            encodings,
            handle_invalid: self.invalid.as_str().to_owned(),
            cross_fit: self.cross_fit.clone(),
            out_of_fold,
        }))
    }
}

/// The numbers of one column's categories.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Encoding {
    pub(super) labels: Vec<String>,
    /// One for each label and, with `keep`, one for what is not among them.
    #[serde(with = "exact::list")]
    pub(super) numbers: Vec<f64>,
    /// That of null, if the fit had any.
    #[serde(with = "exact::list")]
    pub(super) null: Vec<f64>,
}

impl Encoding {
    /// The number of a column's value; `stage` is for messages.
    pub(super) fn expr(&self, column: &str, invalid: Invalid, stage: &str) -> Expr {
        let (labels, numbers, null) = (&self.labels, &self.numbers, self.null.first().copied());
        category_value(text_expr(column), CategoryNumbers { labels, numbers, null, invalid }, stage, column)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedTargetEncoder {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// One for each input.
    encodings: Vec<Encoding>,
    handle_invalid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cross_fit: Option<CrossFit>,
    /// For each fold the encodings that the other folds give, one for each input. Scoring needs none: not saved.
    #[serde(skip)]
    out_of_fold: Vec<Vec<Encoding>>,
}

impl FittedTargetEncoder {
    /// One output for each input, by the expression that `expr` makes of the input and its number.
    fn outputs_by(&self, expr: impl Fn(&str, usize) -> Result<Expr>) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).enumerate();
        let output = |(number, (input, output)): (usize, (&String, &String))| {
            Ok(FittedOutput { column: output.clone(), expr: expr(input, number)?, kind: FeatureKind::Number })
        };
        columns.map(output).collect()
    }
}

impl FittedStage for FittedTargetEncoder {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let invalid = Invalid::parse(&self.handle_invalid).unwrap_or(Invalid::Error);
        self.outputs_by(|input, number| match self.encodings.get(number) {
            Some(encoding) => Ok(encoding.expr(input, invalid, NAME)),
            None => Err(MlError::Corrupt {
                what: format!("a fitted {NAME}"),
                why: format!("it has no encoding of its column {input:?}"),
            }),
        })
    }

    fn training_inputs(&self) -> &[String] {
        self.cross_fit.as_ref().map_or(&[], |cross_fit| std::slice::from_ref(&cross_fit.by))
    }

    fn training_outputs(&self) -> Result<Option<Vec<FittedOutput>>> {
        let Some(cross_fit) = &self.cross_fit else { return Ok(None) };
        let in_fold = |fold: &Vec<Encoding>, input: &str, number: usize| fold[number].expr(input, Invalid::Keep, NAME);
        let outputs = self.outputs_by(|input, number| {
            let folds = self.out_of_fold.iter().map(|fold| in_fold(fold, input, number));
            cross_fit.by_fold(folds.collect())
        });
        outputs.map(Some)
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.encodings);
        let lines: Vec<String> = columns.map(|(c, e)| format!("{c} has {} categories", e.labels.len())).collect();
        let folds = self.cross_fit.as_ref().map(CrossFit::describe).unwrap_or_default();
        format!("{}; invalid: {}{folds}", lines.join(", "), self.handle_invalid)
    }
}
