//! Folds: which rows a candidate is trained on and which it is validated on.
//!
//! Every kind of folds is a column, computed from the row alone, and two predicates for each fold. Where rows have to
//! be seen together (an order in time, an equal share of each class) a query finds the few values at which they are
//! cut, and these stand in the predicates as literals. So a row's fold does not depend on the order or the partitioning
//! of rows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast as cast_array, concat_batches};
use arrow::datatypes::{DataType, Int64Type, TimeUnit, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::{count, min};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, WindowFrame, WindowFunctionDefinition, bitwise_xor, cast, lit, when,
};
use datafusion::prelude::{ident, isnan};
use serde::Deserialize;
use serde_json::Value;
use tidemill_ml::estimator::{fold_hash_of, is_fold_key};

use super::label::Label;
use super::matrices::FOLD_COLUMN;
use crate::dataset::split_by_fraction;
use crate::plan::train::HELD_OUT;
use crate::{EngineError, Result, Span};

/// The share of rows that a split validates on: what Spark ML's `TrainValidationSplit` leaves of its ratio of 0.75.
const VALIDATION_FRACTION: f64 = 0.25;

/// How rows are dealt to folds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Declared")]
pub struct Folds {
    /// How many folds are validated on: 1 for a split, at least 1 in the order of time, else at least 2.
    pub k: u32,
    /// The column that deals the rows: a whole number, a date or text to be hashed, in the order of time a date, a
    /// timestamp or a number. A null is hashed like another value, and is an error in the order of time, as NaN is.
    pub by: String,
    /// By what rule.
    pub kind: FoldKind,
}

/// The rule by which rows are dealt to folds.
#[derive(Debug, Clone, PartialEq)]
pub enum FoldKind {
    /// `fold_hash(by, seed) % k`: rows with equal values share a fold. Each fold is validated by models of the others.
    Hash,
    /// By hash within each class of the label, so that the rows of a class in two folds differ by one at most. Rows
    /// with equal values and of one class share a fold, but for those on both sides of a cut.
    Stratified,
    /// `k + 1` blocks of equal row counts in the order of `by`, equal values never parted. Each block but the first is
    /// validated by models of the rows before it, as scikit-learn's `TimeSeriesSplit` does.
    Time {
        /// What lies between the rows that are trained on and the block, and is in neither.
        gap: Option<Gap>,
    },
    /// One part, by hash, is validated by models of the other.
    Split {
        /// The share of the rows that is validated on, above 0, below 1.
        validation_fraction: f64,
    },
}

/// A distance in the order of time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Gap {
    /// Between dates or timestamps.
    Span(Span),
    /// Between numbers; at least 0.
    Number(f64),
}

/// `folds:` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    #[serde(default)]
    kind: Kind,
    k: Option<u32>,
    by: String,
    gap: Option<Gap>,
    validation_fraction: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Hash,
    Stratified,
    Time,
    Split,
}

impl Folds {
    /// `k` folds by the hash of a column: rows with equal values share a fold.
    pub fn hash(k: u32, by: impl Into<String>) -> Self {
        Self { k, by: by.into(), kind: FoldKind::Hash }
    }

    /// `k` folds that have equal shares of each class.
    pub fn stratified(k: u32, by: impl Into<String>) -> Self {
        Self { k, by: by.into(), kind: FoldKind::Stratified }
    }

    /// `k` blocks in the order of a column, each validated by models of the rows before it, without those of the gap.
    pub fn time(k: u32, by: impl Into<String>, gap: Option<Gap>) -> Self {
        Self { k, by: by.into(), kind: FoldKind::Time { gap } }
    }

    /// One part by the hash of a column, validated by models of the other.
    pub fn split(by: impl Into<String>, validation_fraction: f64) -> Self {
        Self { k: 1, by: by.into(), kind: FoldKind::Split { validation_fraction } }
    }

