//! Writing in parallel: every partition of a plan writes its own files, the driver commits once.
//!
//! [`ParallelSinkExec`] runs wherever its input runs and returns one row per file that it wrote. The
//! files have names of their own and mean nothing until the driver commits them, to a Delta table
//! ([`DeltaTable::commit`](crate::delta::DeltaTable::commit)) or to a plain directory ([`publish`]).

mod encoder;
mod exec;
mod publish;
mod spec;
mod writer;
mod written;

pub use exec::ParallelSinkExec;
pub use publish::{PublishMode, discard_run, publish, publish_file, staging};
pub use spec::{Compression, SinkFormat, SinkSpec};
pub use written::{WrittenFile, files_schema, table_of_files};
