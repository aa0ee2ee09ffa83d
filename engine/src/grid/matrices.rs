//! From feature rows to matrices in the store.

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, cast, lit};
use serde::Deserialize;
use tidemill_connectors::sink::{Compression, SinkFormat, SinkSpec, WrittenFile};
use tidemill_connectors::stores::Location;
use tidemill_ml::pipeline::{PipelineModel, Subset};

use super::folds::key_hash;
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

/// The column that says which shard a row is in; it is in the names of folders.
const SHARD_COLUMN: &str = "__shard";

/// The seed of the hash that deals rows to shards: which shard a row is in has nothing to do with its fold.
const SHARD_SEED: u64 = 0x5aad;

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
        let GridSearch { key, label, parallel, .. } = self.search;
        let rows_per_shard = self.search.rows_per_shard.max(1);
        let n_shards = match parallel {
            Parallel::Candidates => None,
            Parallel::Rows => Some((rows.clone().count().await? as u64).div_ceil(rows_per_shard).max(1)),
        };
        write_matrix(self.session, rows, (model, fitted_on), (key, label), &folder, n_shards).await
    }
}

/// What is done at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parallel {
    /// Groups of candidates, each within one process that holds the group's matrix.
    #[default]
    Candidates,
    /// Parts of the rows: all processes train each group together, each on the shards that it has.
    Rows,
}

/// About how many rows a shard has unless it is said otherwise: large beside the cost of a task, small beside memories.
pub const ROWS_PER_SHARD: u64 = 1 << 18;

/// Writes rows as a training matrix into `folder`: Arrow files of the fitted pipeline's features with key, label and
/// [`FOLD_COLUMN`]. Rows that the pipeline was fitted on have the features that it gives to training, the others those
/// that it gives to scoring.
///
/// With `n_shards` the files are those of shards, which rows are dealt to by the hash of their key.
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
    (key, label): (&[String], &Label),
    folder: &Location,
    n_shards: Option<u64>,
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
    if let Some(n_shards) = n_shards {
        let shard = cast(key_hash(key, SHARD_SEED)? % lit(n_shards), DataType::Int64);
        rows = rows.with_column(SHARD_COLUMN, shard)?;
    }
    let weight = label.weight.as_ref().map(|_| WEIGHT_COLUMN);
    let shard = n_shards.map(|_| SHARD_COLUMN);
    let carried = keys.iter().map(String::as_str).chain([LABEL_COLUMN, FOLD_COLUMN]).chain(weight).chain(shard);
    let carried: Vec<&str> = carried.collect();
    let (_, plan) = model.transform_training(rows, fitted_on, &carried)?.into_parts();
    let mut spec = SinkSpec::new(folder.to_string(), SinkFormat::ArrowIpc, "matrix").with_partition_by(shard);
    // Read a few times and deleted: what a slower compression saves in bytes it never earns back.
    spec.compression = Compression::Fast;
    let files = session.write_files(plan, &spec).await?;
    if files.is_empty() {
        return Err(EngineError::Invalid("there are no rows to train on".to_owned()));
    }
    let shard_of = |file: &WrittenFile| {
        let value = file.partition_values.0.first().and_then(|value| value.as_deref()?.parse().ok());
        value.ok_or_else(|| EngineError::Internal(format!("{} belongs to no shard", file.path)))
    };
    let shard_of = files.iter().filter(|_| shard.is_some()).map(shard_of).collect::<Result<_>>()?;
    Ok(MatrixRef {
        shard_of,
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
