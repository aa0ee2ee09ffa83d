//! The executor daemon: runs tasks that the scheduler sends, keeps their shuffle output and serves it.
//!
//! It is assembled from Ballista's parts (task decoding, shuffle writers, the Flight service) with our own process
//! around them: a token on both ports, free ports, work that really stops when it is cancelled, a cluster that
//! survives a scheduler's restart.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic"))]

mod error;
mod options;
mod process;

mod link;
mod report;
mod service;
mod task_input;
mod tasks;

mod memory;
mod work_dir;

pub use error::{ExecutorError, Result};
pub use options::ExecutorOptions;
pub use process::{ExecutorHandle, start};
