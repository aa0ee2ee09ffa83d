//! `multiclass_metrics(prediction, label)`: how often predicted classes are the labels'.
//!
//! Classes are numbers, texts, booleans or whatever else compares for equality. Rows with a null prediction or label are
//! left out. The result is a struct:
//!
//! * `count`: rows; `accuracy`: the share that is right; `hamming_loss`: the share that is not;
//! * `weighted_precision`, `weighted_recall`, `weighted_f1`, `weighted_false_positive_rate`: means over the classes,
//!   weighted by how often each is a label;
//! * `macro_precision`, `macro_recall`, `macro_f1`: plain means over the classes that are labels or predictions, as in
//!   scikit-learn;
//! * `by_label`: a list in ascending order of the classes that are labels or predictions, each with `label`, `count` (rows that have it as
//!   label), `predicted` (rows that have it as prediction), `precision`, `recall`, `f1` and `false_positive_rate`.
//!
//! A precision of no predictions is 0, and so is a recall without rows and an f1 without both, as in Spark ML and
//! scikit-learn; a false positive rate is null where all rows have the class. Without rows all but the count are null. Names and definitions are those of Spark ML's
//! `MulticlassClassificationEvaluator`, whose `*ByLabel` metrics are the items of `by_label`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{HashMap, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::binary::comparison_coercion;
use datafusion::logical_expr::function::AccumulatorArgs;

use crate::functions::aggregate::{self, Aggregate};
use crate::functions::exact::take;
use crate::functions::support;

const NAME: &str = "multiclass_metrics";

/// The most classes: pairs of them are counted.
const MAX_CLASSES: usize = 10_000;

/// The function.
pub fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<MulticlassMetrics>()
}

fn class_fields(class: &DataType) -> Fields {
    let count = |name: &str| Field::new(name, DataType::Int64, false);
    let mut fields = vec![Field::new("label", class.clone(), true), count("count"), count("predicted")];
    let rates = ["precision", "recall", "f1", "false_positive_rate"];
    fields.extend(rates.map(|name| Field::new(name, DataType::Float64, true)));
    Fields::from(fields)
}

fn item_field(class: &DataType) -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(class_fields(class)), true))
}

fn fields(class: &DataType) -> Fields {
    let means = [
        ["accuracy", "hamming_loss", "weighted_precision", "weighted_recall", "weighted_f1"],
        ["weighted_false_positive_rate", "macro_precision", "macro_recall", "macro_f1", "by_label"],
    ];
    let field = |name: &str| match name {
        "by_label" => Field::new(name, DataType::List(item_field(class)), false),
        _ => Field::new(name, DataType::Float64, true),
    };
    let mut fields = vec![Field::new("count", DataType::Int64, false)];
    fields.extend(means.as_flattened().iter().map(|name| field(name)));
    Fields::from(fields)
}

/// How often each class was predicted for each label.
#[derive(Debug)]
struct MulticlassMetrics {
    class: DataType,
    converter: RowConverter,
    /// The number of each class, by the bytes of its row, which order as the classes do.
    classes: HashMap<Box<[u8]>, u32>,
    /// Rows by prediction and label.
    counts: HashMap<(u32, u32), u64>,
}

/// What is known of one class.
#[derive(Debug, Clone, Copy, Default)]
struct OfClass {
    label: u64,
    predicted: u64,
    right: u64,
}

impl OfClass {
    fn precision(&self) -> f64 {
        share(self.right, self.predicted)
    }

    fn recall(&self) -> f64 {
        share(self.right, self.label)
    }

    fn f1(&self) -> f64 {
        share(2 * self.right, self.label + self.predicted)
    }

    fn false_positive_rate(&self, n_rows: u64) -> Option<f64> {
        (n_rows > self.label).then(|| share(self.predicted - self.right, n_rows - self.label))
    }
}

/// Means over classes; see the module's documentation.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassMeans {
    pub(super) accuracy: f64,
    pub(super) hamming_loss: f64,
    pub(super) weighted_precision: f64,
    pub(super) weighted_recall: f64,
    pub(super) weighted_f1: f64,
    weighted_false_positive_rate: f64,
    macro_precision: f64,
    macro_recall: f64,
    pub(super) macro_f1: f64,
}

