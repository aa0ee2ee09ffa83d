//! As-of joins: each left row with the latest right row of its key at its time.
//!
//! What matches. For a left row, the right rows of equal keys whose time is at or before the left's (before it, when
//! strict), no further back than the tolerance, and, where a known-at column is given, known at or before the left
//! row's time: a row that arrived later was not there to be seen. Of these the one with the latest time is taken; of
//! equal times the one with the latest known-at, where that is given; of what is still equal the one that ranks last
//! by all the right side's columns in their order, nulls first. So the result is a function of the rows, not of their
//! order, partitions or batches. For the same reason the right side keeps all its columns below the join whatever is
//! selected above: select what is wanted from it before the join.
//!
//! Every left row comes out once; where nothing matches, the right's columns are null. Null keys and null or NaN
//! times match nothing. Keys are equal by DataFusion's total order: `NaN` is equal to itself, `-0.0` is not `0.0`.
//!
//! The output's columns are all of the left's, then all of the right's, as those of DuckDB's `ASOF JOIN … ON`;
//! [`crate::Session::asof_join`] puts `USING` on top of it. In SQL it is `ASOF JOIN … MATCH_CONDITION (…) ON …`.
//!
//! How. A right side that is expected to be as small as what a hash join collects is indexed, and [`AsofLookupExec`]
//! looks left rows up as they come: several such joins are one pass over the left. Otherwise both sides are partitioned
//! by the keys, and [`AsofJoinExec`] holds a partition of the left and takes the right rows as they come, unsorted, of
//! which it keeps at most one for each left row, and some more until they are dropped. Where memory does not allow that,
//! it goes on by sorting both sides by keys and time, sorts that spill, and merging them: it then holds a batch of the
//! left, a few of the right, and with known-at the rows of one key that are not known yet and could still be taken.

mod exec;
mod lookup;
mod merge;
mod node;
mod order;
mod push;
mod slots;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;

use arrow::datatypes::Schema;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, plan_err};
use serde::{Deserialize, Serialize};

pub use exec::AsofJoinExec;
pub use lookup::AsofLookupExec;
pub use node::AsofJoinNode;
pub(crate) use push::PushLeftFilters;
use time::Clock;
pub use time::Tolerance;
pub(crate) use time::ticks;

/// What an as-of join matches by. Columns are `C`: columns of the logical inputs, positions in the physical ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AsofSpec<C> {
    /// The columns that must be equal, left and right.
    pub on: Vec<(C, C)>,
    /// The left's time.
    pub left_time: C,
    /// The right's time.
    pub right_time: C,
    /// When each right row came to be known; at its time when absent.
    pub known_at: Option<C>,
    /// Whether a right row at the left's very time is out (`>` and not `>=`).
    pub strict: bool,
    /// How far before the left's time a right row may lie; no bound when absent.
    pub tolerance: Option<Tolerance>,
}

impl<C> AsofSpec<C> {
    /// The same with other columns.
    fn try_map<D>(&self, left: impl Fn(&C) -> Result<D>, right: impl Fn(&C) -> Result<D>) -> Result<AsofSpec<D>> {
        Ok(AsofSpec {
            on: self.on.iter().map(|(l, r)| Ok((left(l)?, right(r)?))).collect::<Result<_>>()?,
            left_time: left(&self.left_time)?,
            right_time: right(&self.right_time)?,
            known_at: self.known_at.as_ref().map(right).transpose()?,
            strict: self.strict,
            tolerance: self.tolerance,
        })
    }
}

impl<C: fmt::Display> fmt::Display for AsofSpec<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.on.iter().map(|(l, r)| format!("{l} = {r}")).collect();
        let compare = if self.strict { ">" } else { ">=" };
        write!(f, "on=[{}], {} {compare} {}", keys.join(", "), self.left_time, self.right_time)?;
        if let Some(tolerance) = &self.tolerance {
            write!(f, ", tolerance={tolerance}")?;
        }
        match &self.known_at {
            Some(column) => write!(f, ", known_at={column}"),
            None => Ok(()),
        }
    }
}

impl AsofSpec<usize> {
    /// Whether the columns are there and of types that can be joined so.
    ///
    /// # Errors
    /// No key, a key of two types or of a nested type, a column that is not a time, times of two kinds, a right column
    /// that has no order.
    pub(crate) fn check(&self, left: &Schema, right: &Schema) -> Result<()> {
        self.check_positions(left, right)?;
        if self.on.is_empty() {
            return plan_err!("an as-of join matches rows of equal keys, got no key; name a column of each side");
        }
        for (l, r) in &self.on {
            let (l, r) = (left.field(*l), right.field(*r));
            if l.data_type() != r.data_type() {
                return plan_err!(
                    "the key {:?} is {} on the left, and {:?} is {} on the right; cast one of them",
                    l.name(),
                    l.data_type(),
                    r.name(),
                    r.data_type()
                );
            }
            if l.data_type().is_nested() {
                return plan_err!("the key {:?} is {}, expected a type that is not nested", l.name(), l.data_type());
            }
        }
        for field in right.fields() {
            if !RowConverter::supports_fields(&[SortField::new(field.data_type().clone())]) {
                return plan_err!(
                    "the right side's column {:?} is {}, by which equal times cannot be ranked; leave it out",
                    field.name(),
                    field.data_type()
                );
            }
        }
        self.check_times(left, right)
    }

    fn check_positions(&self, left: &Schema, right: &Schema) -> Result<()> {
        let of = |n: usize| move |i: &usize| if *i < n { Ok(*i) } else { plan_err!("column {i} of {n}") };
        self.try_map(of(left.fields().len()), of(right.fields().len())).map(|_| ())
    }

    fn check_times(&self, left: &Schema, right: &Schema) -> Result<()> {
        let time = left.field(self.left_time);
        let clock = Clock::of(time)?;
        for other in self.known_at.iter().chain([&self.right_time]).map(|i| right.field(*i)) {
            if Clock::of(other)? != clock {
                return plan_err!(
                    "the times {:?} ({}) and {:?} ({}) are of two kinds; cast one of them",
                    time.name(),
                    time.data_type(),
                    other.name(),
                    other.data_type()
                );
            }
        }
        match self.tolerance {
            Some(t) if !t.fits(clock) => plan_err!("the tolerance {t} is not for {}", time.data_type()),
            _ => Ok(()),
        }
    }
}
