//! Writing the rows of one input partition as files, one or more per table partition.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::scalar::ScalarValue;
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::encoder::Encoder;
use super::spec::SinkSpec;
use super::written::WrittenFile;
use crate::delta::{table_schema, to_table_types};
use crate::error::{ConnectorError, Result};
use crate::files::{PartitionValues, partition};
use crate::sink::SinkFormat;
use crate::stores::Location;

/// Files open at a time. One more table partition closes the file that was written to longest ago;
/// rows that come for it later go to a new file. Input that is sorted or clustered by its partition
/// columns never comes near it.
const MAX_OPEN_FILES: usize = 128;
/// Bytes that all open files of one writer may hold in memory; beyond it the largest row groups are
/// ended early.
const MAX_BUFFERED_BYTES: usize = 128 << 20;
/// The size of one part of an upload, held in memory per open file once it has that many bytes.
const PART_BYTES: usize = 5 << 20;
/// Parts of one file in flight.
const CONCURRENT_PARTS: usize = 2;

/// Writes files of unique names, and can take them all back.
pub(super) struct PartitionWriter {
    spec: SinkSpec,
    location: Location,
    store: Arc<dyn ObjectStore>,
    input_schema: SchemaRef,
    file_schema: SchemaRef,
    /// Names this attempt: no other attempt at the same task writes files of these names.
    attempt: Uuid,
    open: HashMap<PartitionValues, OpenFile>,
    finished: Vec<WrittenFile>,
    /// Every object that this attempt may have made.
    created: Vec<Path>,
    /// Counts writes: the files' clock.
    tick: u64,
    memory: MemoryReservation,
}

struct OpenFile {
    path: String,
    encoder: Encoder,
    upload: BufWriter,
    uploaded_bytes: u64,
    last_used: u64,
}

impl PartitionWriter {
    pub(super) fn try_new(
        spec: SinkSpec,
        store: Arc<dyn ObjectStore>,
        schema: &SchemaRef,
        memory: MemoryReservation,
    ) -> Result<Self> {
        let input_schema = match spec.format {
            SinkFormat::Delta => table_schema(schema)?,
            _ => Arc::clone(schema),
        };
        Ok(Self {
            location: Location::parse(&spec.location)?,
            file_schema: file_schema(&spec, &input_schema)?,
            input_schema,
            spec,
            store,
            attempt: Uuid::new_v4(),
            open: HashMap::new(),
            finished: vec![],
            created: vec![],
            tick: 0,
            memory,
        })
    }

    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = match self.spec.format {
            SinkFormat::Delta => to_table_types(batch, &self.input_schema)?,
            _ => batch.clone(),
        };
        for (values, rows) in self.split(&batch)? {
            self.write_to(values, &rows).await?;
        }
        self.bound_memory().await
    }

    /// Closes all files.
    pub(super) async fn finish(&mut self) -> Result<Vec<WrittenFile>> {
        if self.spec.single_file && self.open.is_empty() {
            let none = PartitionValues(vec![]);
            let file = self.open_file(&none)?;
            self.open.insert(none, file);
        }
        let mut open: Vec<PartitionValues> = self.open.keys().cloned().collect();
        open.sort();
        for values in open {
            self.close(&values).await?;
        }
        Ok(std::mem::take(&mut self.finished))
    }

    /// Takes back everything that was written. What it misses is found by its run (`discard_run`).
    pub(super) async fn abort(mut self) {
        for (_, mut file) in self.open.drain() {
            if let Err(error) = file.upload.abort().await {
                tracing::warn!(%error, "aborting an upload failed");
            }
        }
        for path in &self.created {
            match self.store.delete(path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!(%path, %error, "deleting an uncommitted file failed"),
            }
        }
    }

    /// The rows of each table partition, in the order of their first row.
    fn split(&self, batch: &RecordBatch) -> Result<Vec<(PartitionValues, RecordBatch)>> {
        if self.spec.partition_by.is_empty() {
            return Ok(vec![(PartitionValues(vec![]), batch.clone())]);
        }
        let columns: Vec<ArrayRef> =
            self.spec.partition_by.iter().filter_map(|name| batch.column_by_name(name).map(Arc::clone)).collect();
        group_rows(&columns)?
            .into_iter()
            .map(|rows| {
                let values = partition_values(&self.spec.partition_by, &columns, rows.value(0) as usize)?;
                let taken = take_record_batch(batch, &rows).map_err(internal)?;
                Ok((values, self.without_partitions(taken)?))
            })
            .collect()
    }

    fn without_partitions(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if !self.spec.format.is_parquet() {
            return Ok(batch);
        }
        let kept: Vec<usize> = self
            .file_schema
            .fields()
            .iter()
            .filter_map(|field| batch.schema_ref().index_of(field.name()).ok())
            .collect();
        batch.project(&kept).map_err(internal)
    }

    async fn write_to(&mut self, values: PartitionValues, rows: &RecordBatch) -> Result<()> {
        self.tick += 1;
        if !self.open.contains_key(&values) {
            self.make_room().await?;
            let file = self.open_file(&values)?;
            self.open.insert(values.clone(), file);
        }
        let (tick, at) = (self.tick, &self.location);
        let Some(file) = self.open.get_mut(&values) else {
            return Err(ConnectorError::internal("a file was closed while it was written"));
        };
        file.last_used = tick;
        file.encoder.write(rows)?;
        file.upload(at).await?;
        let grown = file.uploaded_bytes + file.encoder.pending_bytes() as u64;
        if grown >= self.spec.target_file_bytes && !self.spec.single_file {
            self.close(&values).await?;
        }
        Ok(())
    }

    async fn make_room(&mut self) -> Result<()> {
        if self.open.len() < MAX_OPEN_FILES {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, file)| file.last_used).map(|(values, _)| values.clone());
        match oldest {
            Some(values) => self.close(&values).await,
            None => Ok(()),
        }
    }

    /// Keeps what is buffered within the bound and within what the memory pool grants.
    async fn bound_memory(&mut self) -> Result<()> {
        loop {
            let total: usize = self.open.values().map(|file| file.encoder.memory_bytes()).sum();
            if total <= MAX_BUFFERED_BYTES && self.memory.try_resize(total).is_ok() {
                return Ok(());
            }
            let largest = self.open.values_mut().max_by_key(|file| file.encoder.memory_bytes());
            let Some(file) = largest.filter(|file| file.encoder.memory_bytes() > 0) else {
                return Ok(());
            };
            let before = file.encoder.memory_bytes();
            file.encoder.flush()?;
            file.upload(&self.location).await?;
            if file.encoder.memory_bytes() >= before {
                return Ok(()); // nothing more to give back
            }
        }
    }

    fn open_file(&mut self, values: &PartitionValues) -> Result<OpenFile> {
        let path = self.next_path(values);
        let object = self.location.join(&path).prefix();
        let upload = BufWriter::with_capacity(Arc::clone(&self.store), object.clone(), PART_BYTES)
            .with_max_concurrency(CONCURRENT_PARTS);
        self.created.push(object);
        Ok(OpenFile {
            path,
            encoder: Encoder::try_new(self.spec.format, self.spec.compression, &self.file_schema)?,
            upload,
            uploaded_bytes: 0,
            last_used: self.tick,
        })
    }

    /// `ds=2013-11-05/part-<run>-<attempt>-<number>.parquet`
    fn next_path(&self, values: &PartitionValues) -> String {
        let mut path = String::new();
        for (name, value) in self.spec.partition_by.iter().zip(&values.0) {
            path.push_str(&partition::directory(name, value.as_deref()));
            path.push('/');
        }
        path.push_str(&format!(
            "part-{}-{}-{:05}.{}",
            self.spec.run_id,
            self.attempt.simple(),
            self.created.len(),
            self.spec.format.extension()
        ));
        path
    }

    async fn close(&mut self, values: &PartitionValues) -> Result<()> {
        let Some(file) = self.open.remove(values) else {
            return Ok(());
        };
        let written = file.close(&self.location, values.clone()).await?;
        self.finished.push(written);
        Ok(())
    }
}

