//! Feature stages, estimators, evaluation, models and the registry.
//!
//! The crate knows DataFusion and object stores; it does not know where tables come from nor how plans are run.
//! A fitted [`stage`] is a list of DataFusion expressions; an [`estimator`] trains on a [`matrix::Matrix`] in one
//! process on rows in a fixed order, so the same rows and seed give the same model bytes everywhere.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic"))]

pub mod codec;
pub mod error;
pub mod estimator;
pub mod eval;
pub mod functions;
pub mod matrix;
pub mod model;
pub mod pipeline;
pub mod profile;
pub mod registry;
pub mod stage;
pub mod suggest;

pub use error::{MlError, Result};
