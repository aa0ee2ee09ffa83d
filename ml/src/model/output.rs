//! What a model gives for a row, as Arrow values.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, StringArray, StructArray, UInt32Array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::estimator::ProblemType;

/// The classes of a label in ascending order: the class with number `i` is the `i`th.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Classes {
    /// Whole numbers.
    Integers(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
}

impl Classes {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Integers(classes) => classes.len(),
            Self::Texts(classes) => classes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Integers(classes) => classes.iter().map(i64::to_string).collect(),
            Self::Texts(classes) => classes.clone(),
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Integers(_) => DataType::Int64,
            Self::Texts(_) => DataType::Utf8,
        }
    }

    fn array(&self) -> ArrayRef {
        match self {
            Self::Integers(classes) => Arc::new(Int64Array::from(classes.clone())),
            Self::Texts(classes) => Arc::new(StringArray::from(classes.clone())),
        }
    }
}

/// What a model gives for a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelOutput {
    /// `Float64`: the probability of class 1, or a predicted number.
    Number,
    /// `Int32`: the number of the cluster, from 0; null where the model has none for a row.
    Cluster,
    /// `Struct<prediction, probability: List<Float64>>`: the most probable class, the first of equals, and the probability of each
    /// class in the order of the classes.
    Classes(Classes),
}

impl ModelOutput {
    /// Of a problem; `classes` are those of a multiclass label.
    pub fn of(problem: ProblemType, classes: Option<&Classes>) -> Self {
        match (problem, classes) {
            (ProblemType::Clustering, _) => Self::Cluster,
            (ProblemType::Multiclass, Some(classes)) => Self::Classes(classes.clone()),
            _ => Self::Number,
        }
    }

    /// The type of the column.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Number => DataType::Float64,
            Self::Cluster => DataType::Int32,
            Self::Classes(classes) => DataType::Struct(fields(classes)),
        }
    }

    /// How many numbers a model gives for a row.
    pub fn n_outputs(&self) -> usize {
        match self {
            Self::Number | Self::Cluster => 1,
            Self::Classes(classes) => classes.len(),
        }
    }

    /// The column of what [`crate::estimator::Model::predict`] gave.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub(super) fn array(&self, scores: Vec<f64>) -> Result<ArrayRef> {
        match self {
            Self::Number => Ok(Arc::new(Float64Array::from(scores))),
            Self::Cluster => {
                let cluster = |score: &f64| (!score.is_nan()).then_some(*score as i32);
                Ok(Arc::new(scores.iter().map(cluster).collect::<Int32Array>()))
            }
            Self::Classes(classes) => {
                let n = classes.len().max(1);
                let best: UInt32Array = scores.chunks_exact(n).map(|row| Some(largest(row))).collect();
                let prediction = take(&classes.array(), &best, None)?;
                let offsets: ScalarBuffer<i32> = (0..=best.len()).map(|row| (row * n) as i32).collect();
                let item = item();
                let values = Arc::new(Float64Array::from(scores));
                let probability = ListArray::try_new(item, OffsetBuffer::new(offsets), values, None)?;
                let columns: Vec<ArrayRef> = vec![prediction, Arc::new(probability)];
                Ok(Arc::new(StructArray::try_new(fields(classes), columns, None)?))
            }
        }
    }
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

fn fields(classes: &Classes) -> Fields {
    let probability = DataType::List(item());
    Fields::from(vec![
        Field::new("prediction", classes.data_type(), true),
        Field::new("probability", probability, true),
    ])
}

/// The place of the largest number, the first of equals; NaN is never larger.
pub(crate) fn largest(row: &[f64]) -> u32 {
    let best = row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best });
    best as u32
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn a_row_without_a_cluster_is_null() {
        let rows = ModelOutput::Cluster.array(vec![2.0, f64::NAN]).unwrap();
        assert_eq!(rows.as_ref(), &Int32Array::from(vec![Some(2), None]) as &dyn Array);
    }

    #[test]
    fn classes_are_the_most_probable_and_the_first_of_equals() {
        let classes = Classes::Texts(["a", "b", "c"].map(str::to_owned).to_vec());
        let output = ModelOutput::of(ProblemType::Multiclass, Some(&classes));
        let rows = output.array(vec![0.2, 0.4, 0.4, 0.6, 0.3, 0.1]).unwrap();
        assert_eq!(rows.data_type(), &output.data_type());
        let rows = rows.as_struct();
        assert_eq!(rows.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(
            rows.column(1).as_list::<i32>().value(1).to_data(),
            Float64Array::from(vec![0.6, 0.3, 0.1]).to_data()
        );
    }
}
