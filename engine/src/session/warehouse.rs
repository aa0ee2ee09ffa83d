//! The warehouse: one location that holds tables, models, views and run records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_connectors::ConnectorError;
use tidemill_connectors::delta::DeltaTable;
use tidemill_connectors::stores::Location;

use crate::Result;
use crate::jobs::RunRecord;

/// The schema of tables that are named without one.
const DEFAULT_SCHEMA: &str = "public";

/// Where a warehouse keeps what.
#[derive(Debug, Clone)]
pub struct Warehouse {
    root: Location,
}

/// A view: its query and the tables that it reads beside the warehouse's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct View {
    /// The query.
    pub sql: String,
    /// Parquet locations by table name.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
}

impl Warehouse {
    pub(super) fn open(location: &str) -> Result<Self> {
        Ok(Self { root: Location::parse(location)? })
    }

    /// Where it lies.
    pub fn root(&self) -> &Location {
        &self.root
    }

    /// Where models lie.
    pub fn models(&self) -> Location {
        self.root.join("models")
    }

    /// Where the definitions of feature views lie.
    pub fn features(&self) -> Location {
        self.root.join("features")
    }

    /// Where a run's own files lie.
    pub fn run(&self, run: &str) -> Location {
        self.root.join("runs").join(run)
    }

    /// Where a run keeps what it needs no longer than it lasts.
    pub fn scratch(&self, run: &str) -> Location {
        self.run(run).join("scratch")
    }

    /// Deletes what a run kept there. What cannot be deleted stays behind with a warning: the run's result holds.
    pub async fn delete_scratch(&self, run: &str) {
        delete_all(&self.scratch(run)).await;
    }

    /// Where a search keeps the outcomes of its groups until its run is recorded, by the digest of what decides them.
    pub fn search(&self, digest: &str) -> Location {
        self.root.join("searches").join(digest)
    }

    /// Deletes what a search kept there, as [`Self::delete_scratch`].
    pub async fn delete_search(&self, digest: &str) {
        delete_all(&self.search(digest)).await;
    }

    /// Where a table lies.
    pub fn table(&self, name: &str) -> Location {
        self.root.join("tables").join(DEFAULT_SCHEMA).join(name)
    }

    fn view_location(&self, name: &str) -> Location {
        self.root.join("views").join(DEFAULT_SCHEMA).join(&format!("{name}.json"))
    }

    /// The table, when it exists.
    ///
    /// # Errors
    /// A store that cannot be reached, a table that is damaged.
    pub async fn open_table(&self, name: &str) -> Result<Option<DeltaTable>> {
        Ok(DeltaTable::open(&self.table(name)).await?)
    }

    /// The names of all tables, sorted.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub async fn tables(&self) -> Result<Vec<String>> {
        let mut names = self.root.join("tables").join(DEFAULT_SCHEMA).list_directories().await?;
        names.sort();
        Ok(names)
    }

    /// The names of all views, sorted.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub async fn views(&self) -> Result<Vec<String>> {
        let files = self.root.join("views").join(DEFAULT_SCHEMA).list().await?;
        let name = |m: &object_store::ObjectMeta| {
            m.location.filename().and_then(|f| f.strip_suffix(".json")).map(str::to_owned)
        };
        let mut names: Vec<String> = files.iter().filter_map(name).collect();
        names.sort();
        Ok(names)
    }

    /// The view, when it exists.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub async fn view(&self, name: &str) -> Result<Option<View>> {
        let bytes = self.view_location(name).read_if_exists().await?;
        Ok(bytes.map(|b| serde_json::from_slice(&b)).transpose()?)
    }

    /// Writes a view, in the place of one with its name.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub async fn put_view(&self, name: &str, view: &View) -> Result<()> {
        Ok(self.view_location(name).write(serde_json::to_vec_pretty(view)?).await?)
    }

    /// Removes a view.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub async fn drop_view(&self, name: &str) -> Result<()> {
        Ok(self.view_location(name).delete().await?)
    }

    /// Writes a run's record.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub async fn put_record(&self, record: &RunRecord) -> Result<Location> {
        let location = self.run(&record.run).join("run.json");
        location.write(serde_json::to_vec_pretty(record)?).await?;
        Ok(location)
    }

    /// A run's record, when it exists.
    ///
    /// # Errors
    /// A store that cannot be reached, a record that is damaged.
    pub async fn record(&self, run: &str) -> Result<Option<RunRecord>> {
        let bytes = self.run(run).join("run.json").read_if_exists().await?;
        Ok(bytes.map(|b| serde_json::from_slice(&b)).transpose()?)
    }

    /// The newest run record that is wanted.
    ///
    /// # Errors
    /// A store that cannot be reached, a record that is damaged.
    pub async fn last_record(&self, wanted: impl Fn(&RunRecord) -> bool) -> Result<Option<RunRecord>> {
        let mut runs = self.root.join("runs").list_directories().await?;
        runs.sort();
        for run in runs.iter().rev() {
            if let Some(record) = self.record(run).await?.filter(&wanted) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// All run records, oldest first.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub async fn records(&self) -> Result<Vec<RunRecord>> {
        let mut runs = self.root.join("runs").list_directories().await?;
        runs.sort();
        let mut records = Vec::with_capacity(runs.len());
        for run in runs {
            records.extend(self.record(&run).await?);
        }
        Ok(records)
    }
}

async fn delete_all(folder: &Location) {
    let deleted = async {
        for file in folder.list().await? {
            folder.at(&file.location).delete().await?;
        }
        Ok::<_, ConnectorError>(())
    };
    if let Err(error) = deleted.await {
        tracing::warn!(%error, "files of a run stay behind at {folder}");
    }
}
