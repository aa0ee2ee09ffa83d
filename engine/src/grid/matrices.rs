//! From feature rows to matrices in the store.

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, cast};
use tidemill_connectors::sink::{Compression, SinkFormat, SinkSpec};
use tidemill_connectors::stores::Location;
use tidemill_ml::pipeline::{PipelineModel, Subset};

use super::label::Label;
use super::search::GridSearch;
use crate::plan::train::MatrixRef;
use crate::session::Session;
use crate::{EngineError, Result};

/// The column that holds a row's fold.
pub const FOLD_COLUMN: &str = "__fold";

/// The column that holds a row's label.
const LABEL_COLUMN: &str = "__label";

/// The column that holds a row's weight.
const WEIGHT_COLUMN: &str = "__weight";

/// Writes matrices of one search's rows.
pub(super) struct MatrixWriter<'a> {
    pub(super) session: &'a Session,
    pub(super) search: &'a GridSearch,
    /// Labelled rows with their fold.
    pub(super) rows: &'a DataFrame,
    pub(super) scratch: &'a Location,
}

impl MatrixWriter<'_> {
    /// Writes the rows that `keep` chooses: those of `fitted_on` as the fitted pipeline gives them to training, the
    /// others as it gives them to scoring.
    pub(super) async fn write(
        &self,
        name: &str,
        model: &PipelineModel,
        fitted_on: &Subset,
        keep: Expr,
    ) -> Result<MatrixRef> {
        let rows = self.rows.clone().filter(keep)?;
        let folder = self.scratch.join("matrices").join(name);
        write_matrix(self.session, rows, (model, fitted_on), &self.search.key, &self.search.label, &folder).await
    }
}

/// Writes rows as a training matrix into `folder`: Arrow files of the fitted pipeline's features with key, label and
/// [`FOLD_COLUMN`]. Rows that the pipeline was fitted on have the features that it gives to training, the others those
/// that it gives to scoring.
///
/// All processes write at once, each the rows that it has: whoever reads a matrix puts them in the order of the key,
/// which for rows that came in this order is to put a few batches in order.
///
/// # Errors
/// Rows that lack one of these columns or do not fit the pipeline, no rows, a folder that cannot be written.
pub async fn write_matrix(
    session: &Session,
    rows: DataFrame,
    (model, fitted_on): (&PipelineModel, &Subset),
    key: &[String],
    label: &Label,
    folder: &Location,
) -> Result<MatrixRef> {
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let keys: Vec<String> = (0..key.len()).map(|i| format!("__key_{i}")).collect();
    let mut rows = rows.with_column(LABEL_COLUMN, label.expr()?)?;
    if let Some(weight) = &label.weight {
        rows = rows.with_column(WEIGHT_COLUMN, cast(column(weight), DataType::Float64))?;
    }
    for (name, key) in keys.iter().zip(key) {
        rows = rows.with_column(name, column(key))?;
    }
    let weight = label.weight.as_ref().map(|_| WEIGHT_COLUMN);
    let carried: Vec<&str> = keys.iter().map(String::as_str).chain([LABEL_COLUMN, FOLD_COLUMN]).chain(weight).collect();
    let (_, plan) = model.transform_training(rows, fitted_on, &carried)?.into_parts();
    let mut spec = SinkSpec::new(folder.to_string(), SinkFormat::ArrowIpc, "matrix");
    // Read a few times and deleted: what a slower compression saves in bytes it never earns back.
    spec.compression = Compression::Fast;
    let files = session.write_files(plan, &spec).await?;
    if files.is_empty() {
        return Err(EngineError::Invalid("there are no rows to train on".to_owned()));
    }
    Ok(MatrixRef {
        urls: files.iter().map(|file| folder.join(&file.path).to_string()).collect(),
        size_bytes: files.iter().map(|file| file.size_bytes).sum(),
        key: keys,
        features: serde_json::to_string(&model.features()[..])?,
        label: LABEL_COLUMN.to_owned(),
        problem: label.problem,
        n_classes: label.n_classes(),
        weight: weight.map(str::to_owned),
        fold: FOLD_COLUMN.to_owned(),
    })
}
