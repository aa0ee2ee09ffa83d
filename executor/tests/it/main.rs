//! A scheduler and executors together: queries, the token on every port, losses, cancellation, placement.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]
#![allow(clippy::print_stdout, reason = "a test process tells another, and a measurement its reader")]

mod cluster;

mod cancel;
mod failures;
mod guard;
mod losses;
mod placement;
mod queries;