impl OpenFile {
    async fn upload(&mut self, location: &Location) -> Result<()> {
        let bytes = self.encoder.take();
        self.uploaded_bytes += bytes.len() as u64;
        if bytes.is_empty() {
            return Ok(());
        }
        let put = self.upload.put(bytes).await;
        put.map_err(|error| location.join(&self.path).not_written(error))
    }

    async fn close(mut self, location: &Location, partition_values: PartitionValues) -> Result<WrittenFile> {
        let at = location.join(&self.path);
        let num_rows = self.encoder.num_rows();
        let (rest, stats) = self.encoder.finish()?;
        let size_bytes = self.uploaded_bytes + rest.len() as u64;
        self.upload.put(rest).await.map_err(|error| at.not_written(error))?;
        self.upload.shutdown().await.map_err(|error| at.not_written(store_error(error)))?;
        Ok(WrittenFile { path: self.path, partition_values, num_rows, size_bytes, stats })
    }
}

/// What the store said, which the writer wraps for tokio.
fn store_error(error: io::Error) -> object_store::Error {
    error.downcast().unwrap_or_else(|error| object_store::Error::Generic { store: "upload", source: Box::new(error) })
}

fn file_schema(spec: &SinkSpec, schema: &SchemaRef) -> Result<SchemaRef> {
    if !spec.format.is_parquet() {
        return Ok(Arc::clone(schema));
    }
    let kept: Vec<usize> =
        (0..schema.fields().len()).filter(|index| !spec.partition_by.contains(schema.field(*index).name())).collect();
    Ok(Arc::new(schema.project(&kept).map_err(internal)?))
}

/// The indices of the rows that agree in all columns, a list per distinct combination.
fn group_rows(columns: &[ArrayRef]) -> Result<Vec<UInt32Array>> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(internal)?;
    let rows = converter.convert_columns(columns).map_err(internal)?;
    let mut groups: Vec<Vec<u32>> = vec![];
    let mut index_of = HashMap::new();
    for (index, row) in (0..).zip(rows.iter()) {
        let group = *index_of.entry(row).or_insert_with(|| {
            groups.push(vec![]);
            groups.len() - 1
        });
        groups[group].push(index);
    }
    Ok(groups.into_iter().map(UInt32Array::from).collect())
}

fn partition_values(names: &[String], columns: &[ArrayRef], row: usize) -> Result<PartitionValues> {
    let values = names.iter().zip(columns).map(|(name, column)| {
        let value = ScalarValue::try_from_array(column, row)
            .map_err(|error| ConnectorError::internal(format!("column {name:?}: {error}")))?;
        partition::format(name, &value)
    });
    values.collect::<Result<_>>().map(PartitionValues)
}

fn internal(error: arrow::error::ArrowError) -> ConnectorError {
    ConnectorError::internal(format!("splitting rows by partition: {error}"))
}
