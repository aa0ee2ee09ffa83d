//! `multiclass_metrics(prediction, label [, weight])`: how often predicted classes are the labels'.
//!
//! Classes are numbers, texts, booleans or whatever else compares for equality. Rows with a null prediction or label are
//! left out, and so are rows of weight 0; how often something is, is the sum of the rows' weights. The result is a struct:
//!
//! * `count`: rows, each counted once; `accuracy`: the share that is right; `hamming_loss`: the share that is not;
//! * `weighted_precision`, `weighted_recall`, `weighted_f1`, `weighted_false_positive_rate`: means over the classes,
//!   weighted by how often each is a label;
//! * `macro_precision`, `macro_recall`, `macro_f1`: plain means over the classes that are labels or predictions, as in
//!   scikit-learn;
//! * `by_label`: a list in ascending order of the classes that are labels or predictions, each with `label`, `count` (rows that have it as
//!   label), `predicted` (rows that have it as prediction), `precision`, `recall`, `f1` and `false_positive_rate`. A true
//!   positive rate is the recall.
//!
//! A precision of no predictions is 0, and so is a recall without rows and an f1 without both, as in Spark ML and
//! scikit-learn; a false positive rate is null where all rows have the class. Without rows all but the count are null. Names and definitions are those of Spark ML's
//! `MulticlassClassificationEvaluator`, whose `*ByLabel` metrics are the items of `by_label`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{HashMap, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::binary::comparison_coercion;
use datafusion::logical_expr::function::AccumulatorArgs;

use super::aggregate::{Weights, coerce_weight};
use crate::functions::aggregate::{self, Aggregate};
use crate::functions::exact::{Superaccumulator, take};
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

#[derive(Debug)]
struct MulticlassMetrics {
    class: DataType,
    counts: ClassCounts,
}

/// How often each class was predicted for each label.
#[derive(Debug)]
pub(super) struct ClassCounts {
    function: &'static str,
    /// The number of each class, by the bytes of its row, which order as the classes do.
    classes: HashMap<Box<[u8]>, u32>,
    /// By prediction and label.
    cells: HashMap<(u32, u32), Cell>,
    is_weighted: bool,
}

/// Rows of one prediction and label.
#[derive(Debug, Default)]
struct Cell {
    n_rows: u64,
    /// The sum of their weights; none where each counts 1.
    weight: Option<Superaccumulator>,
}

impl Cell {
    fn weight(&mut self) -> f64 {
        self.weight.as_mut().map_or(self.n_rows as f64, Superaccumulator::rounded)
    }
}

/// What is known of one class.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OfClass {
    n_labels: u64,
    n_predicted: u64,
    /// The weight of the rows that have it as label, as prediction, and as both.
    pub(super) label: f64,
    predicted: f64,
    right: f64,
}

impl OfClass {
    fn add(&mut self, is_label: bool, is_prediction: bool, n_rows: u64, weight: f64) {
        if is_label {
            self.n_labels += n_rows;
            self.label += weight;
        }
        if is_prediction {
            self.n_predicted += n_rows;
            self.predicted += weight;
        }
        if is_label && is_prediction {
            self.right += weight;
        }
    }

    fn precision(&self) -> f64 {
        share(self.right, self.predicted)
    }

    fn recall(&self) -> f64 {
        share(self.right, self.label)
    }

    fn f1(&self) -> f64 {
        share(2.0 * self.right, self.label + self.predicted)
    }

    /// The harmonic mean of precision and recall, of which the recall counts `beta²` times; 0 where both are.
    pub(super) fn f_measure(&self, beta: f64) -> f64 {
        let square = beta * beta;
        share((1.0 + square) * self.right, square * self.label + self.predicted)
    }

