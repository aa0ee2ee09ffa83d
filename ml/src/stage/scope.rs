//! The columns that a stage sees.

use arrow::datatypes::{DataType, Schema};
use datafusion::logical_expr::Expr;
use datafusion::prelude::{cast, ident};

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
}

impl ColumnRole {
    /// The role of a fitted column.
    pub fn of(kind: &FeatureKind) -> Self {
        match kind {
            FeatureKind::Number | FeatureKind::Other => Self::Plain,
            FeatureKind::Category { labels, indicators } => {
                Self::Category(Some(Categories { labels: labels.clone(), indicators: *indicators, encoded: false }))
            }
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
        Self { name: name.to_owned(), data_type, role: ColumnRole::Plain }
    }

    /// A category index, as stages write it.
    pub fn category(name: &str) -> Self {
        Self { name: name.to_owned(), data_type: DataType::Float64, role: ColumnRole::Category(None) }
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
        }
    }
}

/// The columns that a stage sees: those of the table, replaced and extended by the stages before.
#[derive(Debug, Clone)]
pub struct Scope {
    columns: Vec<StageColumn>,
}

impl Scope {
    /// The columns of a table.
    pub fn of(schema: &Schema) -> Self {
        let column = |field: &arrow::datatypes::FieldRef| StageColumn {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            role: ColumnRole::Plain,
        };
        Self { columns: schema.fields().iter().map(column).collect() }
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

    /// A column that holds category indices.
    ///
    /// # Errors
    /// A column that does not exist or is not indexed.
    pub fn category(&self, name: &str) -> Result<Option<&Categories>> {
        let column = self.column(name)?;
        match &column.role {
            ColumnRole::Category(categories) => Ok(categories.as_ref()),
            ColumnRole::Plain => Err(MlError::Invalid(format!(
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

/// A column as text, whatever type of text it has; numbers and booleans as they are written.
pub(crate) fn text_expr(column: &str) -> Expr {
    cast(ident(column), DataType::Utf8)
}