impl ClassMeans {
    fn of(classes: &[OfClass], n_rows: u64) -> Self {
        let right: u64 = classes.iter().map(|c| c.right).sum();
        let weighted =
            |rate: &dyn Fn(&OfClass) -> f64| -> f64 { classes.iter().map(|c| share(c.label, n_rows) * rate(c)).sum() };
        let plain = |rate: fn(&OfClass) -> f64| classes.iter().map(rate).sum::<f64>() / classes.len() as f64;
        Self {
            accuracy: share(right, n_rows),
            hamming_loss: share(n_rows - right, n_rows),
            weighted_precision: weighted(&OfClass::precision),
            weighted_recall: weighted(&OfClass::recall),
            weighted_f1: weighted(&OfClass::f1),
            weighted_false_positive_rate: weighted(&|c| c.false_positive_rate(n_rows).unwrap_or(f64::NAN)),
            macro_precision: plain(OfClass::precision),
            macro_recall: plain(OfClass::recall),
            macro_f1: plain(OfClass::f1),
        }
    }

    /// Of a confusion matrix, by label and then by prediction; classes that are neither label nor prediction are none.
    pub(super) fn of_confusion(confusion: &[Vec<u64>]) -> Self {
        let of_class = |class: usize| OfClass {
            label: confusion[class].iter().sum(),
            predicted: confusion.iter().map(|row| row[class]).sum(),
            right: confusion[class][class],
        };
        let classes = (0..confusion.len()).map(of_class).filter(|c| c.label + c.predicted > 0);
        Self::of(&classes.collect::<Vec<_>>(), confusion.iter().flatten().sum())
    }
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

impl MulticlassMetrics {
    fn number(&mut self, class: &[u8]) -> u32 {
        let next = self.classes.len() as u32;
        match self.classes.get(class) {
            Some(number) => *number,
            None => *self.classes.entry(class.into()).or_insert(next),
        }
    }

    fn check_classes(&self) -> Result<()> {
        if self.classes.len() <= MAX_CLASSES {
            return Ok(());
        }
        exec_err!(
            "{NAME}: labels and predictions have more than {MAX_CLASSES} classes; numbers that are no classes are for \
             regression_metrics"
        )
    }

    /// Each class in ascending order with what is known of it.
    fn by_class(&self) -> Vec<(&[u8], OfClass)> {
        let mut known = vec![OfClass::default(); self.classes.len()];
        for ((prediction, label), count) in &self.counts {
            known[*prediction as usize].predicted += count;
            known[*label as usize].label += count;
            if prediction == label {
                known[*label as usize].right += count;
            }
        }
        let sorted: BTreeMap<&[u8], u32> =
            self.classes.iter().map(|(class, number)| (class.as_ref(), *number)).collect();
        sorted.into_iter().map(|(class, number)| (class, known[number as usize])).collect()
    }

    fn list(&self, classes: &[(&[u8], OfClass)], n_rows: u64) -> Result<ArrayRef> {
        let parser = self.converter.parser();
        let mut columns = self.converter.convert_rows(classes.iter().map(|(class, _)| parser.parse(class)))?;
        let counts = [|c: &OfClass| c.label, |c: &OfClass| c.predicted];
        for count in counts {
            columns.push(Arc::new(Int64Array::from_iter_values(classes.iter().map(|(_, c)| count(c) as i64))));
        }
        for rate in [OfClass::precision, OfClass::recall, OfClass::f1] {
            columns.push(Arc::new(Float64Array::from_iter_values(classes.iter().map(|(_, c)| rate(c)))));
        }
        let rates = classes.iter().map(|(_, c)| c.false_positive_rate(n_rows));
        columns.push(Arc::new(rates.collect::<Float64Array>()));
        let items = StructArray::try_new(class_fields(&self.class), columns, None)?;
        let offsets = OffsetBuffer::from_lengths([items.len()]);
        Ok(Arc::new(ListArray::try_new(item_field(&self.class), offsets, Arc::new(items), None)?))
    }
}

impl Aggregate for MulticlassMetrics {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [prediction, label] = arg_types else {
            return plan_err!("{NAME} takes a prediction and a label, got {} arguments", arg_types.len());
        };
        let class = match comparison_coercion(prediction, label) {
            Some(DataType::Dictionary(_, values)) => Some(*values),
            class => class,
        };
        match class.filter(|class| !class.is_nested() && *class != DataType::Null) {
            Some(class) => Ok(vec![class.clone(), class]),
            None => plan_err!("{NAME} takes a prediction and a label that compare, got {prediction} and {label}"),
        }
    }

