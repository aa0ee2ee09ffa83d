//! Tidemill turns tables into features, trains grids of models on them, and writes scored tables.
//!
//! A [`Session`] is where everything starts: SQL, DataFrames and jobs, in this process or on a cluster.
//!
//! ```
//! use tidemill::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(example()) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let warehouse = folder.path().display().to_string();
//! // `warehouse` may be a folder or s3://bucket/prefix.
//! let session = Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await?;
//! session.sql("create table t as select * from (values (1, 2.0), (2, 4.0)) as v(id, x)").await?;
//!
//! let rows = session.sql("select * from t").await?;
//! let large = rows.filter(col("x").gt(lit(3.0)))?;
//! assert_eq!(large.count().await?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! A job file trains a grid and registers the best model; SQL scores with it:
//!
//! ```no_run
//! # use tidemill::prelude::*;
//! # async fn example(session: Session) -> Result<(), tidemill::EngineError> {
//! let job = JobFile::read("examples/flights/train.yaml")?;
//! let run = session.run(&job, &Default::default()).await?;
//! println!("{}", tidemill::report::run_text(&run));
//!
//! session.sql("create table scored as select *, predict('late@live') as score from features").await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`GridSearch`] does the same on DataFrames, with [`Pipeline`] and the registry of [`Session::registry`].
//!
//! What a user plugs in by trait: scalar functions of DataFusion, feature [stages](tidemill_ml::stage), and
//! [estimators](tidemill_ml::estimator); [`Plugins`] carries them to every process.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic"))]

pub mod report;

pub use tidemill_engine::cluster::Token;
pub use tidemill_engine::grid::{self, Folds, GridSearch, Label};
pub use tidemill_engine::session::WriteMode;
pub use tidemill_engine::{EngineError, JobFile, Plugins, RunRecord, Session, SessionOptions, runtime_hooks};
pub use tidemill_engine::{checks, dataset, jobs, progress};
pub use tidemill_executor as executor;
pub use tidemill_ml::pipeline::Pipeline;
pub use tidemill_ml::registry::Registry;
pub use tidemill_ml::{MlError, estimator, eval, matrix, model, pipeline, profile, registry, stage};
pub use tidemill_scheduler as scheduler;

/// What most programs import.
pub mod prelude {
    pub use datafusion::prelude::{DataFrame, col, lit};

    pub use crate::estimator::{Estimator, Model};
    pub use crate::stage::Stage;
    pub use crate::{
        Folds, GridSearch, JobFile, Label, Pipeline, Plugins, Registry, RunRecord, Session, SessionOptions, WriteMode,
    };
}
