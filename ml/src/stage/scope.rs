//! The columns that a stage sees.

use std::fmt;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::Expr;
use datafusion::prelude::{cast, ident};

use crate::functions::vector::{SPARSE_SIZE_KEY, sparse_vector_type, vector_size, vector_type};
use crate::matrix::FeatureKind;
use crate::{MlError, Result};

/// The labels of an indexed column, once they are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Categories {
    /// The labels by index.
    pub labels: Vec<String>,
    /// How many of them have an indicator in the one-hot view.
    pub indicators: usize,
    /// Whether the column was one-hot encoded already.
    pub encoded: bool,
}

/// What a column means to stages.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnRole {
    /// A value as it is.
    Plain,
    /// An index into categories; they are known only once the stage that made them is fitted.
    Category(Option<Categories>),
    /// A vector.
    Vector(VectorShape),
}

impl ColumnRole {
    /// The role of a fitted column.
    pub fn of(kind: &FeatureKind) -> Self {
        match kind {
            FeatureKind::Number | FeatureKind::Other => Self::Plain,
            FeatureKind::Category { labels, indicators } => {
                Self::Category(Some(Categories { labels: labels.clone(), indicators: *indicators, encoded: false }))
            }
            FeatureKind::Vector { size } => Self::Vector(VectorShape::Dense(Some(*size))),
            FeatureKind::SparseVector { size } => Self::Vector(VectorShape::Sparse(Some(*size))),
        }
    }
}

/// How vectors of a column are laid out, and how many elements each has: with some stages, such as those that select
/// elements, that is known only once they are fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorShape {
    /// All elements, one after the other: a fixed-size list of `Float64`.
    Dense(Option<usize>),
    /// The elements that are not 0, with their indices.
    Sparse(Option<usize>),
}

impl fmt::Display for VectorShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layout, size) = match self {
            Self::Dense(size) => ("", size),
            Self::Sparse(size) => ("sparse ", size),
        };
        match size {
            Some(size) => write!(f, "a {layout}vector of {size} numbers"),
            None => write!(f, "a {layout}vector"),
        }
    }
}

/// One column that a stage sees.
#[derive(Debug, Clone, PartialEq)]
pub struct StageColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// What it means.
    pub role: ColumnRole,
}

impl StageColumn {
    /// A number, as stages write it.
    pub fn number(name: &str) -> Self {
        Self { name: name.to_owned(), data_type: DataType::Float64, role: ColumnRole::Plain }
    }

    /// A value of any type, for later stages or tables.
    pub fn of_type(name: &str, data_type: DataType) -> Self {
        Self::of_field(&Field::new(name, data_type, true))
    }

    /// A column of a table. Fixed-size lists of numbers are dense vectors.
    pub fn of_field(field: &Field) -> Self {
        let dense = vector_size(field.data_type()).map(|size| VectorShape::Dense(Some(size)));
        let role = dense.or_else(|| sparse_shape(field)).map_or(ColumnRole::Plain, ColumnRole::Vector);
        Self { name: field.name().clone(), data_type: field.data_type().clone(), role }
    }

    /// A dense vector, as stages write it; the size is none where only the fit finds it.
    pub fn vector(name: &str, size: Option<usize>) -> Self {
        let role = ColumnRole::Vector(VectorShape::Dense(size));
        Self { name: name.to_owned(), data_type: vector_type(size.unwrap_or(0)), role }
    }

    /// A sparse vector, as stages write it; the size is none where only the fit finds it.
    pub fn sparse_vector(name: &str, size: Option<usize>) -> Self {
        let role = ColumnRole::Vector(VectorShape::Sparse(size));
        Self { name: name.to_owned(), data_type: sparse_vector_type(), role }
    }

    /// A category index, as stages write it.
    pub fn category(name: &str) -> Self {
        Self { name: name.to_owned(), data_type: DataType::Float64, role: ColumnRole::Category(None) }
    }

    /// Takes what only the fit found: labels, and sizes of vectors.
    pub(crate) fn learn(&mut self, kind: &FeatureKind) {
        if let FeatureKind::Vector { size } = kind {
            self.data_type = vector_type(*size);
        }
        self.role = ColumnRole::of(kind);
    }

    /// Whether it can be read as a number.
    pub fn is_number(&self) -> bool {
        self.role == ColumnRole::Plain && (self.data_type.is_numeric() || self.data_type == DataType::Boolean)
    }

    /// Whether it can be read as the text of a category: text, numbers and booleans.
    pub fn has_text(&self) -> bool {
        let data_type = match &self.data_type {
            DataType::Dictionary(_, values) => values.as_ref(),
            other => other,
        };
        self.role == ColumnRole::Plain
            && (data_type.is_numeric()
                || data_type.is_string()
                || matches!(data_type, DataType::Boolean | DataType::Null))
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match &self.role {
            ColumnRole::Plain => self.data_type.to_string(),
            ColumnRole::Category(_) => "a category".to_owned(),
            ColumnRole::Vector(shape) => shape.to_string(),
        }
    }
}

/// The shape of a column that has a sparse vector's type and says its size.
fn sparse_shape(field: &Field) -> Option<VectorShape> {
    let size = field.metadata().get(SPARSE_SIZE_KEY)?.parse().ok()?;
    (*field.data_type() == sparse_vector_type()).then_some(VectorShape::Sparse(Some(size)))
}

/// The columns that a stage sees: those of the table, replaced and extended by the stages before.
#[derive(Debug, Clone)]
pub struct Scope {
    columns: Vec<StageColumn>,
}

