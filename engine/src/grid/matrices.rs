//! From feature rows to matrices in the store.

use datafusion::common::Column;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::Expr;
use tidemill_connectors::sink::{SinkFormat, SinkSpec};
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
        let column = |name: &str| Expr::Column(Column::new_unqualified(name));
        let keys: Vec<String> = (0..self.search.key.len()).map(|i| format!("__key_{i}")).collect();
        let mut rows = self.rows.clone().filter(keep)?.with_column(LABEL_COLUMN, column(&self.search.label))?;
        for (name, key) in keys.iter().zip(&self.search.key) {
            rows = rows.with_column(name, column(key))?;
        }
        let carried: Vec<&str> = keys.iter().map(String::as_str).chain([LABEL_COLUMN, FOLD_COLUMN]).collect();
        let features = model.transform_training(rows, fitted_on, &carried)?;
        let order = keys.iter().map(|k| column(k).sort(true, false)).collect();
        let (_, plan) = features.sort(order)?.into_parts();
        let folder = self.scratch.join("matrices").join(name);
        let spec = SinkSpec::new(folder.to_string(), SinkFormat::ArrowIpc, "matrix").with_single_file();
        let files = self.session.write_files(plan, &spec).await?;
        let [file] = &files[..] else {
            return Err(EngineError::Internal(format!(
                "matrix {name} was written as {} files, expected one",
                files.len()
            )));
        };
        Ok(MatrixRef {
            url: folder.join(&file.path).to_string(),
            size_bytes: file.size_bytes,
            features: serde_json::to_string(&model.features()[..])?,
            label: LABEL_COLUMN.to_owned(),
            fold: FOLD_COLUMN.to_owned(),
        })
    }
}
