//! The command and the library from the outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

#[path = "../../connectors/tests/it/s3_server.rs"]
mod s3_server;
mod support;

mod arrows;
mod cli_bad_input;
mod cli_checks;
mod cli_cluster;
mod cli_features;
mod cli_flights;
mod cli_interrupt;
mod cli_jobs;
mod cli_problems;
mod cli_s3;
mod cli_shards;
mod cluster;
mod own_build;
mod slt;
mod stages;
mod tasks;