    fn return_type(arg_types: &[DataType]) -> DataType {
        DataType::Struct(fields(arg_types.last().unwrap_or(&DataType::Null)))
    }

    fn new(args: &AccumulatorArgs<'_>) -> Result<Self> {
        let by_label = match args.return_field.data_type() {
            DataType::Struct(fields) => fields.find("by_label").map(|(_, field)| field.data_type()),
            _ => None,
        };
        let class = match by_label {
            Some(DataType::List(item)) => match item.data_type() {
                DataType::Struct(fields) => fields.first().map(|field| field.data_type().clone()),
                _ => None,
            },
            _ => None,
        };
        let Some(class) = class else { return exec_err!("{NAME} gives {}", args.return_field.data_type()) };
        let converter = RowConverter::new(vec![SortField::new(class.clone())])?;
        Ok(Self { class, converter, classes: HashMap::default(), counts: HashMap::default() })
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [predictions, labels] = values else { return exec_err!("{NAME} takes a prediction and a label") };
        let nulls = [predictions, labels].map(|column| column.logical_nulls());
        let rows = [predictions, labels].map(|column| self.converter.convert_columns(std::slice::from_ref(column)));
        let [predictions, labels] = rows;
        let (predictions, labels) = (predictions?, labels?);
        for row in 0..labels.num_rows() {
            if nulls.iter().flatten().all(|nulls| nulls.is_valid(row)) {
                let prediction = self.number(predictions.row(row).as_ref());
                let label = self.number(labels.row(row).as_ref());
                *self.counts.entry((prediction, label)).or_default() += 1;
            }
        }
        self.check_classes()
    }

    /// The classes in order, then the counts by their places.
    fn to_bytes(&mut self) -> Vec<u8> {
        let classes: BTreeMap<&[u8], u32> = self.classes.iter().map(|(class, n)| (class.as_ref(), *n)).collect();
        let mut bytes = (classes.len() as u32).to_le_bytes().to_vec();
        let mut places = vec![0; classes.len()];
        for (place, (class, number)) in classes.into_iter().enumerate() {
            support::put_part(&mut bytes, class);
            places[number as usize] = place as u32;
        }
        let place = |number: u32| places[number as usize];
        let counts = self.counts.iter().map(|((prediction, label), n)| ((place(*prediction), place(*label)), *n));
        for ((prediction, label), count) in counts.collect::<BTreeMap<_, _>>() {
            bytes.extend(prediction.to_le_bytes());
            bytes.extend(label.to_le_bytes());
            bytes.extend(count.to_le_bytes());
        }
        bytes
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        let bytes = &mut bytes;
        let n_classes = u32::from_le_bytes(take(bytes)?) as usize;
        let mut numbers = Vec::new();
        for _ in 0..n_classes {
            numbers.push(self.number(support::take_part(bytes)?));
        }
        while !bytes.is_empty() {
            let prediction = *numbers.get(u32::from_le_bytes(take(bytes)?) as usize)?;
            let label = *numbers.get(u32::from_le_bytes(take(bytes)?) as usize)?;
            *self.counts.entry((prediction, label)).or_default() += u64::from_le_bytes(take(bytes)?);
        }
        Some(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.check_classes()?;
        let classes = self.by_class();
        let n_rows: u64 = self.counts.values().sum();
        let of_classes: Vec<OfClass> = classes.iter().map(|(_, c)| *c).collect();
        let m = ClassMeans::of(&of_classes, n_rows);
        let means = [
            m.accuracy,
            m.hamming_loss,
            m.weighted_precision,
            m.weighted_recall,
            m.weighted_f1,
            m.weighted_false_positive_rate,
            m.macro_precision,
            m.macro_recall,
            m.macro_f1,
        ];
        let mean = |mean: f64| Some(mean).filter(|mean| n_rows > 0 && !mean.is_nan());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![n_rows as i64]))];
        columns.extend(means.map(|m| Arc::new(Float64Array::from(vec![mean(m)])) as ArrayRef));
        columns.push(self.list(&classes, n_rows)?);
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(&self.class), columns, None)?)))
    }

    fn size(&self) -> usize {
        let of_keys: usize = self.classes.keys().map(|class| class.len()).sum();
        size_of::<Self>()
            + of_keys
            + self.classes.capacity() * size_of::<(Box<[u8]>, u32)>()
            + self.counts.capacity() * size_of::<((u32, u32), u64)>()
    }
}
