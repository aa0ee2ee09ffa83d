//! Sparse vectors made row by row, and read.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{Field, FieldRef, Float64Type, UInt32Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs};

use super::vector::{SPARSE_SIZE_KEY, sparse_vector_type};

/// A field of sparse vectors of a size.
pub(super) fn sparse_field(name: &str, size: usize) -> FieldRef {
    let size = [(SPARSE_SIZE_KEY.to_owned(), size.to_string())].into();
    Arc::new(Field::new(name, sparse_vector_type(), true).with_metadata(size))
}

/// The size of a vector, 0 to 2^31 - 1, that an argument of a scalar function is literally.
pub(super) fn size_literal(arg: &ColumnarValue) -> Option<i32> {
    match arg {
        ColumnarValue::Scalar(scalar) => size_of_scalar(scalar),
        ColumnarValue::Array(_) => None,
    }
}

/// The same of the argument number `index`, before the function is called.
pub(super) fn size_argument(args: &ReturnFieldArgs<'_>, index: usize) -> Option<i32> {
    size_of_scalar(args.scalar_arguments.get(index).copied().flatten()?)
}

fn size_of_scalar(scalar: &ScalarValue) -> Option<i32> {
    match scalar {
        ScalarValue::Int64(Some(size)) => i32::try_from(*size).ok().filter(|size| *size >= 0),
        _ => None,
    }
}

/// Gathers sparse vectors row by row; none of them is null.
#[derive(Debug)]
pub(super) struct SparseBuilder {
    offsets: Vec<i32>,
    indices: Vec<u32>,
    values: Vec<f64>,
}

impl SparseBuilder {
    /// For about so many rows.
    pub(super) fn new(n_rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(n_rows + 1);
        offsets.push(0);
        Self { offsets, indices: Vec::new(), values: Vec::new() }
    }

    /// Adds an entry to the row; its index is above those before it.
    #[inline]
    pub(super) fn push(&mut self, index: u32, value: f64) {
        self.indices.push(index);
        self.values.push(value);
    }

    /// Ends the row.
    pub(super) fn end_row(&mut self) -> Result<()> {
        let Ok(end) = i32::try_from(self.indices.len()) else {
            return exec_err!(
                "a batch of sparse vectors has more than {} entries; lower datafusion's batch size",
                i32::MAX
            );
        };
        self.offsets.push(end);
        Ok(())
    }

    /// The vectors.
    pub(super) fn finish(self) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(self.offsets.into());
        let list = |values: ArrayRef| {
            let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
            ListArray::try_new(field, offsets.clone(), values, None)
        };
        let indices = list(Arc::new(UInt32Array::from(self.indices)))?;
        let values = list(Arc::new(Float64Array::from(self.values)))?;
        let columns: [(FieldRef, ArrayRef); 2] = [
            (Arc::new(Field::new("indices", indices.data_type().clone(), true)), Arc::new(indices)),
            (Arc::new(Field::new("values", values.data_type().clone(), true)), Arc::new(values)),
        ];
        Ok(Arc::new(StructArray::from(columns.to_vec())))
    }
}

/// A column of sparse vectors to read.
#[derive(Debug)]
pub(super) struct SparseVectors {
    vectors: StructArray,
    indices: ListArray,
    values: ListArray,
}

impl SparseVectors {
    /// Reads a column of any layout that is one of sparse vectors.
    ///
    /// # Errors
    /// Another type, nulls within a vector, indices without a value each, and those that do not ascend.
    pub(super) fn of(function: &str, array: &ArrayRef) -> Result<Self> {
        let array = cast(array, &sparse_vector_type())?;
        let vectors = array.as_struct().clone();
        let (indices, values) =
            (vectors.column(0).as_list::<i32>().clone(), vectors.column(1).as_list::<i32>().clone());
        let vectors = Self { vectors, indices, values };
        for row in (0..vectors.len()).filter(|&row| !vectors.is_null(row)) {
            vectors.check(function, row)?;
        }
        Ok(vectors)
    }

    /// How many vectors there are.
    pub(super) fn len(&self) -> usize {
        self.vectors.len()
    }

