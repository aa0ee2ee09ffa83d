//! Where Tidemill's data lies and how it is read and written: object stores, files, Delta tables
//! and parallel sinks.
//!
//! This crate knows DataFusion and object stores. It knows nothing of models, jobs or clusters.
//!
//! Invariants:
//! * every commit is one conditional put (`PutMode::Create`) of a numbered entry;
//! * what a table provider reads is pinned: the list of files does not change between planning and execution;
//! * credentials are resolved on each process and never appear in plans, options, logs or `Debug` output.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic"))]

mod error;

pub mod stores;

pub mod files;

pub mod delta;

pub mod sink;

pub use error::{ConnectorError, Result};