    /// None where all rows have the class.
    fn false_positive_rate(&self, all: f64) -> Option<f64> {
        (all > self.label).then(|| share((self.predicted - self.right).max(0.0), all - self.label))
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
    /// Of classes and the weight of all rows.
    fn of(classes: &[OfClass], all: f64) -> Self {
        let right: f64 = classes.iter().map(|c| c.right).sum();
        let weighted =
            |rate: &dyn Fn(&OfClass) -> f64| -> f64 { classes.iter().map(|c| share(c.label, all) * rate(c)).sum() };
        let plain = |rate: fn(&OfClass) -> f64| classes.iter().map(rate).sum::<f64>() / classes.len() as f64;
        Self {
            accuracy: share(right, all),
            hamming_loss: share((all - right).max(0.0), all),
            weighted_precision: weighted(&OfClass::precision),
            weighted_recall: weighted(&OfClass::recall),
            weighted_f1: weighted(&OfClass::f1),
            weighted_false_positive_rate: weighted(&|c| c.false_positive_rate(all).unwrap_or(f64::NAN)),
            macro_precision: plain(OfClass::precision),
            macro_recall: plain(OfClass::recall),
            macro_f1: plain(OfClass::f1),
        }
    }

    /// Of a confusion matrix, by label and then by prediction; classes that are neither label nor prediction are none.
    pub(super) fn of_confusion(confusion: &[Vec<u64>]) -> Self {
        let mut classes = vec![OfClass::default(); confusion.len()];
        for (label, row) in confusion.iter().enumerate() {
            for (prediction, n_rows) in row.iter().enumerate() {
                add_cell(&mut classes, prediction, label, (*n_rows, *n_rows as f64));
            }
        }
        classes.retain(|class| class.n_labels + class.n_predicted > 0);
        Self::of(&classes, weight_of_all(&classes))
    }
}

/// Adds rows of one prediction and label, and their weight, to their classes.
fn add_cell(classes: &mut [OfClass], prediction: usize, label: usize, (n_rows, weight): (u64, f64)) {
    classes[label].add(true, prediction == label, n_rows, weight);
    if prediction != label {
        classes[prediction].add(false, true, n_rows, weight);
    }
}

fn weight_of_all(classes: &[OfClass]) -> f64 {
    classes.iter().map(|class| class.label).sum()
}

fn share(part: f64, all: f64) -> f64 {
    if all == 0.0 { 0.0 } else { part / all }
}

/// The type of the classes that predictions and labels are.
pub(super) fn coerce_classes(name: &str, prediction: &DataType, label: &DataType) -> Result<DataType> {
    let class = match comparison_coercion(prediction, label) {
        Some(DataType::Dictionary(_, values)) => Some(*values),
        class => class,
    };
    match class.filter(|class| !class.is_nested() && *class != DataType::Null) {
        Some(class) => Ok(class),
        None => plan_err!("{name} takes a prediction and a label that compare, got {prediction} and {label}"),
    }
}

fn converter(class: &DataType) -> Result<RowConverter> {
    Ok(RowConverter::new(vec![SortField::new(class.clone())])?)
}

impl ClassCounts {
    /// Of no rows.
    pub(super) fn new(function: &'static str, is_weighted: bool) -> Self {
        Self { function, classes: HashMap::default(), cells: HashMap::default(), is_weighted }
    }

    /// Adds predictions and labels; `n` arguments precede the weights.
    pub(super) fn update(&mut self, values: &[ArrayRef], n: usize) -> Result<()> {
        let [predictions, labels, ..] = values else {
            return exec_err!("{} takes a prediction and a label", self.function);
        };
        let weights = Weights::new(self.function, values, n)?;
        let nulls = [predictions, labels].map(|column| column.logical_nulls());
        let converter = converter(labels.data_type())?;
        let [predictions, labels] =
            [predictions, labels].map(|column| converter.convert_columns(std::slice::from_ref(column)));
        let (predictions, labels) = (predictions?, labels?);
        for row in 0..labels.num_rows() {
            if weights.of(row) > 0.0 && nulls.iter().flatten().all(|nulls| nulls.is_valid(row)) {
                let prediction = self.number(predictions.row(row).as_ref());
                let label = self.number(labels.row(row).as_ref());
                let cell = self.cells.entry((prediction, label)).or_default();
                cell.n_rows += 1;
                if self.is_weighted {
                    cell.weight.get_or_insert_with(Superaccumulator::for_values).add(weights.of(row));
                }
            }
        }
        self.check_classes()
    }

    fn number(&mut self, class: &[u8]) -> u32 {
        let next = self.classes.len() as u32;
        match self.classes.get(class) {
            Some(number) => *number,
            None => *self.classes.entry(class.into()).or_insert(next),
        }
    }

    /// Checks that there are not too many classes.
    pub(super) fn check_classes(&self) -> Result<()> {
        if self.classes.len() <= MAX_CLASSES {
            return Ok(());
        }
        exec_err!(
            "{}: labels and predictions have more than {MAX_CLASSES} classes; numbers that are no classes are for \
             regression_metrics",
            self.function
        )
    }

    /// Each class in ascending order with what is known of it.
    pub(super) fn by_class(&mut self) -> Vec<(&[u8], OfClass)> {
        let places = places(&self.classes);
        let mut known = vec![OfClass::default(); self.classes.len()];
        for ((prediction, label), cell) in in_order(&mut self.cells, &places) {
            let weight = cell.weight();
            add_cell(&mut known, prediction as usize, label as usize, (cell.n_rows, weight));
        }
        self.classes.keys().map(AsRef::as_ref).collect::<BTreeSet<&[u8]>>().into_iter().zip(known).collect()
    }

    /// The classes in order, then the cells by their places.
    pub(super) fn state_bytes(&mut self) -> Vec<u8> {
        let mut bytes = (self.classes.len() as u32).to_le_bytes().to_vec();
        for class in self.classes.keys().collect::<BTreeSet<_>>() {
            support::put_part(&mut bytes, class);
        }
        let places = places(&self.classes);
        for ((prediction, label), cell) in in_order(&mut self.cells, &places) {
            bytes.extend(prediction.to_le_bytes());
            bytes.extend(label.to_le_bytes());
            bytes.extend(cell.n_rows.to_le_bytes());
            if let Some(weight) = &mut cell.weight {
                weight.write(&mut bytes);
            }
        }
        bytes
    }

