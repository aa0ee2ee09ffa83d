//! `document_counts(vectors [, include])`: in how many vectors each element is above 0, exactly.
//!
//! Vectors are sparse ones or dense ones (fixed-size lists of numbers). The result is a struct: `documents`, the number
//! of rows; `nulls`, how many of them are null; `indices`, the elements that are above 0 anywhere, ascending; and
//! `counts`, in how many vectors each of them is. NaN is not above 0. Rows for which `include` is not true are left
//! out.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, UInt32Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, Expr};

use super::aggregate::{self, Aggregate};
use super::exact::take;
use super::sparse::SparseVectors;
use super::support;
use super::vector::{Vectors, coerce_vector, sparse_vector_type};

const NAME: &str = "document_counts";

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<DocumentCountsOf>()
}

/// A call of the function.
pub fn document_counts(vectors: Expr) -> Expr {
    udaf().call(vec![vectors])
}

/// What the function gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentCounts {
    /// How many rows there are.
    pub documents: u64,
    /// How many of them are null.
    pub nulls: u64,
    /// The elements that are above 0 anywhere, ascending.
    pub indices: Vec<u32>,
    /// In how many vectors each of them is.
    pub counts: Vec<u64>,
}

/// Reads the function's result.
///
/// # Errors
/// A value that the function did not give.
pub fn from_scalar(value: &ScalarValue) -> Result<DocumentCounts> {
    let ScalarValue::Struct(result) = value else {
        return exec_err!("expected the struct that {NAME} gives, got {}", value.data_type());
    };
    let number = |index: usize| Some(result.column(index).as_primitive_opt::<Int64Type>()?.value(0) as u64);
    let items = |index: usize| Some(result.column(index).as_list_opt::<i32>()?.value(0));
    match (number(0), number(1), items(2), items(3)) {
        (Some(documents), Some(nulls), Some(indices), Some(counts)) => Ok(DocumentCounts {
            documents,
            nulls,
            indices: indices.as_primitive::<UInt32Type>().values().to_vec(),
            counts: counts.as_primitive::<Int64Type>().values().iter().map(|&count| count as u64).collect(),
        }),
        _ => support::damaged(NAME),
    }
}

fn result_fields() -> Fields {
    Fields::from(vec![
        Field::new("documents", DataType::Int64, false),
        Field::new("nulls", DataType::Int64, false),
        Field::new("indices", DataType::new_list(DataType::UInt32, true), false),
        Field::new("counts", DataType::new_list(DataType::Int64, true), false),
    ])
}

#[derive(Debug, Default)]
struct DocumentCountsOf {
    documents: u64,
    nulls: u64,
    counts: HashMap<u32, u64>,
}

impl DocumentCountsOf {
    fn add_sparse(&mut self, vectors: &SparseVectors, include: Option<&BooleanArray>) {
        for row in (0..vectors.len()).filter(|&row| support::is_included(include, row)) {
            self.documents += 1;
            if vectors.is_null(row) {
                self.nulls += 1;
                continue;
            }
            let (indices, values) = vectors.row(row);
            let above = indices.iter().zip(values).filter(|(_, value)| **value > 0.0);
            above.for_each(|(index, _)| *self.counts.entry(*index).or_default() += 1);
        }
    }

    fn add_dense(&mut self, vectors: &Vectors<'_>, include: Option<&BooleanArray>) {
        for (row, elements) in vectors.rows().enumerate().filter(|(row, _)| support::is_included(include, *row)) {
            self.documents += 1;
            if vectors.nulls().is_some_and(|nulls| nulls.is_null(row)) {
                self.nulls += 1;
                continue;
            }
            let above = (0..).zip(elements).filter(|(_, value)| **value > 0.0);
            above.for_each(|(index, _)| *self.counts.entry(index).or_default() += 1);
        }
    }

    fn sorted(&self) -> Vec<(u32, u64)> {
        let mut counts: Vec<(u32, u64)> = self.counts.iter().map(|(&index, &count)| (index, count)).collect();
        counts.sort_unstable();
        counts
    }
}

