//! Columns, and elements of vectors, shifted and stretched: what scalers fit to.

use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::when;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::{number_expr, vector_expr};
use super::{FittedOutput, FittedStage, Scope, StageColumn};
use crate::codec::exact;
use crate::functions::vector::element::vector_element;
use crate::functions::vector::shift_scale::shift_scale;
use crate::matrix::{FeatureKind, element_name};
use crate::{MlError, Result};

/// What a scaler writes for each input: a number for a number, a vector for a dense vector.
pub(super) fn plan(scope: &Scope, inputs: &[String], outputs: &[String]) -> Result<Vec<StageColumn>> {
    let column = |(input, output): (&String, &String)| {
        if scope.column(input)?.is_number() {
            return Ok(StageColumn::number(output));
        }
        Ok(StageColumn::vector(output, scope.number_or_vector(input)?))
    };
    inputs.iter().zip(outputs).map(column).collect()
}

/// What is scaled by itself: a column of numbers, or an element of a vector.
pub(super) struct Scaled {
    /// Its name, `x` or `v[0]`, for messages.
    pub(super) name: String,
    /// Its value.
    pub(super) expr: Expr,
}

/// All that is scaled, input by input.
pub(super) fn scaled(scope: &Scope, inputs: &[String]) -> Result<Vec<Scaled>> {
    let mut all = Vec::new();
    for name in inputs {
        match scope.number_or_vector(name)? {
            None => all.push(Scaled { name: name.clone(), expr: number_expr(name) }),
            Some(size) => all.extend(
                (0..size)
                    .map(|i| Scaled { name: element_name(name, i), expr: vector_element(vector_expr(name, size), i) }),
            ),
        }
    }
    Ok(all)
}

/// The error of a column or element that a fit finds no number in.
pub(super) fn nothing_present(name: &str) -> MlError {
    MlError::Invalid(format!("column {name:?} has no value that is present; leave it out"))
}

/// `(x - shift) * scale + offset`; with a scale of 0 it is the offset for every number, infinities too. Null stays
/// null and NaN stays NaN.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Scaling {
    #[serde(with = "exact")]
    pub(super) shift: f64,
    #[serde(with = "exact")]
    pub(super) scale: f64,
    #[serde(with = "exact")]
    pub(super) offset: f64,
}

impl Scaling {
    /// The scaled number, leaving out what does nothing: subtracting 0.0 and multiplying by 1.0 change no bit.
    ///
    /// A constant is not a product with 0.0: that would keep signs and infinities, and simplify differently with and
    /// without nulls.
    pub(super) fn expr(&self, x: Expr) -> Result<Expr> {
        if self.scale == 0.0 {
            return Ok(when(x.clone().is_null().or(isnan(x.clone())), x).otherwise(lit(self.offset))?);
        }
        let shifted = if self.shift == 0.0 { x } else { x - lit(self.shift) };
        let scaled = if self.scale == 1.0 { shifted } else { shifted * lit(self.scale) };
        Ok(if self.offset == 0.0 { scaled } else { scaled + lit(self.offset) })
    }
}

/// A scaler with what it found for each column.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedScaler {
    /// The name of the stage that was fitted.
    stage: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The size of each input that is a vector; empty where none is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sizes: Vec<Option<usize>>,
    /// One for each input that is a number, and for each element of one that is a vector.
    scalings: Vec<Scaling>,
}

impl FittedScaler {
    /// A scaler of these inputs, with a scaling for each of [`scaled`].
    pub(super) fn new(
        stage: &str,
        scope: &Scope,
        inputs: &[String],
        outputs: &[String],
        scalings: Vec<Scaling>,
    ) -> Result<Self> {
        let sizes = inputs.iter().map(|name| scope.number_or_vector(name)).collect::<Result<Vec<_>>>()?;
        let sizes = if sizes.iter().all(Option::is_none) { Vec::new() } else { sizes };
        Ok(Self { stage: stage.to_owned(), inputs: inputs.to_vec(), outputs: outputs.to_vec(), sizes, scalings })
    }

    /// Each input with its size, if it is a vector, and its scalings.
    fn columns(&self) -> impl Iterator<Item = (&String, Option<usize>, &[Scaling])> {
        let sizes = self.sizes.iter().copied().chain(std::iter::repeat(None));
        let mut rest = &self.scalings[..];
        self.inputs.iter().zip(sizes).map(move |(input, size)| {
            let (own, others) = rest.split_at(size.unwrap_or(1).min(rest.len()));
            rest = others;
            (input, size, own)
        })
    }

    fn output(&self, input: &str, size: Option<usize>, scalings: &[Scaling]) -> Result<(Expr, FeatureKind)> {
        match (size, scalings) {
            (None, [scaling]) => Ok((scaling.expr(number_expr(input))?, FeatureKind::Number)),
            (Some(size), scalings) if scalings.len() == size => {
                let each = |part: fn(&Scaling) -> f64| scalings.iter().map(part).collect::<Vec<f64>>();
                let (shifts, scales, offsets) = (each(|s| s.shift), each(|s| s.scale), each(|s| s.offset));
                Ok((shift_scale(vector_expr(input, size), &shifts, &scales, &offsets), FeatureKind::Vector { size }))
            }
            _ => Err(MlError::Corrupt {
                what: "a fitted stage".to_owned(),
                why: format!("{} of column {input:?} has {} scalings", self.stage, scalings.len()),
            }),
        }
    }
}

impl FittedStage for FittedScaler {
    fn name(&self) -> &str {
        &self.stage
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for ((input, size, scalings), output) in self.columns().zip(&self.outputs) {
            let (expr, kind) = self.output(input, size, scalings)?;
            outputs.push(FittedOutput { column: output.clone(), expr, kind });
        }
        Ok(outputs)
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        let line = |name: &str, s: &Scaling| format!("({name} - {}) * {} + {}", s.shift, s.scale, s.offset);
        let mut lines = Vec::with_capacity(self.scalings.len());
        for (column, size, scalings) in self.columns() {
            lines.extend(scalings.iter().enumerate().map(|(i, scaling)| match size {
                None => line(column, scaling),
                Some(_) => line(&element_name(column, i), scaling),
            }));
        }
        lines.join(", ")
    }
}