impl Scope {
    /// The columns of a table.
    pub fn of(schema: &Schema) -> Self {
        Self { columns: schema.fields().iter().map(|field| StageColumn::of_field(field)).collect() }
    }

    /// The columns, those of the table first.
    pub fn columns(&self) -> &[StageColumn] {
        &self.columns
    }

    /// A column by its name.
    ///
    /// # Errors
    /// A column that does not exist, with the nearest one that does.
    pub fn column(&self, name: &str) -> Result<&StageColumn> {
        self.get(name).ok_or_else(|| {
            let names = self.columns.iter().map(|c| c.name.as_str());
            MlError::Invalid(format!("column {name:?} does not exist{}", crate::suggest::did_you_mean(name, names)))
        })
    }

    /// A column by its name, if there is one.
    pub fn get(&self, name: &str) -> Option<&StageColumn> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// A column that can be read as a number.
    ///
    /// # Errors
    /// A column that does not exist or is not numeric.
    pub fn number(&self, name: &str) -> Result<&StageColumn> {
        let column = self.column(name)?;
        if column.is_number() {
            return Ok(column);
        }
        Err(MlError::Invalid(format!("column {name:?} is {}; expected a number", column.describe())))
    }

    /// A column of text.
    ///
    /// # Errors
    /// A column that does not exist or is not text.
    pub fn text(&self, name: &str) -> Result<&StageColumn> {
        self.typed(name, "text", |t| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View))
    }

    /// A column of lists of text, such as a tokenizer writes.
    ///
    /// # Errors
    /// A column that does not exist or has another type.
    pub fn tokens(&self, name: &str) -> Result<&StageColumn> {
        self.typed(
            name,
            "a list of text",
            |t| matches!(t, DataType::List(item) if matches!(item.data_type(), DataType::Utf8 | DataType::Utf8View)),
        )
    }

    fn typed(&self, name: &str, expected: &str, is_right: impl Fn(&DataType) -> bool) -> Result<&StageColumn> {
        let column = self.column(name)?;
        if column.role == ColumnRole::Plain && is_right(&column.data_type) {
            return Ok(column);
        }
        Err(MlError::Invalid(format!("column {name:?} is {}; expected {expected}", column.describe())))
    }

    /// The shape of a column of vectors.
    ///
    /// # Errors
    /// A column that does not exist or has another type.
    pub fn vector(&self, name: &str) -> Result<VectorShape> {
        let column = self.column(name)?;
        match column.role {
            ColumnRole::Vector(shape) => Ok(shape),
            _ => Err(MlError::Invalid(format!(
                "column {name:?} is {}; expected a vector, such as a vector_assembler with an output makes",
                column.describe()
            ))),
        }
    }

    /// The size of a column of dense vectors; none where only the fit finds it.
    ///
    /// # Errors
    /// As [`Self::vector`], and sparse vectors.
    pub fn dense_vector(&self, name: &str) -> Result<Option<usize>> {
        match self.vector(name)? {
            VectorShape::Dense(size) => Ok(size),
            sparse => Err(MlError::Invalid(format!("column {name:?} is {sparse}; expected a dense vector"))),
        }
    }

    /// The same once the stages before are fitted, when every size is known.
    ///
    /// # Errors
    /// As [`Self::dense_vector`].
    pub(crate) fn fitted_vector(&self, name: &str) -> Result<usize> {
        self.dense_vector(name)?
            .ok_or_else(|| MlError::Internal(format!("the size of vector {name:?} is not known after its stage's fit")))
    }

    /// The size of a dense vector; none for a number, and for a vector whose size only the fit finds.
    ///
    /// # Errors
    /// A column that does not exist or is neither.
    pub(crate) fn number_or_vector(&self, name: &str) -> Result<Option<usize>> {
        match self.column(name)?.role {
            ColumnRole::Vector(_) => self.dense_vector(name),
            _ => self.number(name).map(|_| None),
        }
    }

    /// A column whose values can be told apart as text: text, numbers, booleans and indexed categories.
    ///
    /// # Errors
    /// A column that does not exist or has another type.
    pub fn values(&self, name: &str) -> Result<&StageColumn> {
        let column = self.column(name)?;
        if column.has_text() || self.category(name).is_ok() {
            return Ok(column);
        }
        Err(MlError::Invalid(format!("column {name:?} is {}; expected text, a number or a boolean", column.describe())))
    }

    /// A column that holds category indices.
    ///
    /// # Errors
    /// A column that does not exist or is not indexed.
    pub fn category(&self, name: &str) -> Result<Option<&Categories>> {
        let column = self.column(name)?;
        match &column.role {
            ColumnRole::Category(categories) => Ok(categories.as_ref()),
            _ => Err(MlError::Invalid(format!(
                "column {name:?} is {}; expected an indexed category: put a string_indexer before it",
                column.describe()
            ))),
        }
    }

    /// Adds a column, or replaces the one of its name.
    pub fn put(&mut self, column: StageColumn) {
        match self.columns.iter_mut().find(|c| c.name == column.name) {
            Some(existing) => *existing = column,
            None => self.columns.push(column),
        }
    }
}

/// A column as a `Float64`, whatever numeric type it has.
pub(crate) fn number_expr(column: &str) -> Expr {
    cast(ident(column), DataType::Float64)
}

/// A column of dense vectors, whatever type its numbers have.
pub(crate) fn vector_expr(column: &str, size: usize) -> Expr {
    cast(ident(column), vector_type(size))
}

/// A column as text, whatever type of text it has; numbers and booleans as they are written.
pub(crate) fn text_expr(column: &str) -> Expr {
    cast(ident(column), DataType::Utf8)
}
