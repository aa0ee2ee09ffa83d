//! Lists of numbers as vectors of a size that is given.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions_nested::expr_fn::array_length;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::ident;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scope::vector_expr;
use super::{ColumnRole, FittedOutput, FittedStage, Scope, Stage, StageColumn, StageParams};
use crate::functions::require_number::require_number;
use crate::functions::vector::MAX_SIZE;
use crate::functions::vector::arrays::array_to_vector;
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

const NAME: &str = "vector_size_hint";
const PARAMS: [&str; 4] = ["inputs", "outputs", "size", "handle_invalid"];

/// What becomes of nulls and of lists of another length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unsized {
    /// They fail.
    Error,
    /// Their rows are left out.
    Skip,
    /// Nulls stay; lists of another length fail, as they make no vector.
    Optimistic,
}

impl fmt::Display for Unsized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Skip => "skip",
            Self::Optimistic => "optimistic",
        })
    }
}

/// Makes dense vectors of a known size out of lists of numbers, and checks the size of vectors, as Spark ML's
/// `VectorSizeHint` checks that of its vectors.
///
/// A null element is NaN. `handle_invalid` says what becomes of null and of lists of another length: `error` (default)
/// fails, `skip` leaves the row out, `optimistic` keeps null (a list of another length fails, which Spark lets pass).
/// Parameters: `inputs`, `outputs`, `size`, `handle_invalid`. Learns nothing.
#[derive(Debug, Clone)]
pub struct VectorSizeHint {
    inputs: Vec<String>,
    outputs: Vec<String>,
    size: usize,
    handle_invalid: Unsized,
}

impl VectorSizeHint {
    /// Vectors of this size, in place; everything else fails.
    pub fn new<S: Into<String>>(inputs: impl IntoIterator<Item = S>, size: usize) -> Self {
        let inputs: Vec<String> = inputs.into_iter().map(Into::into).collect();
        Self { outputs: inputs.clone(), inputs, size, handle_invalid: Unsized::Error }
    }

    /// The same, leaving out rows of null and of lists of another length.
    #[must_use]
    pub fn skip_invalid(self) -> Self {
        Self { handle_invalid: Unsized::Skip, ..self }
    }

    /// The same, keeping null.
    #[must_use]
    pub fn optimistic(self) -> Self {
        Self { handle_invalid: Unsized::Optimistic, ..self }
    }

    pub(super) fn parse(value: &Value) -> Result<Arc<dyn Stage>> {
        let params = StageParams::new(value, &PARAMS)?;
        let inputs = params.inputs()?;
        let outputs = params.outputs(&inputs)?;
        let stage = Self { outputs, ..Self::new(inputs, params.count("size", 1..=MAX_SIZE as u32, 0)? as usize) };
        if stage.size == 0 {
            return Err(MlError::Invalid("parameter \"size\" is missing; expected a whole number".to_owned()));
        }
        Ok(Arc::new(match params.choice("handle_invalid", &["error", "skip", "optimistic"], "error")?.as_str() {
            "skip" => stage.skip_invalid(),
            "optimistic" => stage.optimistic(),
            _ => stage,
        }))
    }

    /// Whether an input is a list; otherwise it is a vector, of the right size.
    fn is_list(&self, scope: &Scope, name: &str) -> Result<bool> {
        let column = scope.column(name)?;
        if matches!(column.role, ColumnRole::Vector(_)) {
            return match scope.dense_vector(name)? {
                Some(size) if size != self.size => Err(self.wrong_type(column)),
                _ => Ok(false),
            };
        }
        match &column.data_type {
            DataType::List(item) | DataType::LargeList(item) if item.data_type().is_numeric() => Ok(true),
            _ => Err(self.wrong_type(column)),
        }
    }

    fn wrong_type(&self, column: &StageColumn) -> MlError {
        let (name, size) = (&column.name, self.size);
        MlError::Invalid(format!(
            "column {name:?} is {}; expected a list of numbers or a vector of {size}",
            column.describe()
        ))
    }
}

impl Stage for VectorSizeHint {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn drops_rows(&self) -> bool {
        self.handle_invalid == Unsized::Skip
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>> {
        self.inputs.iter().try_for_each(|name| self.is_list(scope, name).map(|_| ()))?;
        Ok(self.outputs.iter().map(|name| StageColumn::vector(name, Some(self.size))).collect())
    }

    fn fit(&self, scope: &Scope, _values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>> {
        Ok(Arc::new(FittedVectorSizeHint {
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            are_lists: self.inputs.iter().map(|name| self.is_list(scope, name)).collect::<Result<_>>()?,
            size: self.size,
            handle_invalid: self.handle_invalid,
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FittedVectorSizeHint {
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// Which inputs are lists; the others are vectors already.
    are_lists: Vec<bool>,
    size: usize,
    handle_invalid: Unsized,
}

impl FittedStage for FittedVectorSizeHint {
    fn name(&self) -> &str {
        NAME
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn outputs(&self) -> Result<Vec<FittedOutput>> {
        let columns = self.inputs.iter().zip(&self.outputs).zip(&self.are_lists);
        let output = |((input, output), &is_list): ((&String, &String), &bool)| {
            let vector =
                if is_list { array_to_vector(ident(input), self.size, input) } else { vector_expr(input, self.size) };
            let must_be_there = self.handle_invalid == Unsized::Error;
            FittedOutput {
                column: output.clone(),
                expr: if must_be_there { require_number(vector, NAME, input) } else { vector },
                kind: FeatureKind::Vector { size: self.size },
            }
        };
        Ok(columns.map(output).collect())
    }

    fn row_predicate(&self) -> Option<Expr> {
        if self.handle_invalid != Unsized::Skip {
            return None;
        }
        let is_right = |(input, is_list): (&String, &bool)| {
            let is_there = ident(input).is_not_null();
            if *is_list { is_there.and(array_length(ident(input)).eq(lit(self.size as u64))) } else { is_there }
        };
        self.inputs.iter().zip(&self.are_lists).map(is_right).reduce(Expr::and)
    }

    fn save(&self) -> Result<Value> {
        super::registry::save(self)
    }

    fn describe(&self) -> String {
        format!("{} of {} elements; invalid: {}", self.inputs.join(", "), self.size, self.handle_invalid)
    }
}