    /// Whether a vector is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.vectors.is_null(row) || self.indices.is_null(row) || self.values.is_null(row)
    }

    /// The indices and values of a vector that is not null.
    pub(super) fn row(&self, row: usize) -> (&[u32], &[f64]) {
        let indices = self.indices.values().as_primitive::<UInt32Type>().values();
        let values = self.values.values().as_primitive::<Float64Type>().values();
        (&indices[bounds(&self.indices, row)], &values[bounds(&self.values, row)])
    }

    fn check(&self, function: &str, row: usize) -> Result<()> {
        let (indices, values) = (bounds(&self.indices, row), bounds(&self.values, row));
        if indices.len() != values.len() {
            return exec_err!("{function}: a sparse vector has {} indices and {} values", indices.len(), values.len());
        }
        if has_null(self.indices.values(), indices) || has_null(self.values.values(), values) {
            return exec_err!("{function}: a sparse vector has a null within it, or an index that is negative");
        }
        let (indices, _) = self.row(row);
        if !indices.is_sorted_by(|a, b| a < b) {
            return exec_err!("{function}: expected a sparse vector's indices in ascending order, got {indices:?}");
        }
        Ok(())
    }
}

fn has_null(items: &ArrayRef, mut range: Range<usize>) -> bool {
    items.nulls().is_some_and(|nulls| range.any(|i| nulls.is_null(i)))
}

fn bounds(lists: &ListArray, row: usize) -> Range<usize> {
    let offsets = lists.offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListBuilder, PrimitiveBuilder};
    use arrow::datatypes::{ArrowPrimitiveType, Int64Type};

    use super::*;

    fn lists<T: ArrowPrimitiveType>(rows: &[&[Option<T::Native>]]) -> ArrayRef {
        let mut lists = ListBuilder::new(PrimitiveBuilder::<T>::new());
        rows.iter().for_each(|row| lists.append_value(row.iter().copied()));
        Arc::new(lists.finish())
    }

    fn vectors(indices: &[&[Option<i64>]], values: &[&[Option<f64>]]) -> ArrayRef {
        let columns = [("indices", lists::<Int64Type>(indices)), ("values", lists::<Float64Type>(values))];
        Arc::new(StructArray::try_from(columns.to_vec()).unwrap())
    }

    #[test]
    fn rows_come_back_from_any_layout() {
        let mut builder = SparseBuilder::new(3);
        builder.push(2, 0.5);
        builder.push(7, f64::INFINITY);
        builder.end_row().unwrap();
        builder.end_row().unwrap();
        builder.push(0, -1.0);
        builder.end_row().unwrap();
        let built = builder.finish().unwrap();
        let wide =
            vectors(&[&[Some(2), Some(7)], &[], &[Some(0)]], &[&[Some(0.5), Some(f64::INFINITY)], &[], &[Some(-1.0)]]);
        for array in [built, wide] {
            let sliced = SparseVectors::of("f", &array.slice(1, 2)).unwrap();
            assert_eq!((sliced.row(0), sliced.row(1)), ((&[][..], &[][..]), (&[0][..], &[-1.0][..])));
            assert_eq!(SparseVectors::of("f", &array).unwrap().row(0), (&[2, 7][..], &[0.5, f64::INFINITY][..]));
        }
    }

    #[test]
    fn what_is_no_sparse_vector_is_refused() {
        let check = |array: ArrayRef, expected: &str| {
            let error = SparseVectors::of("f", &array).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(vectors(&[&[Some(1)]], &[&[]]), "a sparse vector has 1 indices and 0 values");
        check(vectors(&[&[Some(-1)]], &[&[Some(0.0)]]), "a null within it, or an index that is negative");
        check(vectors(&[&[Some(1)]], &[&[None]]), "a null within it");
        check(vectors(&[&[Some(1), Some(1)]], &[&[Some(0.0), Some(0.0)]]), "in ascending order, got [1, 1]");
        check(Arc::new(Int64Array::from(vec![1])), "Struct");
    }
}
