//! Delta tables on any location.
//!
//! deltalake-core reads the log and knows the actions; scanning is [`FileTable`](crate::files::FileTable)'s, because
//! deltalake's own scan has no codec and cannot be sent to executors.
//!
//! Committing is ours: one conditional put of the next log entry through deltalake's log store for
//! stores with put-if-absent. Its commit builder, without its DataFusion integration, takes every
//! overwrite for a read of the whole table, so that writers of different partitions would refuse each other.

mod commit;
mod conflict;
mod protocol;
mod schema;
mod table;

pub use commit::{CommitRequest, Committed, DeltaOperation, TableDefinition, Transaction};
pub use schema::table_schema;
pub(crate) use schema::to_table_types;
pub use table::{DeltaTable, HistoryEntry};