    /// Checks what can be known without rows.
    ///
    /// # Errors
    /// Too few folds, a share or a gap that is none.
    pub fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(EngineError::Invalid(message));
        let fewest = match &self.kind {
            FoldKind::Split { validation_fraction: f } if !(*f > 0.0 && *f < 1.0) => {
                return invalid(format!("grid.folds.validation_fraction must be above 0 and below 1, got {f}"));
            }
            FoldKind::Time { gap: Some(Gap::Number(gap)) } if !(gap.is_finite() && *gap >= 0.0) => {
                return invalid(format!("grid.folds.gap must be a number of at least 0, got {gap}"));
            }
            FoldKind::Split { .. } | FoldKind::Time { .. } => 1,
            FoldKind::Hash | FoldKind::Stratified => 2,
        };
        match self.kind {
            _ if self.k < fewest => invalid(format!("grid.folds.k must be at least {fewest}, got {}", self.k)),
            FoldKind::Split { .. } if self.k != 1 => invalid(format!(
                "grid.folds.k must be 1 or absent for kind: split, got {}; of several folds: kind: hash",
                self.k
            )),
            _ => Ok(()),
        }
    }

    /// The numbers of the folds that are validated on, as the fold column has them.
    pub(super) fn numbers(&self) -> Range<u32> {
        match self.kind {
            FoldKind::Time { .. } => 1..self.k + 1,
            _ => 0..self.k,
        }
    }

    /// What to do when a fold lacks rows or a class.
    pub(super) fn advice(&self) -> String {
        let Self { by, .. } = self;
        match self.kind {
            FoldKind::Hash => {
                format!(
                    "take fewer folds, deal rows by a column other than {by:?}, or take kind: stratified for classes"
                )
            }
            FoldKind::Stratified => "take fewer folds".to_owned(),
            FoldKind::Time { gap: None } => "take fewer folds, so that the first block is longer".to_owned(),
            FoldKind::Time { gap: Some(_) } => "take fewer folds, or a shorter gap".to_owned(),
            FoldKind::Split { .. } => {
                format!("take another validation_fraction, or deal rows by a column other than {by:?}")
            }
        }
    }

    /// Checks that the column can deal rows this way.
    ///
    /// # Errors
    /// A type of column that is not for this kind, a gap of another type, classes where there are none.
    pub(super) fn check_type(&self, data_type: &DataType, label: &Label) -> Result<()> {
        use DataType::{Date32, Date64, Timestamp};
        let Self { by, kind, .. } = self;
        let is_time = matches!(data_type, Date32 | Date64 | Timestamp(..));
        let expected = match kind {
            FoldKind::Time { gap: None | Some(Gap::Span(_)) } if is_time => return Ok(()),
            FoldKind::Time { gap: None } if data_type.is_numeric() => return Ok(()),
            FoldKind::Time { gap: Some(Gap::Number(gap)) } if data_type.is_integer() && gap.fract() != 0.0 => {
                return Err(EngineError::Invalid(format!(
                    "grid.folds.gap of {by:?}, {data_type}, must be whole, got {gap}"
                )));
            }
            FoldKind::Time { gap: Some(Gap::Number(_)) } if data_type.is_numeric() => return Ok(()),
            FoldKind::Time { gap: None } => "a date, a timestamp or a number",
            FoldKind::Time { gap: Some(Gap::Span(_)) } => "a date or a timestamp for a gap that is a length of time",
            FoldKind::Time { gap: Some(Gap::Number(_)) } => "a number for a gap that is a number, else `7 days`",
            FoldKind::Stratified if !label.problem.is_classification() => {
                return Err(EngineError::Invalid(format!(
                    "grid.folds.kind stratified deals the rows of each class evenly, and a {} problem has no classes; \
                     take kind: hash",
                    label.problem
                )));
            }
            _ if is_fold_key(data_type) => return Ok(()),
            _ => "a whole number, a date or text to be hashed",
        };
        Err(EngineError::Invalid(format!("grid.folds.by {by:?} is {data_type}; expected {expected}")))
    }

    /// The folds of the labelled rows `trained`.
    ///
    /// # Errors
    /// More folds than there are rows, rows of a class, or values to cut at; rows that have no place in an order.
    pub(super) async fn deal(
        &self,
        trained: &DataFrame,
        key: &[String],
        label: &Label,
        seed: u64,
    ) -> Result<DealtFolds> {
        let hash = || fold_hash_of(ident(&self.by), seed);
        let mut starts = Vec::new();
        let number = match &self.kind {
            FoldKind::Hash => hash() % lit(u64::from(self.k)),
            FoldKind::Split { validation_fraction } => {
                let validated = split_by_fraction(&[&self.by], &[*validation_fraction], seed)?.remove(0);
                when(validated, lit(0_u32)).otherwise(lit(1_u32))?
            }
            FoldKind::Stratified => {
                let order = [hash(), key_hash(key, seed)?];
                Strata { class: cast(label.expr()?, DataType::UInt32), order, k: self.k.into() }
                    .fold(trained, label)
                    .await?
            }
            FoldKind::Time { .. } => {
                starts = self.time_starts(trained).await?;
                n_reached(starts.iter().map(|start| ident(&self.by).gt_eq(lit(start.clone()))))?
            }
        };
        let gaps = starts.into_iter().map(|start| self.before_gap(trained, start)).collect::<Result<_>>()?;
        Ok(DealtFolds { numbers: self.numbers(), column: cast(number, DataType::UInt32), gaps })
    }

    /// The values at which the blocks begin that are validated on. As in `TimeSeriesSplit` these are `n / (k + 1)` rows
    /// each and the first block has the rest; a value's rows are all where the first of them is.
    async fn time_starts(&self, trained: &DataFrame) -> Result<Vec<ScalarValue>> {
        const VALUE: &str = "__value";
        const N_ROWS: &str = "__n_rows";
        const UP_TO: &str = "__up_to";
        let n_rows = self.count_in_order(trained).await?;
        let (k, n_blocks) = (i64::from(self.k), i64::from(self.k) + 1);
        let size = n_rows / n_blocks;
        let first = n_rows - k * size;

        let by_value =
            trained.clone().aggregate(vec![ident(&self.by).alias(VALUE)], vec![count(lit(1)).alias(N_ROWS)])?;
        let mut up_to = WindowFunction::new(WindowFunctionDefinition::AggregateUDF(sum_udaf()), vec![ident(N_ROWS)]);
        up_to.params.order_by = vec![ident(VALUE).sort(true, false)];
        up_to.params.window_frame = WindowFrame::new(Some(true));
        let before = || ident(UP_TO) - ident(N_ROWS);
        // Without this size there are fewer rows than blocks, and all are in the first.
        let block = (before() - lit(first)) / lit(size.max(1)) + lit(1_i64);
        let block = when(before().lt(lit(first)), lit(0_i64)).otherwise(block)?;
        let blocks = by_value.window(vec![Expr::from(up_to).alias(UP_TO)])?;
        let blocks = blocks.aggregate(vec![block.alias("block")], vec![min(ident(VALUE)).alias("start")])?;
        let found = collect(blocks.sort(vec![ident("block").sort(true, false)])?).await?;
        let [_, starts] = &found[..] else { return Err(EngineError::Internal("blocks without starts".to_owned())) };
        if starts.len() as i64 != n_blocks {
            return Err(EngineError::Invalid(format!(
                "grid.folds.k is {k}, and the {n_rows} rows to train on cannot be cut into {n_blocks} blocks at values \
                 of {:?}, but into {}; take fewer folds",
                self.by,
                starts.len()
            )));
        }
        Ok((1..starts.len()).map(|i| ScalarValue::try_from_array(starts, i)).collect::<Result<_, _>>()?)
    }

    /// How many rows there are, all of which must have a place in the order.
    async fn count_in_order(&self, trained: &DataFrame) -> Result<i64> {
        let by = || ident(&self.by);
        let is_float = trained.schema().field_with_unqualified_name(&self.by)?.data_type().is_floating();
        let placeless = if is_float { by().is_null().or(isnan(by())) } else { by().is_null() };
        let counts = vec![count(lit(1)).alias("n"), count(when(placeless, lit(1)).end()?).alias("placeless")];
        let found = collect(trained.clone().aggregate(vec![], counts)?).await?;
        let [n_rows, placeless] = [0, 1].map(|i| found[i].as_primitive::<Int64Type>().value(0));
        if placeless > 0 {
            return Err(EngineError::Invalid(format!(
                "grid.folds.by {:?} is null or NaN in {placeless} of {n_rows} rows to train on, which have no place in \
                 its order; leave them out in split.train",
                self.by
            )));
        }
        Ok(n_rows)
    }

    /// Which rows lie before the gap in front of a block.
    fn before_gap(&self, trained: &DataFrame, start: ScalarValue) -> Result<Expr> {
        let (by, start) = (ident(&self.by), lit(start));
        let FoldKind::Time { gap: Some(gap) } = &self.kind else { return Ok(by.lt(start)) };
        let data_type = trained.schema().field_with_unqualified_name(&self.by)?.data_type();
        let (compared, gap) = match gap {
            Gap::Span(gap) if matches!(data_type, DataType::Timestamp(..)) => (data_type.clone(), gap.interval()?),
            Gap::Span(gap) => (DataType::Timestamp(TimeUnit::Microsecond, None), gap.interval()?),
            Gap::Number(gap) if data_type.is_integer() => (DataType::Int64, ScalarValue::from(*gap as i64)),
            Gap::Number(gap) => (DataType::Float64, ScalarValue::from(*gap)),
        };
        Ok(cast(by, compared.clone()).lt(cast(start, compared) - lit(gap)))
    }
}

