//! What a search learns, and how it reads it from the rows.

use arrow::array::AsArray;
use arrow::compute::cast as cast_array;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Column, DFSchema};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, cast, lit, when};
use tidemill_ml::estimator::{MAX_CLASSES, ProblemType};
use tidemill_ml::model::Classes;

use crate::{EngineError, Result};

/// What is to be learnt of which column.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The label's column; rows where it is null are left out. Empty for clustering.
    pub column: String,
    /// What is to be learnt of it.
    pub problem: ProblemType,
    /// The classes of a multiclass label.
    pub classes: Option<Classes>,
    /// The column that says how much a row counts in training: numbers of at least 0. All rows count alike without it.
    pub weight: Option<String>,
}

impl Label {
    /// A label of 0 and 1, rows counting alike.
    pub fn binary(column: impl Into<String>) -> Self {
        Self { column: column.into(), problem: ProblemType::Binary, classes: None, weight: None }
    }

    /// None, for clustering, rows counting alike.
    pub fn none() -> Self {
        Self { problem: ProblemType::Clustering, ..Self::binary("") }
    }

    /// A label that is a number, rows counting alike.
    pub fn number(column: impl Into<String>) -> Self {
        Self { problem: ProblemType::Regression, ..Self::binary(column) }
    }

    /// A label of classes, those that these rows have, rows counting alike.
    ///
    /// # Errors
    /// A column that is absent or holds neither whole numbers nor text, fewer than two classes, or more than
    /// [`MAX_CLASSES`].
    pub async fn classes_of(column: impl Into<String>, rows: &DataFrame) -> Result<Self> {
        let column = column.into();
        let of_column = Expr::Column(Column::new_unqualified(&column));
        let classes = class_type(rows.schema(), &column)?;
        let distinct = rows.clone().filter(of_column.clone().is_not_null())?;
        let distinct = distinct.select(vec![cast(of_column, classes.clone()).alias("class")])?.distinct()?;
        let batches = distinct.limit(0, Some(MAX_CLASSES + 1))?.collect().await?;
        let n: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        if n > MAX_CLASSES {
            return Err(EngineError::Invalid(format!(
                "label {column:?} has more than {MAX_CLASSES} classes, the most that a multiclass problem takes; numbers to \
                 be predicted are of problem type regression"
            )));
        }
        if n < 2 {
            return Err(EngineError::Invalid(format!(
                "label {column:?} has {n} classes in the rows to train on; a classifier needs two or more"
            )));
        }
        let columns = batches.iter().map(|batch| batch.column(0));
        let classes = if classes == DataType::Int64 {
            let mut classes: Vec<i64> = columns.flat_map(|c| c.as_primitive::<Int64Type>().values().to_vec()).collect();
            classes.sort_unstable();
            Classes::Integers(classes)
        } else {
            let mut classes = Vec::with_capacity(n);
            for array in columns {
                let array = cast_array(array, &DataType::Utf8)?;
                classes.extend(array.as_string::<i32>().iter().flatten().map(str::to_owned));
            }
            classes.sort_unstable();
            Classes::Texts(classes)
        };
        Ok(Self { problem: ProblemType::Multiclass, classes: Some(classes), ..Self::binary(column) })
    }

    /// The same, with the column that says how much a row counts in training.
    pub fn with_weight(mut self, column: Option<String>) -> Self {
        self.weight = column;
        self
    }

    /// How many classes there are; 0 where labels are no classes.
    pub fn n_classes(&self) -> usize {
        match (self.problem, &self.classes) {
            (ProblemType::Binary, _) => 2,
            (_, Some(classes)) => classes.len(),
            _ => 0,
        }
    }

    /// What messages call a class, by its number.
    pub(crate) fn class_name(&self, class: usize) -> String {
        let names = self.classes.as_ref().map(Classes::names).unwrap_or_default();
        names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The label as models read it: its number, or the number of its class; null where it is null or no class.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub(crate) fn expr(&self) -> Result<Expr> {
        if self.problem == ProblemType::Clustering {
            return Ok(lit(0.0));
        }
        let column = || Expr::Column(Column::new_unqualified(&self.column));
        let classes: Vec<Expr> = match &self.classes {
            None => return Ok(cast(column(), DataType::Float64)),
            Some(Classes::Integers(classes)) => classes.iter().map(|class| lit(*class)).collect(),
            Some(Classes::Texts(classes)) => classes.iter().map(|class| lit(class.as_str())).collect(),
        };
        let mut numbered =
            classes.into_iter().zip(0..).map(|(class, number)| (column().eq(class), lit(f64::from(number))));
        let (first, number) =
            numbered.next().ok_or_else(|| EngineError::Internal("a label without classes".to_owned()))?;
        let mut case = when(first, number);
        for (condition, number) in numbered {
            case = case.when(condition, number);
        }
        Ok(case.end()?)
    }

    /// The columns that a query must have for it.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &String> {
        let label = (self.problem != ProblemType::Clustering).then_some(&self.column);
        label.into_iter().chain(&self.weight)
    }

    /// Whether a row has a label.
    pub(crate) fn is_known(&self) -> Expr {
        match self.problem {
            ProblemType::Clustering => lit(true),
            _ => Expr::Column(Column::new_unqualified(&self.column)).is_not_null(),
        }
    }
}

/// The type that a column's classes are kept as.
fn class_type(schema: &DFSchema, column: &str) -> Result<DataType> {
    let field = schema.field_with_unqualified_name(column)?;
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match field.data_type() {
        t if t.is_integer() => Ok(DataType::Int64),
        DataType::Dictionary(_, values) if text(values) => Ok(DataType::Utf8),
        t if text(t) => Ok(DataType::Utf8),
        other => Err(EngineError::Invalid(format!(
            "label {column:?} is {other}; classes are whole numbers or text: cast it in the feature query"
        ))),
    }
}
