//! From feature rows to matrices in the store.

use datafusion::common::Column;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::Expr;
use tidemill_connectors::sink::{Compression, SinkFormat, SinkSpec};
use tidemill_connectors::stores::Location;
use tidemill_ml::pipeline::{PipelineModel, Subset};

use super::search::GridSearch;
use crate::plan::train::MatrixRef;
use crate::session::Session;
use crate::{EngineError, Result};

/// The column that holds a row's fold.
pub const FOLD_COLUMN: &str = "__fold";

/// The column that holds a row's label.
const LABEL_COLUMN: &str = "__label";

/// Writes matrices of one search's rows.
pub(super) struct MatrixWriter<'a> {
    pub(super) session: &'a Session,
    pub(super) search: &'a GridSearch,
    /// Labelled rows with their fold.
    pub(super) rows: &'a DataFrame,
    pub(super) scratch: &'a Location,
}

impl MatrixWriter<'_> {
    /// Writes the rows that `keep` chooses in the order of the key: those of `fitted_on` as the fitted pipeline gives
    /// them to training, the others as it gives them to scoring.
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

/// Writes rows as a training matrix into `folder`: one Arrow file of the fitted pipeline's features with the label and
/// the [`FOLD_COLUMN`], in the order of the key. Rows that the pipeline was fitted on have the features that it gives to
/// training, the others those that it gives to scoring.
///
/// # Errors
/// Rows that lack one of these columns or do not fit the pipeline, a folder that cannot be written.
pub async fn write_matrix(
    session: &Session,
    rows: DataFrame,
    (model, fitted_on): (&PipelineModel, &Subset),
    key: &[String],
    label: &str,
    folder: &Location,
) -> Result<MatrixRef> {
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let keys: Vec<String> = (0..key.len()).map(|i| format!("__key_{i}")).collect();
    let mut rows = rows.with_column(LABEL_COLUMN, column(label))?;
    for (name, key) in keys.iter().zip(key) {
        rows = rows.with_column(name, column(key))?;
    }
    let carried: Vec<&str> = keys.iter().map(String::as_str).chain([LABEL_COLUMN, FOLD_COLUMN]).collect();
    let features = model.transform_training(rows, fitted_on, &carried)?;
    let order = keys.iter().map(|k| column(k).sort(true, false)).collect();
    let (_, plan) = features.sort(order)?.into_parts();
    let mut spec = SinkSpec::new(folder.to_string(), SinkFormat::ArrowIpc, "matrix").with_single_file();
    // Read a few times and deleted: what a slower compression saves in bytes it never earns back.
    spec.compression = Compression::Fast;
    let files = session.write_files(plan, &spec).await?;
    let [file] = &files[..] else {
        return Err(EngineError::Internal(format!("{folder} was written as {} files, expected one", files.len())));
    };
    Ok(MatrixRef {
        url: folder.join(&file.path).to_string(),
        size_bytes: file.size_bytes,
        features: serde_json::to_string(&model.features()[..])?,
        label: LABEL_COLUMN.to_owned(),
        fold: FOLD_COLUMN.to_owned(),
    })
}