    /// Adds what another gave as bytes; none when they are damaged.
    pub(super) fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        let bytes = &mut bytes;
        let n_classes = u32::from_le_bytes(take(bytes)?) as usize;
        let mut numbers = Vec::new();
        for _ in 0..n_classes {
            numbers.push(self.number(support::take_part(bytes)?));
        }
        while !bytes.is_empty() {
            let prediction = *numbers.get(u32::from_le_bytes(take(bytes)?) as usize)?;
            let label = *numbers.get(u32::from_le_bytes(take(bytes)?) as usize)?;
            let cell = self.cells.entry((prediction, label)).or_default();
            cell.n_rows += u64::from_le_bytes(take(bytes)?);
            if self.is_weighted {
                cell.weight.get_or_insert_with(Superaccumulator::for_values).read_and_add(bytes)?;
            }
        }
        Some(())
    }

    /// How much memory it holds, in bytes.
    pub(super) fn size(&self) -> usize {
        let of_keys: usize = self.classes.keys().map(|class| class.len()).sum();
        let of_weights: usize = self.cells.values().flat_map(|cell| &cell.weight).map(Superaccumulator::size).sum();
        size_of::<Self>()
            + of_keys
            + of_weights
            + self.classes.capacity() * size_of::<(Box<[u8]>, u32)>()
            + self.cells.capacity() * size_of::<((u32, u32), Cell)>()
    }
}

/// By number, the place of each class in ascending order.
fn places(classes: &HashMap<Box<[u8]>, u32>) -> Vec<u32> {
    let sorted: BTreeMap<&[u8], u32> = classes.iter().map(|(class, number)| (class.as_ref(), *number)).collect();
    let mut places = vec![0; classes.len()];
    for (place, number) in sorted.into_values().enumerate() {
        places[number as usize] = place as u32;
    }
    places
}

/// The cells by the places of prediction and label, in order.
fn in_order<'a>(cells: &'a mut HashMap<(u32, u32), Cell>, places: &[u32]) -> BTreeMap<(u32, u32), &'a mut Cell> {
    let place = |number: u32| places[number as usize];
    cells.iter_mut().map(|((prediction, label), cell)| ((place(*prediction), place(*label)), cell)).collect()
}

impl MulticlassMetrics {
    fn list(&self, classes: &[(Box<[u8]>, OfClass)], all: f64) -> Result<ArrayRef> {
        let converter = converter(&self.class)?;
        let parser = converter.parser();
        let mut columns = converter.convert_rows(classes.iter().map(|(class, _)| parser.parse(class)))?;
        for count in [|c: &OfClass| c.n_labels, |c: &OfClass| c.n_predicted] {
            columns.push(Arc::new(Int64Array::from_iter_values(classes.iter().map(|(_, c)| count(c) as i64))));
        }
        for rate in [OfClass::precision, OfClass::recall, OfClass::f1] {
            columns.push(Arc::new(Float64Array::from_iter_values(classes.iter().map(|(_, c)| rate(c)))));
        }
        let rates = classes.iter().map(|(_, c)| c.false_positive_rate(all));
        columns.push(Arc::new(rates.collect::<Float64Array>()));
        let items = StructArray::try_new(class_fields(&self.class), columns, None)?;
        let offsets = OffsetBuffer::from_lengths([items.len()]);
        Ok(Arc::new(ListArray::try_new(item_field(&self.class), offsets, Arc::new(items), None)?))
    }
}

impl Aggregate for MulticlassMetrics {
    const NAME: &'static str = NAME;

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let ([prediction, label] | [prediction, label, _]) = arg_types else {
            return plan_err!(
                "{NAME} takes a prediction, a label and, if wanted, a weight, got {} arguments",
                arg_types.len()
            );
        };
        let class = coerce_classes(NAME, prediction, label)?;
        Ok([class.clone(), class].into_iter().chain(coerce_weight(NAME, arg_types, 2)?).collect())
    }

    fn return_type(arg_types: &[DataType]) -> DataType {
        DataType::Struct(fields(arg_types.first().unwrap_or(&DataType::Null)))
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
        Ok(Self { class, counts: ClassCounts::new(NAME, args.exprs.len() > 2) })
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.counts.update(values, 2)
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        self.counts.state_bytes()
    }

    fn merge(&mut self, bytes: &[u8]) -> Option<()> {
        self.counts.merge(bytes)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.counts.check_classes()?;
        let n_rows: u64 = self.counts.cells.values().map(|cell| cell.n_rows).sum();
        let classes: Vec<(Box<[u8]>, OfClass)> =
            self.counts.by_class().into_iter().map(|(class, known)| (class.into(), known)).collect();
        let of_classes: Vec<OfClass> = classes.iter().map(|(_, c)| *c).collect();
        let all = weight_of_all(&of_classes);
        let m = ClassMeans::of(&of_classes, all);
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
        columns.push(self.list(&classes, all)?);
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(&self.class), columns, None)?)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.counts.size()
    }
}
