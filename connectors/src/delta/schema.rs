//! Arrow types and those that a Delta table can hold.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::error::{ConnectorError, Result};
use crate::files::partition::can_partition;

/// The schema that a Delta table of these columns has.
///
/// Delta knows fewer types than Arrow: unsigned integers become the next wider signed one (64 bits
/// stay 64), times become microseconds, string and binary views and dictionaries become plain, half
/// floats become floats. All columns become nullable, and field metadata is dropped.
///
/// # Errors
/// `InvalidInput` naming the column whose type Delta has not (time of day, interval, union and the like).
pub fn table_schema(schema: &Schema) -> Result<SchemaRef> {
    let fields: Vec<FieldRef> =
        schema.fields().iter().map(|field| table_field(field, field.name())).collect::<Result<_>>()?;
    let mut seen = std::collections::HashSet::new();
    for field in &fields {
        // Delta compares names without case.
        if !seen.insert(field.name().to_lowercase()) {
            return Err(ConnectorError::invalid(format!("column {:?} occurs twice; rename one with AS", field.name())));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Casts a batch to the table's types; a value that does not fit is an error.
pub(crate) fn to_table_types(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            cast_with_options(column, field.data_type(), &options).map_err(|error| {
                ConnectorError::invalid_because(
                    format!("column {:?} cannot be written as {}: {error}", field.name(), field.data_type()),
                    error,
                )
            })
        })
        .collect::<Result<_>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| ConnectorError::internal(format!("casting to a table's types: {error}")))
}

/// Checks that `partition_by` names columns that may partition a table, and leaves one over.
pub(super) fn check_partitions(schema: &Schema, partition_by: &[String]) -> Result<()> {
    for name in partition_by {
        let field = schema
            .field_with_name(name)
            .map_err(|_| ConnectorError::invalid(format!("partition column {name:?} is not in the table")))?;
        if !can_partition(field.data_type()) {
            return Err(ConnectorError::invalid(format!(
                "column {name:?} of type {} cannot partition a table; expected a string, integer, boolean, date or timestamp",
                field.data_type()
            )));
        }
    }
    if partition_by.len() >= schema.fields().len() {
        return Err(ConnectorError::invalid("a table needs a column that it is not partitioned by"));
    }
    Ok(())
}

/// Whether a column, at any depth, is a timestamp without time zone, which is a table feature.
pub(super) fn has_timestamp_ntz(fields: &Fields) -> bool {
    fields.iter().any(|field| match field.data_type() {
        DataType::Timestamp(_, None) => true,
        DataType::Struct(fields) => has_timestamp_ntz(fields),
        DataType::List(item) | DataType::Map(item, _) => has_timestamp_ntz(&vec![Arc::clone(item)].into()),
        _ => false,
    })
}

fn table_field(field: &FieldRef, column: &str) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(field.name(), table_type(field.data_type(), column)?, true)))
}

fn table_type(data_type: &DataType, column: &str) -> Result<DataType> {
    use DataType as T;
    let unsupported = || {
        ConnectorError::invalid(format!(
            "column {column:?}: a Delta table cannot hold {data_type}; cast it, for instance to text"
        ))
    };
    Ok(match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 => data_type.clone(),
        T::Date32 | T::Utf8 | T::Binary => data_type.clone(),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 | T::UInt64 => T::Int64,
        T::Float16 => T::Float32,
        T::Date64 => T::Date32,
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Timestamp(_, None) => T::Timestamp(TimeUnit::Microsecond, None),
        T::Timestamp(_, Some(_)) => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Decimal128(precision, scale) if *scale >= 0 => T::Decimal128(*precision, *scale),
        T::Dictionary(_, value) => table_type(value, column)?,
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::ListView(item) => {
            T::List(Arc::new(Field::new("element", table_type(item.data_type(), column)?, true)))
        }
        T::Struct(fields) => {
            T::Struct(fields.iter().map(|f| table_field(f, column)).collect::<Result<Vec<_>>>()?.into())
        }
        _ => return Err(unsupported()),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, UInt64Array};

    use super::*;

    fn one(data_type: DataType) -> Schema {
        Schema::new(vec![Field::new("c", data_type, false)])
    }

    #[test]
    fn types_that_delta_has_not_are_widened() {
        let got = |t| table_schema(&one(t)).unwrap().field(0).data_type().clone();
        assert_eq!(got(DataType::UInt32), DataType::Int64);
        assert_eq!(got(DataType::Utf8View), DataType::Utf8);
        assert_eq!(
            got(DataType::Timestamp(TimeUnit::Nanosecond, None)),
            DataType::Timestamp(TimeUnit::Microsecond, None)
        );
    }

    #[test]
    fn a_type_without_counterpart_names_its_column() {
        let error = table_schema(&one(DataType::Time64(TimeUnit::Microsecond))).unwrap_err();
        assert!(error.to_string().contains("column \"c\""), "{error}");
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error_and_not_null() {
        let column: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        let schema = Arc::new(one(DataType::UInt64));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
        let error = to_table_types(&batch, &table_schema(&schema).unwrap()).unwrap_err();
        assert!(error.to_string().contains("column \"c\""), "{error}");
    }
}
