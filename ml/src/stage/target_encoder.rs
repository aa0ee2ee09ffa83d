//! Categories to the label's mean.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::{abs, isnan};
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::when;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::{number_expr, text_expr};
use super::{FittedOutput, FittedStage, Invalid, Scope, Stage, StageColumn, StageParams};
use crate::codec::exact;
use crate::functions::category_counts::MAX_CATEGORIES;
use crate::functions::category_means::{self, CategoryMean};
use crate::functions::category_value::{CategoryNumbers, category_value};
use crate::functions::exact_moments;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "target_encoder";
const PARAMS: [&str; 6] = ["inputs", "outputs", "label_col", "target_type", "smoothing", "handle_invalid"];

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
/// `smoothing` (default 0), `handle_invalid`.
///
/// Differs from Spark: categories are any text, number or boolean, read as text (Spark's are whole numbers from 0 on),
/// so NaN is a category, and -0.0 is another one than 0.0.
#[derive(Debug, Clone)]
pub struct TargetEncoder {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The one column that only the fit reads.
    label_col: [String; 1],
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
            label_col: [label_col.to_owned()],
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
        Ok(Arc::new(stage.with_smoothing(params.number("smoothing", 0.0)?)?))
    }

    fn label(&self) -> Expr {
        number_expr(&self.label_col[0])
    }

    /// The label where `condition` is true, and null elsewhere.
    fn label_where(&self, condition: Expr) -> Result<Expr> {
        Ok(when(condition, self.label()).otherwise(lit(ScalarValue::Float64(None)))?)
    }

    fn check_label(&self, wrong: &ScalarValue) -> Result<()> {
        match exact_moments::from_scalar(wrong)?.max {
            Some(wrong) if self.target_type == TargetType::Binary => Err(MlError::Invalid(format!(
                "label {:?} has the value {wrong}; expected 0 and 1, or target_type = continuous",
                self.label_col[0]
            ))),
            _ => Ok(()),
        }
    }

    /// What was found for one column.
    fn encoding(&self, column: &str, means: Option<Vec<CategoryMean>>, overall: f64) -> Result<Encoding> {
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
        if self.invalid == Invalid::Keep {
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
        &self.label_col
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        for name in &self.inputs {
            scope.values(name)?;
        }
        scope.number(&self.label_col[0])?;
        Ok(self.outputs.iter().map(|name| StageColumn::number(name)).collect())
    }

    /// The moments of the label and of what a binary one cannot be, and each column's means.
    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        let present = self.label_where(!isnan(self.label()))?;
        // Comparisons here tell -0.0 from 0.0; its magnitude is one zero.
        let wrong = abs(self.label()).not_eq(lit(0.0)).and(self.label().not_eq(lit(1.0))).and(!isnan(self.label()));
        let label = [present, self.label_where(wrong)?].map(exact_moments::exact_moments);
        let means = self.inputs.iter().map(|column| category_means::category_means(text_expr(column), self.label()));
        Ok(label.into_iter().chain(means).collect())
    }

    fn fit(&self, _scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let [label, wrong, means @ ..] = values else {
            return Err(MlError::Internal(format!("{NAME} is fitted with {} values", values.len())));
        };
        self.check_label(wrong)?;
        let Some(overall) = exact_moments::from_scalar(label)?.mean else {
            let label = &self.label_col[0];
            return Err(MlError::Invalid(format!("label {label:?} has no value that is present")));
        };
        let encoding = |(column, means): (&String, &ScalarValue)| {
            self.encoding(column, category_means::from_scalar(means)?, overall)
        };
        Ok(Arc::new(FittedTargetEncoder {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            encodings: self.inputs.iter().zip(means).map(encoding).collect::<Result<_>>()?,
            handle_invalid: self.invalid.as_str().to_owned(),
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
}

impl FittedStage for FittedTargetEncoder {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.encodings);
        let invalid = Invalid::parse(&self.handle_invalid).unwrap_or(Invalid::Error);
        let output = |((input, output), encoding): ((&String, &String), &Encoding)| FittedOutput {
            column: output.clone(),
            expr: encoding.expr(input, invalid, NAME),
            kind: FeatureKind::Number,
        };
        Ok(columns.map(output).collect())
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let columns = self.inputs.iter().zip(&self.encodings);
        let lines: Vec<String> = columns.map(|(c, e)| format!("{c} has {} categories", e.labels.len())).collect();
        format!("{}; invalid: {}", lines.join(", "), self.handle_invalid)
    }
}
