//! Tables over pinned lists of Parquet files, and helpers for CSV and JSON lines.
//!
//! A [`FileTable`] is what every table becomes before it is planned: a single Parquet file, a
//! directory of them, or a snapshot of a Delta table. Its files, sizes, partition values and
//! statistics are fixed when it is opened, so that a plan means the same on every process.

pub(crate) mod footer;
mod open;
pub(crate) mod partition;
mod slices;
pub(crate) mod stats;
mod table;
mod text;
mod text_views;
mod version;
mod wire;

pub(crate) use open::schema_difference;
pub use partition::PartitionValues;
pub use slices::{RowSlicesExec, SliceScans};
pub use table::{FileTable, PinnedFile, TableFormat};
pub use text::{TextFormat, open_text};
pub use text_views::TextViews;
pub use version::InputVersion;
