//! Reading, writing and committing on the local disk and on S3 in process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod delta;
mod parquet;
mod s3;
mod s3_server;
mod sink;
mod support;
mod text_views;
