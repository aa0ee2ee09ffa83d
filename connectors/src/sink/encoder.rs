//! Turning batches into the bytes of one file, for every format alike.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as ParquetCompression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::spec::{Compression, SinkFormat};
use crate::error::{ConnectorError, Result};
use crate::files::footer::stats_of;
use crate::files::stats::rows_to_json;

/// Writes into memory; what is complete is taken out with [`Encoder::take`].
pub(super) struct Encoder {
    writer: Writer,
    buffer: Buffer,
    schema: SchemaRef,
    num_rows: u64,
}

enum Writer {
    Parquet(Box<ArrowWriter<Buffer>>),
    Csv(Box<csv::Writer<Buffer>>),
    JsonLines(LineDelimitedWriter<Buffer>),
    Ipc(Box<FileWriter<Buffer>>),
}

impl Encoder {
    pub(super) fn try_new(format: SinkFormat, compression: Compression, schema: &SchemaRef) -> Result<Self> {
        let buffer = Buffer::default();
        let writer = match format {
            SinkFormat::Parquet | SinkFormat::Delta => {
                let properties = WriterProperties::builder().set_compression(parquet_compression(compression)).build();
                let writer = ArrowWriter::try_new(buffer.clone(), Arc::clone(schema), Some(properties));
                Writer::Parquet(Box::new(writer.map_err(unsupported)?))
            }
            SinkFormat::Csv => Writer::Csv(Box::new(csv::WriterBuilder::new().with_header(true).build(buffer.clone()))),
            SinkFormat::JsonLines => Writer::JsonLines(LineDelimitedWriter::new(buffer.clone())),
            SinkFormat::ArrowIpc => {
                let options = IpcWriteOptions::default().try_with_compression(ipc_compression(compression));
                let options = options.map_err(unsupported)?;
                let writer = FileWriter::try_new_with_options(buffer.clone(), schema, options);
                Writer::Ipc(Box::new(writer.map_err(unsupported)?))
            }
        };
        Ok(Self { writer, buffer, schema: Arc::clone(schema), num_rows: 0 })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.num_rows += batch.num_rows() as u64;
        match &mut self.writer {
            Writer::Parquet(writer) => writer.write(batch).map_err(unsupported),
            Writer::Csv(writer) => writer.write(batch).map_err(unsupported),
            Writer::JsonLines(writer) => writer.write(batch).map_err(unsupported),
            Writer::Ipc(writer) => writer.write(batch).map_err(unsupported),
        }
    }

    /// Bytes held in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let pending = match &self.writer {
            Writer::Parquet(writer) => writer.memory_size(),
            _ => 0,
        };
        pending + self.buffer.len()
    }

    /// Bytes that the file would have about now, less what was taken.
    pub(super) fn pending_bytes(&self) -> usize {
        let pending = match &self.writer {
            Writer::Parquet(writer) => writer.in_progress_size(),
            _ => 0,
        };
        pending + self.buffer.len()
    }

    /// Ends a Parquet row group early, so that its bytes can be taken.
    pub(super) fn flush(&mut self) -> Result<()> {
        match &mut self.writer {
            Writer::Parquet(writer) => writer.flush().map_err(unsupported),
            _ => Ok(()),
        }
    }

    /// The bytes that are complete.
    pub(super) fn take(&mut self) -> Bytes {
        self.buffer.take()
    }

    pub(super) fn num_rows(&self) -> u64 {
        self.num_rows
    }

    /// Ends the file: its last bytes, and its statistics as Delta's JSON.
    pub(super) fn finish(self) -> Result<(Bytes, String)> {
        let stats = match self.writer {
            Writer::Parquet(writer) => stats_of(&writer.close().map_err(unsupported)?, &self.schema),
            Writer::Csv(writer) => {
                let header_only = self.num_rows == 0;
                drop(writer);
                if header_only {
                    write_header(&self.buffer, &self.schema)?;
                }
                rows_to_json(self.num_rows)
            }
            Writer::JsonLines(mut writer) => {
                writer.finish().map_err(unsupported)?;
                rows_to_json(self.num_rows)
            }
            Writer::Ipc(mut writer) => {
                writer.finish().map_err(unsupported)?;
                rows_to_json(self.num_rows)
            }
        };
        Ok((self.buffer.take(), stats))
    }
}

/// A CSV file without rows still names its columns.
fn write_header(buffer: &Buffer, schema: &SchemaRef) -> Result<()> {
    let mut writer = csv::WriterBuilder::new().with_header(true).build(buffer.clone());
    writer.write(&RecordBatch::new_empty(Arc::clone(schema))).map_err(unsupported)
}

/// Writing to memory fails for one reason: the format has no such type.
fn unsupported(error: impl std::error::Error + Send + Sync + 'static) -> ConnectorError {
    ConnectorError::invalid_because(format!("the rows cannot be written in this format: {error}"), error)
}

fn parquet_compression(compression: Compression) -> ParquetCompression {
    match compression {
        Compression::None => ParquetCompression::UNCOMPRESSED,
        Compression::Fast => ParquetCompression::SNAPPY,
        Compression::Zstd => ParquetCompression::ZSTD(ZstdLevel::default()),
    }
}

fn ipc_compression(compression: Compression) -> Option<CompressionType> {
    match compression {
        Compression::None => None,
        Compression::Fast => Some(CompressionType::LZ4_FRAME),
        Compression::Zstd => Some(CompressionType::ZSTD),
    }
}

/// Shared between a writer, which owns its output, and us, who drain it.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
