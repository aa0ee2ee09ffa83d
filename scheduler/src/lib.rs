//! The scheduler daemon: Ballista's scheduler behind a token, with placement, liveness checks and a job API.
//!
//! [`start`] runs it, [`client::JobsClient`] talks to it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic"))]

mod error;
mod options;
mod server;

mod guard;
mod job_ids;
mod observed;
mod task_log;
mod watch;

mod budgets;
mod finals;
mod lineage;
mod liveness;
mod losses;
mod patience;
mod placement;
mod policy;
mod residence;
mod state;

pub mod client;

pub use error::{Result, SchedulerError};
pub use options::{NeedsGpu, SchedulerOptions};
pub use server::{SchedulerHandle, start};
pub use task_log::TaskFailure;
