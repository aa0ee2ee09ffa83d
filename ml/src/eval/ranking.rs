//! `roc_auc(score, label [, weight])` and `lift(score, label, share [, weight])`: what the order of scores tells.

use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::aggregate::{coerce_scores, for_each_score};
use super::curve::{Ranked, cumulative, lift_of, roc_area, weighted_roc_area};
use crate::functions::support;

/// The area under the ROC curve.
pub(super) fn roc_auc() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Ranking::new(Kind::RocAuc)))
}

/// The rate of class 1 among the highest scores over that among all.
pub(super) fn lift() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Ranking::new(Kind::Lift)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    RocAuc,
    Lift,
}

impl Kind {
    /// How many arguments precede the weight.
    fn n_arguments(self) -> usize {
        match self {
            Self::RocAuc => 2,
            Self::Lift => 3,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ranking {
    kind: Kind,
    signature: Signature,
}

impl Ranking {
    fn new(kind: Kind) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Ranking {
    fn name(&self) -> &str {
        match self.kind {
            Kind::RocAuc => "roc_auc",
            Kind::Lift => "lift",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_scores(self.name(), types, if self.kind == Kind::Lift { &["share"] } else { &[] })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return exec_err!("{} does not support DISTINCT", self.name());
        }
        let share = if self.kind == Kind::Lift { share(&args)? } else { 1.0 };
        let is_weighted = args.exprs.len() > self.kind.n_arguments();
        Ok(Box::new(Rows { kind: self.kind, share, is_weighted, classes: Default::default() }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
        let field = |name| Arc::new(Field::new(format_state_name(args.name, name), list.clone(), true));
        Ok(["negatives", "negative_weights", "positives", "positive_weights"].map(field).to_vec())
    }
}

/// The share of the rows that a lift is of.
fn share(args: &AccumulatorArgs<'_>) -> Result<f64> {
    let literal = support::literal_argument(args, 2).map(|literal| literal.cast_to(&DataType::Float64)).transpose()?;
    match literal {
        Some(ScalarValue::Float64(Some(share))) if share > 0.0 && share <= 1.0 => Ok(share),
        Some(other) => plan_err!("lift: the share must be a number above 0, up to 1, got {other}"),
        None => plan_err!("lift: the share must be a literal number above 0, up to 1"),
    }
}

/// The rows of each class.
#[derive(Debug)]
struct Rows {
    kind: Kind,
    share: f64,
    is_weighted: bool,
    classes: [OfClass; 2],
}

/// Scores and, where rows have weights, those.
#[derive(Debug, Default)]
struct OfClass {
    scores: Vec<f64>,
    weights: Vec<f64>,
}

impl Rows {
    fn ranked(&self) -> Vec<Ranked> {
        let mut rows = Vec::with_capacity(self.classes.iter().map(|class| class.scores.len()).sum());
        for (class, is_positive) in self.classes.iter().zip([false, true]) {
            let weights = class.weights.iter().copied().chain(std::iter::repeat(1.0));
            let ranked = class.scores.iter().zip(weights);
            rows.extend(ranked.map(|(score, weight)| Ranked::new(*score, is_positive, weight)));
        }
        rows
    }

    fn area(&self) -> Option<f64> {
        let [negatives, positives] = &self.classes;
        if negatives.scores.is_empty() || positives.scores.is_empty() {
            return None;
        }
        if self.is_weighted {
            return Some(weighted_roc_area(&mut self.ranked()));
        }
        let scores: Vec<f64> = positives.scores.iter().chain(&negatives.scores).copied().collect();
        let labels: Vec<f64> = (0..scores.len()).map(|i| f64::from(u8::from(i < positives.scores.len()))).collect();
        Some(roc_area(&cumulative(&scores, &labels)))
    }
}

impl Accumulator for Rows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let name = if self.kind == Kind::Lift { "lift" } else { "roc_auc" };
        for_each_score(name, values, self.kind.n_arguments(), |score, is_positive, weight| {
            let class = &mut self.classes[usize::from(is_positive)];
            class.scores.push(score);
            if self.is_weighted {
                class.weights.push(weight);
            }
        })
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(match self.kind {
            Kind::RocAuc => self.area(),
            Kind::Lift => lift_of(&mut self.ranked(), self.share),
        }))
    }

    fn size(&self) -> usize {
        let held = self.classes.iter().map(|class| class.scores.capacity() + class.weights.capacity()).sum::<usize>();
        size_of_val(self) + held * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |numbers: &mut Vec<f64>| {
            let numbers: ArrayRef = Arc::new(Float64Array::from(std::mem::take(numbers)));
            SingleRowListArrayBuilder::new(numbers).build_list_scalar()
        };
        Ok(self.classes.iter_mut().flat_map(|class| [list(&mut class.scores), list(&mut class.weights)]).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let parts = self.classes.iter_mut().flat_map(|class| [&mut class.scores, &mut class.weights]);
        for (into, lists) in parts.zip(states) {
            for list in lists.as_list::<i32>().iter().flatten() {
                into.extend(list.as_primitive::<Float64Type>().values());
            }
        }
        Ok(())
    }
}