impl Aggregate for DocumentCountsOf {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (vectors, include) = match arg_types {
            [vectors] => (vectors, None),
            [vectors, include] => (vectors, Some(include)),
            _ => return plan_err!("{NAME} takes vectors, got {} arguments", arg_types.len()),
        };
        let vectors = match vectors {
            DataType::Struct(_) => sparse_vector_type(),
            dense => coerce_vector(NAME, dense)?,
        };
        include.map_or(Ok(()), |include| support::check_condition(NAME, include))?;
        Ok([vectors, DataType::Boolean].into_iter().take(arg_types.len()).collect())
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Struct(result_fields())
    }

    fn new(_args: &AccumulatorArgs<'_>) -> Result<Self> {
        Ok(Self::default())
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(vectors) = values.first() else {
            return exec_err!("{NAME}: expected vectors");
        };
        let include = support::condition(values);
        if matches!(vectors.data_type(), DataType::Struct(_)) {
            self.add_sparse(&SparseVectors::of(NAME, vectors)?, include);
        } else {
            self.add_dense(&Vectors::of(vectors)?, include);
        }
        Ok(())
    }

    /// The numbers of rows and nulls, and each element with its count.
    fn to_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + 12 * self.counts.len());
        bytes.extend(self.documents.to_le_bytes());
        bytes.extend(self.nulls.to_le_bytes());
        for (index, count) in self.sorted() {
            bytes.extend(index.to_le_bytes());
            bytes.extend(count.to_le_bytes());
        }
        bytes
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        let bytes = &mut bytes;
        self.documents += u64::from_le_bytes(take(bytes)?);
        self.nulls += u64::from_le_bytes(take(bytes)?);
        while !bytes.is_empty() {
            let index = u32::from_le_bytes(take(bytes)?);
            *self.counts.entry(index).or_default() += u64::from_le_bytes(take(bytes)?);
        }
        Some(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let number = |number: u64| Arc::new(Int64Array::from(vec![number as i64])) as ArrayRef;
        let list = |items: ArrayRef| {
            let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
            ListArray::try_new(field, OffsetBuffer::from_lengths([items.len()]), items, None)
        };
        let counts = self.sorted();
        let indices = list(Arc::new(UInt32Array::from_iter_values(counts.iter().map(|(index, _)| *index))))?;
        let counts = list(Arc::new(Int64Array::from_iter_values(counts.iter().map(|(_, count)| *count as i64))))?;
        let columns: Vec<ArrayRef> =
            vec![number(self.documents), number(self.nulls), Arc::new(indices), Arc::new(counts)];
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(result_fields(), columns, None)?)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.counts.capacity() * (size_of::<(u32, u64)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::FixedSizeListArray;
    use arrow::datatypes::Float64Type;

    use super::super::sparse::SparseBuilder;
    use super::*;

    const NAN: f64 = f64::NAN;
    const ROWS: [[f64; 3]; 4] = [[1.0, 0.0, NAN], [f64::INFINITY, -0.0, 5e-324], [-1.0, -3.0, 2.0], [2.0, 0.0, 0.0]];

    fn dense(rows: &[[f64; 3]]) -> ArrayRef {
        let rows = rows.iter().map(|row| Some(row.iter().map(|x| Some(*x))));
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(rows, 3))
    }

    fn sparse(rows: &[[f64; 3]]) -> ArrayRef {
        let mut vectors = SparseBuilder::new(rows.len());
        for row in rows {
            (0..).zip(row).for_each(|(index, value)| vectors.push(index, *value));
            vectors.end_row().unwrap();
        }
        vectors.finish().unwrap()
    }

    fn added(values: &[ArrayRef]) -> DocumentCountsOf {
        let mut counts = DocumentCountsOf::default();
        counts.update(values).unwrap();
        counts
    }

    #[test]
    fn dense_and_sparse_vectors_count_the_same() {
        let expected = DocumentCounts { documents: 4, nulls: 0, indices: vec![0, 2], counts: vec![3, 2] };
        for vectors in [dense(&ROWS), sparse(&ROWS)] {
            assert_eq!(from_scalar(&added(&[vectors]).evaluate().unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn merging_parts_is_counting_all() {
        let all = added(&[dense(&ROWS)]).to_bytes();
        for cut in 0..=ROWS.len() {
            let mut right = added(&[sparse(&ROWS[cut..])]);
            right.merge(&added(&[dense(&ROWS[..cut])]).to_bytes()).unwrap();
            assert_eq!(right.to_bytes(), all);
        }
        assert!(
            (17..all.len()).filter(|len| len % 12 != 4).all(|len| added(&[dense(&[])]).merge(&all[..len]).is_none())
        );
    }

    #[test]
    fn rows_that_are_not_included_count_nowhere() {
        let include: ArrayRef = Arc::new(BooleanArray::from(vec![Some(false), Some(true), None, Some(true)]));
        let expected = DocumentCounts { documents: 2, nulls: 0, indices: vec![0, 2], counts: vec![2, 1] };
        for vectors in [dense(&ROWS), sparse(&ROWS)] {
            let mut some = added(&[vectors, Arc::clone(&include)]);
            assert_eq!(from_scalar(&some.evaluate().unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn null_vectors_are_counted_apart() {
        let rows = [Some(vec![Some(1.0), None, Some(NAN)]), None];
        let vectors = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(rows, 3);
        let expected = DocumentCounts { documents: 2, nulls: 1, indices: vec![0], counts: vec![1] };
        assert_eq!(from_scalar(&added(&[Arc::new(vectors)]).evaluate().unwrap()).unwrap(), expected);
    }
}
