//! Chooses elements of vectors by a test of each against the label.

use std::slice;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde_json::Value;

use self::element_test::ElementTest;
use super::scaling;
use super::scope::number_expr;
use super::selector::FittedSelector;
use super::{FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::{MlError, Result};

mod distributions;
mod element_test;
mod selection;

pub use selection::Selection;

const NAME: &str = "univariate_feature_selector";
const PARAMS: [&str; 7] =
    ["inputs", "outputs", "label_col", "feature_type", "label_type", "selection_mode", "selection_threshold"];
const CHI_SQ_NAME: &str = "chi_sq_selector";
const CHI_SQ_PARAMS: [&str; 9] =
    ["inputs", "outputs", "label_col", "selector_type", "num_top_features", "percentile", "fpr", "fdr", "fwe"];
const MODES: [&str; 5] = ["num_top_features", "percentile", "fpr", "fdr", "fwe"];

/// Keeps the elements that have most to do with a label, as Spark ML's `UnivariateFeatureSelector`, and, by the
/// chi-squared test, its `ChiSqSelector`.
///
/// The test is chi-squared for categorical features and labels, an analysis of variance for continuous features and
/// categorical labels, and the F test of a regression where both are continuous. Rows whose vector or label is null are
/// left out of the fit; null vectors stay null (Spark fails). Parameters: `inputs`, `outputs`, `label_col` (default
/// `label`), `feature_type` and `label_type` (`categorical` or `continuous`), `selection_mode` (default
/// `num_top_features`; `percentile`, `fpr`, `fdr`, `fwe`) and `selection_threshold` (50, 0.1 and three times 0.05). As
/// `chi_sq_selector` it takes the mode as `selector_type`, and its threshold by the mode's name, in place of the last
/// four.
///
/// Differs from Spark: p-values below 1e-16 are told apart, where Spark has 0 for all of them; where no element is
/// selected, the fit fails (Spark gives empty vectors).
#[derive(Debug, Clone)]
pub struct UnivariateFeatureSelector {
    name: &'static str,
    inputs: Vec<String>,
    outputs: Vec<String>,
    label_col: String,
    test: ElementTest,
    selection: Selection,
}

impl UnivariateFeatureSelector {
    /// Selects from continuous elements by the F test against a continuous label.
    pub fn regression(input: &str, label_col: &str, selection: Selection) -> Self {
        Self::of(ElementTest::Regression, input, label_col, selection)
    }

    /// Selects from continuous elements by their analysis of variance over the classes of a label.
    pub fn anova(input: &str, label_col: &str, selection: Selection) -> Self {
        Self::of(ElementTest::Anova, input, label_col, selection)
    }

    /// Selects from categorical elements by the chi-squared test against the classes of a label.
    pub fn chi_squared(input: &str, label_col: &str, selection: Selection) -> Self {
        Self::of(ElementTest::ChiSquared, input, label_col, selection)
    }

    fn of(test: ElementTest, input: &str, label_col: &str, selection: Selection) -> Self {
        let inputs = vec![input.to_owned()];
        Self { name: NAME, outputs: inputs.clone(), inputs, label_col: label_col.to_owned(), test, selection }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let kind = |name: &str| params.choice(name, &["categorical", "continuous"], "");
        let test = match (kind("feature_type")?.as_str(), kind("label_type")?.as_str()) {
            ("categorical", "categorical") => ElementTest::ChiSquared,
            ("continuous", "categorical") => ElementTest::Anova,
            ("continuous", "continuous") => ElementTest::Regression,
            (feature, label) => {
                return Err(MlError::Invalid(format!(
                    "expected \"feature_type\" and \"label_type\" categorical, or continuous features, got {feature:?} \
                     and {label:?}"
                )));
            }
        };
        let mode = params.choice("selection_mode", &MODES, "num_top_features")?;
        Self::from_params(NAME, &params, test, Selection::parse(&mode, &params, "selection_threshold")?)
    }

    pub(super) fn parse_chi_sq(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &CHI_SQ_PARAMS)?;
        let mode = params.choice("selector_type", &MODES, "num_top_features")?;
        Self::from_params(CHI_SQ_NAME, &params, ElementTest::ChiSquared, Selection::parse(&mode, &params, &mode)?)
    }

    fn from_params(
        name: &'static str,
        params: &StageParams<'_>,
        test: ElementTest,
        selection: Selection,
    ) -> Result<Arc<dyn Stage>> {
        let inputs = params.inputs()?;
        let label_col = params.column("label_col")?.unwrap_or_else(|| "label".to_owned());
        Ok(Arc::new(Self { name, outputs: params.outputs(&inputs)?, inputs, label_col, test, selection }))
    }
}

impl Stage for UnivariateFeatureSelector {
    fn name(&self) -> &str {
        self.name
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn fit_inputs(&self) -> &[String] {
        slice::from_ref(&self.label_col)
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        scope.number(&self.label_col)?;
        self.inputs.iter().try_for_each(|name| scope.dense_vector(name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::vector(name, None)).collect())
    }

    fn aggregates(&self, scope: &Scope) -> Result<Vec<Expr>> {
        let label = number_expr(&self.label_col);
        let mut aggregates = Vec::new();
        for element in scaling::scaled(scope, &self.inputs)? {
            aggregates.extend(self.test.aggregates(element.expr, &label)?);
        }
        Ok(aggregates)
    }

    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        let elements = scaling::scaled(scope, &self.inputs)?;
        let tested = elements.iter().zip(values.chunks(self.test.n_aggregates()));
        let p_values =
            tested.map(|(element, values)| self.test.p_value(&element.name, values)).collect::<Result<Vec<_>>>()?;
        let mut rest = &p_values[..];
        let mut indices = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let (own, others) = rest.split_at(scope.fitted_vector(input)?.min(rest.len()));
            indices.push(self.selection.select(own));
            rest = others;
        }
        FittedSelector::fitted(self.name, scope, &self.inputs, &self.outputs, indices)
    }
}