impl fmt::Display for Folds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { k, by, kind } = self;
        match kind {
            FoldKind::Hash => write!(f, "{k} by the hash of {by}"),
            FoldKind::Stratified => write!(f, "{k} stratified, by the hash of {by}"),
            FoldKind::Time { gap: None } => write!(f, "{k} in the order of {by}"),
            FoldKind::Time { gap: Some(gap) } => write!(f, "{k} in the order of {by}, {gap} left out before each"),
            FoldKind::Split { validation_fraction } => {
                write!(f, "one split, {} % by the hash of {by}", validation_fraction * 100.0)
            }
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Span(span) => f.write_str(&String::from(span.clone())),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl TryFrom<Value> for Gap {
    type Error = EngineError;

    fn try_from(value: Value) -> Result<Self> {
        match value {
            Value::String(text) => Ok(Self::Span(text.try_into()?)),
            other => other.as_f64().map(Self::Number).ok_or_else(|| {
                EngineError::Invalid(format!("grid.folds.gap is a length of time, as 7 days, or a number; got {other}"))
            }),
        }
    }
}

impl TryFrom<Declared> for Folds {
    type Error = EngineError;

    fn try_from(declared: Declared) -> Result<Self> {
        let Declared { kind, k, by, gap, validation_fraction } = declared;
        let only = |key: &str, kind: &str| Err(EngineError::Invalid(format!("grid.folds.{key} is for kind: {kind}")));
        if gap.is_some() && kind != Kind::Time {
            return only("gap", "time");
        }
        if validation_fraction.is_some() && kind != Kind::Split {
            return only("validation_fraction", "split");
        }
        let k = match (k, kind) {
            (Some(k), _) => k,
            (None, Kind::Split) => 1,
            (None, _) => return Err(EngineError::Invalid("grid.folds.k is missing: how many folds".to_owned())),
        };
        let kind = match kind {
            Kind::Hash => FoldKind::Hash,
            Kind::Stratified => FoldKind::Stratified,
            Kind::Time => FoldKind::Time { gap },
            Kind::Split => FoldKind::Split { validation_fraction: validation_fraction.unwrap_or(VALIDATION_FRACTION) },
        };
        Ok(Self { k, by, kind })
    }
}

/// Folds whose cuts are known.
#[derive(Debug)]
pub(super) struct DealtFolds {
    numbers: Range<u32>,
    column: Expr,
    /// In the order of time: which rows lie before each block that is validated on, and before its gap.
    gaps: Vec<Expr>,
}

impl DealtFolds {
    /// The fold of a row to train on.
    pub(super) fn column(&self) -> Expr {
        self.column.clone()
    }

    /// The numbers of the folds that are validated on.
    pub(super) fn numbers(&self) -> Range<u32> {
        self.numbers.clone()
    }

    /// The rows that a fold's models are trained on, by the fold column and what deals the rows.
    pub(super) fn training(&self, fold: u32) -> Expr {
        let column = || ident(FOLD_COLUMN);
        match self.gaps.get((fold - self.numbers.start) as usize) {
            Some(before) => column().lt(lit(fold)).and(before.clone()),
            None => column().not_eq(lit(HELD_OUT)).and(column().not_eq(lit(fold))),
        }
    }

    /// The rows that a fold's models are validated on.
    pub(super) fn validation(&self, fold: u32) -> Expr {
        ident(FOLD_COLUMN).eq(lit(fold))
    }
}

/// Rows of each class in an order of their own, cut into parts whose sizes differ by one at most.
struct Strata {
    class: Expr,
    /// Two hashes that tell any two rows apart.
    order: [Expr; 2],
    k: i64,
}

impl Strata {
    /// The fold of a row, by the values at which its class is cut.
    async fn fold(&self, trained: &DataFrame, label: &Label) -> Result<Expr> {
        let counts = self.counts(trained).await?;
        if let Some((class, n)) = counts.iter().find(|(_, n)| **n < self.k) {
            return Err(EngineError::Invalid(format!(
                "class {} of label {:?} has {n} rows to train on, fewer than the {} folds; take fewer folds",
                label.class_name(*class as usize),
                label.column,
                self.k
            )));
        }
        let of_class = |(class, starts): (u64, Vec<[u64; 2]>)| {
            let reached = starts.into_iter().map(|start| self.is_at_or_after(start));
            Ok((self.class.clone().eq(lit(class as u32)), n_reached(reached)?))
        };
        let starts = self.starts(trained, &counts).await?.into_iter().map(of_class).collect::<Result<Vec<_>>>()?;
        case(starts, lit(0_u32))
    }

    fn is_at_or_after(&self, [first, second]: [u64; 2]) -> Expr {
        let [a, b] = self.order.clone();
        a.clone().gt(lit(first)).or(a.eq(lit(first)).and(b.gt_eq(lit(second))))
    }

    async fn counts(&self, trained: &DataFrame) -> Result<BTreeMap<u64, i64>> {
        let counted =
            trained.clone().aggregate(vec![self.class.clone().alias("class")], vec![count(lit(1)).alias("n")])?;
        let found = collect(counted).await?;
        let [classes, n] = &found[..] else { return Err(EngineError::Internal("classes without counts".to_owned())) };
        let classes = cast_array(classes, &DataType::UInt64)?;
        let classes = classes.as_primitive::<UInt64Type>().values().to_vec();
        Ok(classes.into_iter().zip(n.as_primitive::<Int64Type>().values().to_vec()).collect())
    }

    /// Where the folds of each class begin, but the first.
    async fn starts(&self, trained: &DataFrame, counts: &BTreeMap<u64, i64>) -> Result<BTreeMap<u64, Vec<[u64; 2]>>> {
        let names = ["class", "first", "second"];
        let [first, second] = self.order.clone();
        let columns = [cast(self.class.clone(), DataType::UInt64), first, second];
        let rows = trained
            .clone()
            .select(columns.into_iter().zip(names).map(|(e, name)| e.alias(name)).collect::<Vec<_>>())?;
        let in_order = ["first", "second"].map(|name| ident(name).sort(true, false)).to_vec();
        let rank = row_number().partition_by(vec![ident("class")]).order_by(in_order).build()?;
        let rows = rows.window(vec![rank.alias("rank")])?;

        let n_of_class = counts.iter().map(|(class, n)| (ident("class").eq(lit(*class)), lit(*n))).collect();
        let n_of_class = case(n_of_class, lit(1_i64))?;
        // The row before has this rank less one, and ranks begin at 1.
        let fold = |rank: Expr| rank * lit(self.k) / n_of_class.clone();
        let rank = || cast(ident("rank"), DataType::Int64);
        let is_start = rank().gt(lit(1_i64)).and(fold(rank() - lit(1_i64)).not_eq(fold(rank() - lit(2_i64))));
        let starts = rows.filter(is_start)?.sort(names.map(|name| ident(name).sort(true, false)).to_vec())?;
        let found = collect(starts.select(names.map(ident).to_vec())?).await?;
        let mut of_class: BTreeMap<u64, Vec<[u64; 2]>> = BTreeMap::new();
        if let [class, first, second] = &found[..] {
            let values = [class, first, second].map(|array| array.as_primitive::<UInt64Type>().values());
            for ((class, first), second) in values[0].iter().zip(values[1]).zip(values[2]) {
                of_class.entry(*class).or_default().push([*first, *second]);
            }
        }
        Ok(of_class)
    }
}

/// A hash of the columns that identify a row, of whatever types.
pub(super) fn key_hash(key: &[String], seed: u64) -> Result<Expr> {
    let text = |name: &String| cast(ident(name), DataType::Utf8);
    let hashes = key.iter().zip(1..).map(|(name, i)| fold_hash_of(text(name), seed.wrapping_add(i)));
    hashes.reduce(bitwise_xor).ok_or_else(|| EngineError::Invalid("key must name at least one column".to_owned()))
}

/// How many of these conditions hold, of which each holds only where those before it do.
fn n_reached(conditions: impl DoubleEndedIterator<Item = Expr> + ExactSizeIterator) -> Result<Expr> {
    let n = conditions.len() as u32;
    let last_first = conditions.rev().zip(0..n).map(|(condition, i)| (condition, lit(n - i)));
    case(last_first.collect(), lit(0_u32))
}

/// The value of the first condition that holds.
fn case(branches: Vec<(Expr, Expr)>, otherwise: Expr) -> Result<Expr> {
    let mut branches = branches.into_iter();
    let Some((condition, value)) = branches.next() else { return Ok(otherwise) };
    let mut case = when(condition, value);
    for (condition, value) in branches {
        case = case.when(condition, value);
    }
    Ok(case.otherwise(otherwise)?)
}

/// The columns of all rows.
async fn collect(rows: DataFrame) -> Result<Vec<ArrayRef>> {
    let schema = std::sync::Arc::new(rows.schema().as_arrow().clone());
    Ok(concat_batches(&schema, &rows.collect().await?)?.columns().to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow::array::{Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::{Int32Type, UInt32Type};
    use datafusion::datasource::MemTable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// A row and where it was put.
    #[derive(Debug, Clone, PartialEq)]
    struct Put {
        id: i64,
        day: i32,
        class: i64,
        fold: u32,
        /// The folds whose models are trained on it.
        trains: Vec<u32>,
        validates: Vec<u32>,
    }

    /// Rows of 12 days, the later days longer; every 30th row is of class 1.
    fn batch(ids: &[i64]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 6] = [
            ("id", Arc::new(Int64Array::from(ids.to_vec()))),
            ("day", Arc::new(Date32Array::from_iter_values(ids.iter().map(|id| day(*id))))),
            ("at", Arc::new(TimestampMillisecondArray::from_iter_values(ids.iter().map(|id| id * 3_600_000)))),
            ("x", Arc::new(Float64Array::from_iter_values(ids.iter().map(|id| *id as f64 / 2.0)))),
            ("name", Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("n{id}"))))),
            ("y", Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| i64::from(id % 30 == 7))))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn day(id: i64) -> i32 {
        19_000 + (id as f64).sqrt() as i32
    }

    fn rows_of(partitions: &[Vec<i64>]) -> DataFrame {
        let batches: Vec<Vec<RecordBatch>> = partitions.iter().map(|ids| vec![batch(ids)]).collect();
        let table = MemTable::try_new(batches[0][0].schema(), batches).unwrap();
        let config = SessionConfig::new().with_target_partitions(partitions.len());
        SessionContext::new_with_config(config).read_table(Arc::new(table)).unwrap()
    }

    fn rows(n: i64) -> DataFrame {
        rows_of(&[(0..n).collect()])
    }

    async fn deal(folds: &Folds, rows: &DataFrame) -> Result<Vec<Put>> {
        let label = Label::binary("y");
        folds.check()?;
        folds.check_type(rows.schema().field_with_unqualified_name(&folds.by)?.data_type(), &label)?;
        let dealt = folds.deal(rows, &["id".to_owned()], &label, 3).await?;
        let put = rows.clone().with_column(FOLD_COLUMN, dealt.column())?;
        let mut columns = ["id", "day", "y", FOLD_COLUMN].map(ident).to_vec();
        columns.extend(dealt.numbers().map(|f| dealt.training(f).alias(format!("trains {f}"))));
        columns.extend(dealt.numbers().map(|f| dealt.validation(f).alias(format!("validates {f}"))));
        let found = collect(put.select(columns)?.sort(vec![ident("id").sort(true, false)])?).await?;
        let (k, first) = (folds.k as usize, dealt.numbers().start);
        let holds = |columns: &[ArrayRef], row: usize| -> Vec<u32> {
            (first..).zip(columns).filter(|(_, c)| c.as_boolean().value(row)).map(|(f, _)| f).collect()
        };
        let row = |row| Put {
            id: found[0].as_primitive::<Int64Type>().value(row),
            day: cast_array(&found[1], &DataType::Int32).unwrap().as_primitive::<Int32Type>().value(row),
            class: found[2].as_primitive::<Int64Type>().value(row),
            fold: found[3].as_primitive::<UInt32Type>().value(row),
            trains: holds(&found[4..4 + k], row),
            validates: holds(&found[4 + k..], row),
        };
        Ok((0..found[0].len()).map(row).collect())
    }

    async fn refused(folds: &Folds, n: i64) -> String {
        deal(folds, &rows(n)).await.unwrap_err().to_string()
    }

    fn sizes(put: &[Put], wanted: impl Fn(&Put) -> bool) -> Vec<usize> {
        let last = put.iter().map(|row| row.fold).max().unwrap();
        (0..=last).map(|fold| put.iter().filter(|row| row.fold == fold && wanted(row)).count()).collect()
    }

    fn kinds() -> [Folds; 6] {
        let days = Gap::Span("2 days".to_owned().try_into().unwrap());
        [
            Folds::hash(3, "day"),
            Folds::stratified(4, "name"),
            Folds::time(3, "day", None),
            Folds::time(3, "day", Some(days)),
            Folds::time(3, "x", Some(Gap::Number(2.5))),
            Folds::split("id", 0.25),
        ]
    }

    #[tokio::test]
    async fn every_row_is_validated_on_once_at_most_and_never_where_it_is_trained_on() {
        for folds in kinds() {
            let put = deal(&folds, &rows(1_000)).await.unwrap();
            for row in &put {
                assert!(row.validates.len() <= 1 && row.validates.iter().all(|f| !row.trains.contains(f)), "{row:?}");
            }
            for fold in folds.numbers() {
                assert!(put.iter().any(|row| row.trains.contains(&fold)), "{folds}: nothing to train fold {fold} on");
                assert!(put.iter().any(|row| row.validates.contains(&fold)), "{folds}: nothing to validate {fold} on");
            }
        }
    }

    #[tokio::test]
    async fn folds_do_not_depend_on_the_order_and_partitioning_of_rows() {
        let dealt_in = |n: i64| (0..n).map(|part| (0..600).rev().filter(|id| id * 7 % n == part).collect()).collect();
        let partitions: Vec<Vec<i64>> = dealt_in(7);
        for folds in kinds() {
            let put = deal(&folds, &rows(600)).await.unwrap();
            assert_eq!(put, deal(&folds, &rows_of(&partitions)).await.unwrap(), "{folds}");
        }
    }

    #[tokio::test]
    async fn strata_differ_by_one_row_of_a_class_at_most() {
        for by in ["name", "day"] {
            let put = deal(&Folds::stratified(4, by), &rows(1_000)).await.unwrap();
            for class in [0, 1] {
                let sizes = sizes(&put, |row| row.class == class);
                assert!(
                    sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1,
                    "{by}, class {class}: {sizes:?}"
                );
            }
        }
    }

    /// scikit-learn 1.9: `TimeSeriesSplit(4).split(range(103))` tests on the last 20, 40, 60, 80 rows.
    #[tokio::test]
    async fn blocks_in_time_are_those_of_scikit_learn() {
        for by in ["id", "at", "x"] {
            let put = deal(&Folds::time(4, by, None), &rows(103)).await.unwrap();
            assert_eq!(sizes(&put, |_| true), [23, 20, 20, 20, 20]);
            assert!(put.is_sorted_by_key(|row| row.fold));
            for row in put {
                assert_eq!(row.trains, (row.fold + 1..=4).collect::<Vec<_>>());
            }
        }
    }

    #[tokio::test]
    async fn equal_times_are_not_parted_and_the_gap_is_trained_on_by_none() {
        let [.., no_gap, gap, _, _] = kinds();
        let days = |put: &[Put], wanted: &dyn Fn(&Put) -> bool| -> BTreeSet<i32> {
            put.iter().filter(|row| wanted(row)).map(|row| row.day).collect()
        };
        for (folds, length) in [(no_gap, 0), (gap, 2)] {
            let put = deal(&folds, &rows(1_000)).await.unwrap();
            for fold in 1..=3 {
                let validated = days(&put, &|row| row.validates.contains(&fold));
                let trained = days(&put, &|row| row.trains.contains(&fold));
                let first = *validated.first().unwrap();
                assert_eq!(*trained.last().unwrap(), first - length - 1, "{folds}: {fold}");
                assert_eq!(*trained.first().unwrap(), 19_000);
                assert!(validated.is_disjoint(&days(&put, &|row| !row.validates.contains(&fold))));
            }
        }
        let hours = Gap::Span("90 minutes".to_owned().try_into().unwrap());
        let put = deal(&Folds::time(1, "at", Some(hours)), &rows(10)).await.unwrap();
        let trained: Vec<i64> = put.iter().filter(|row| row.trains == [1]).map(|row| row.id).collect();
        assert_eq!(trained, [0, 1, 2, 3], "the block begins with row 5, row 4 is an hour before it");
    }

    #[tokio::test]
    async fn a_split_has_its_share() {
        let put = deal(&Folds::split("id", 0.25), &rows(4_000)).await.unwrap();
        let [validated, trained] = sizes(&put, |_| true)[..] else { panic!("{put:?}") };
        assert!((validated as f64 / 4_000.0 - 0.25).abs() < 0.02, "{validated}");
        assert_eq!(trained, put.iter().filter(|row| row.trains == [0]).count());
    }

    #[tokio::test]
    async fn what_cannot_be_dealt_is_refused() {
        let says = |message: String, parts: &[&str]| {
            parts.iter().for_each(|part| assert!(message.contains(part), "{message} lacks {part:?}"));
        };
        says(refused(&Folds::time(5, "day", None), 20).await, &["6 blocks", "\"day\"", "fewer folds"]);
        says(refused(&Folds::time(5, "id", None), 4).await, &["4 rows", "6 blocks"]);
        says(refused(&Folds::stratified(4, "id"), 90).await, &["class 1", "3 rows", "4 folds"]);
        says(refused(&Folds::time(2, "name", None), 9).await, &["Utf8", "a date, a timestamp or a number"]);
        says(refused(&Folds::time(2, "day", Some(Gap::Number(1.0))), 9).await, &["Date32", "7 days"]);
        says(refused(&Folds::time(2, "id", Some(Gap::Number(0.5))), 9).await, &["must be whole"]);
        says(refused(&Folds::time(2, "id", Some(Gap::Number(-1.0))), 9).await, &["at least 0"]);
        says(refused(&Folds::hash(2, "x"), 9).await, &["Float64", "to be hashed"]);
        says(refused(&Folds::hash(1, "id"), 9).await, &["at least 2, got 1"]);
        says(refused(&Folds { k: 2, ..Folds::split("id", 0.5) }, 9).await, &["k must be 1"]);
        says(refused(&Folds::split("id", 1.0), 9).await, &["validation_fraction"]);
        let numbers = Folds::stratified(2, "id").check_type(&DataType::Int64, &Label::number("x"));
        says(numbers.unwrap_err().to_string(), &["regression", "no classes"]);
        let nowhere = rows(9).with_column("x", lit(f64::NAN)).unwrap();
        let message = deal(&Folds::time(2, "x", None), &nowhere).await.unwrap_err().to_string();
        says(message, &["null or NaN in 9 of 9"]);
    }

    #[test]
    fn a_job_file_says_which_kind() {
        let read = |text: &str| serde_json::from_str::<Folds>(text).map_err(|e| e.to_string());
        assert_eq!(read(r#"{"k": 3, "by": "ds"}"#), Ok(Folds::hash(3, "ds")));
        assert_eq!(read(r#"{"kind": "split", "by": "ds"}"#), Ok(Folds::split("ds", 0.25)));
        let gap = Gap::Span("7 days".to_owned().try_into().unwrap());
        let time = read(r#"{"kind": "time", "k": 3, "by": "ds", "gap": "7 days"}"#).unwrap();
        assert_eq!(time, Folds::time(3, "ds", Some(gap)));
        assert_eq!(time.to_string(), "3 in the order of ds, 7 days left out before each");
        for (text, part) in [
            (r#"{"k": 3, "by": "ds", "gap": 3}"#, "grid.folds.gap is for kind: time"),
            (r#"{"k": 3, "by": "ds", "validation_fraction": 0.2}"#, "for kind: split"),
            (r#"{"kind": "time", "by": "ds"}"#, "grid.folds.k is missing"),
            (r#"{"kind": "time", "k": 3, "by": "ds", "gap": "1 month"}"#, "without months"),
            (r#"{"kind": "time", "k": 3, "by": "ds", "gap": true}"#, "got true"),
            (r#"{"kind": "stratifed", "k": 3, "by": "ds"}"#, "`stratified`"),
        ] {
            let message = read(text).unwrap_err();
            assert!(message.contains(part), "{message} lacks {part:?}");
        }
    }
}
