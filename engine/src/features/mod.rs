//! Feature views: features with a history, declared once and joined as of each row's time.
//!
//! A view is a query whose rows hold from an event time on and are known some time after it: a weather observation, a
//! carrier's delay rate over the seven days before. It is materialised by days into a table of the warehouse, one
//! commit for each range, and training and scoring join it to their rows by key: each row gets the latest row of the
//! view that was known at its time. So both read the same numbers, whenever they run.
//!
//! A view's definition has versions, numbered as definitions change; each version has a table of its own, so that a
//! model goes on reading the version that it was trained with. What days are materialised stands in the table's own
//! log, in the commit that wrote them.
//!
//! Streams that keep a view fresh and requests that look it up by key will read the same tables by the same versions.

mod catalog;
mod check;
mod days;
mod definition;
mod join;
mod materialize;
mod rows;
mod statement;
#[cfg(test)]
mod tests;

pub use catalog::DeclaredView;
pub use check::{DayDifference, ViewCheck};
pub use days::Days;
pub use definition::{FeatureView, Period, Source};
pub use join::ViewUse;
pub use materialize::{MaterializeOptions, Materialized};
pub(crate) use statement::parse_create;
