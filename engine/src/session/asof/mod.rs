//! As-of joins of DataFrames and in SQL.

mod parse;
mod relation;
#[cfg(test)]
mod tests;

use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use tidemill_ml::suggest::did_you_mean;

pub(crate) use parse::{parse_statement, view_query};
pub(super) use relation::PlanAsofJoin;

use super::Session;
use crate::plan::asof::{AsofJoinNode, AsofSpec, Tolerance};
use crate::{EngineError, Result};

/// What an as-of join matches by besides its keys.
#[derive(Debug, Clone, PartialEq)]
pub struct AsofOptions {
    /// The left's time: the moment at which its row looks at the right side.
    pub left_time: String,
    /// The right's time: the moment from which its row holds.
    pub right_time: String,
    /// Whether a right row at the left's very time is out. Default: it is in.
    pub strict: bool,
    /// How far before the left's time a right row may lie: an interval or duration without months (a day is 24 hours),
    /// or a number where the times are numbers. Default: no bound.
    pub tolerance: Option<ScalarValue>,
    /// The right's column that says when a row came to be known. A left row does not see what was known later than
    /// its time, nor what was never known (null). Default: every row is known.
    pub known_at: Option<String>,
}

impl AsofOptions {
    /// The latest right row at or before the left's time.
    pub fn new(left_time: &str, right_time: &str) -> Self {
        Self {
            left_time: left_time.to_owned(),
            right_time: right_time.to_owned(),
            strict: false,
            tolerance: None,
            known_at: None,
        }
    }
}

impl Session {
    /// Each row of `left` once, with the latest row of `right` that has its keys and had happened by its time.
    ///
    /// `on` names the keys, left and right. Where no right row matches, its columns are null; null keys and null or NaN
    /// times match nothing. Times need to be of one kind (timestamps and dates, integers, …), not of one unit. Right
    /// rows of one key and time are ranked by known-at and then by all their columns in order, so that the result does
    /// not depend on the order of the rows; for that the right side keeps the columns it comes with: select before.
    ///
    /// The columns are the left's, then the right's without those, among keys and times, that have the same name on
    /// both sides: as DuckDB's `ASOF JOIN … USING`. Rows come in no order. Both sides are sorted by keys and time,
    /// which spills; besides that the join holds a few batches, and with known-at the rows of a key that are not known
    /// yet.
    ///
    /// ```
    /// # use tidemill_engine::Session;
    /// # use tidemill_engine::session::AsofOptions;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let session = Session::local().await?;
    /// let flights = session.sql("select 'JFK' as airport, 9 as at").await?;
    /// let weather = "select * from (values ('JFK', 5, 1.5), ('JFK', 10, 7.0)) as t (airport, seen, wind)";
    /// let weather = session.sql(weather).await?;
    /// let joined = session.asof_join(flights, weather, &[("airport", "airport")], &AsofOptions::new("at", "seen"))?;
    /// let rows = arrow::util::pretty::pretty_format_batches(&joined.collect().await?)?.to_string();
    /// assert!(rows.contains("| JFK     | 9  | 5    | 1.5  |"), "{rows}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A column that is not there or is there twice, keys of different types, a column that is not a time, a tolerance
    /// that does not go with the times, a name that both sides have and that is neither a key nor a time.
    pub fn asof_join(
        &self,
        left: DataFrame,
        right: DataFrame,
        on: &[(&str, &str)],
        options: &AsofOptions,
    ) -> Result<DataFrame> {
        let (left, right) = (left.into_parts().1, right.into_parts().1);
        let spec = resolve(left.schema(), right.schema(), on, options)?;
        spec.check(left.schema().as_arrow(), right.schema().as_arrow())?;
        Ok(self.data_frame(join(left, right, &spec)?))
    }
}

/// The columns' positions.
fn resolve(left: &DFSchema, right: &DFSchema, on: &[(&str, &str)], options: &AsofOptions) -> Result<AsofSpec<usize>> {
    let on = on.iter().map(|(l, r)| Ok((position(left, "left", l)?, position(right, "right", r)?)));
    let left_time = position(left, "left", &options.left_time)?;
    let tolerance = options.tolerance.as_ref().map(|t| Tolerance::new(t, left.field(left_time)));
    Ok(AsofSpec {
        on: on.collect::<Result<_>>()?,
        left_time,
        right_time: position(right, "right", &options.right_time)?,
        known_at: options.known_at.as_ref().map(|name| position(right, "right", name)).transpose()?,
        strict: options.strict,
        tolerance: tolerance.transpose()?,
    })
}

fn position(schema: &DFSchema, side: &str, name: &str) -> Result<usize> {
    let mut found = schema.fields().iter().enumerate().filter(|(_, f)| f.name() == name).map(|(i, _)| i);
    let Some(position) = found.next() else {
        let hint = did_you_mean(name, schema.fields().iter().map(|f| f.name().as_str()));
        return Err(EngineError::Invalid(format!("the {side} side of the as-of join has no column {name:?}{hint}")));
    };
    if found.next().is_some() {
        return Err(EngineError::Invalid(format!(
            "the {side} side of the as-of join has {name:?} more than once; select it from one table"
        )));
    }
    Ok(position)
}

/// The join, with the columns that both sides have under one name taken from the left alone.
fn join(left: LogicalPlan, right: LogicalPlan, spec: &AsofSpec<usize>) -> Result<LogicalPlan> {
    let pairs = spec.on.iter().copied().chain([(spec.left_time, spec.right_time)]);
    let same_name = |(l, r): &(usize, usize)| left.schema().field(*l).name() == right.schema().field(*r).name();
    let shared: Vec<usize> = pairs.filter(same_name).map(|(_, r)| r).collect();
    for (i, (qualifier, field)) in right.schema().iter().enumerate() {
        let taken = left.schema().qualified_fields_with_unqualified_name(field.name());
        let collides = taken.iter().any(|(q, _)| q.is_none() || qualifier.is_none() || *q == qualifier);
        if collides && !shared.contains(&i) {
            let name = field.name();
            return Err(EngineError::Invalid(format!(
                "both sides of the as-of join have a column {name:?}; rename it on one of them"
            )));
        }
    }
    let n_left = left.schema().fields().len();
    let right = rename(right, &shared, left.schema())?;
    let joined = AsofJoinNode::at_positions(left, right, spec)?;
    let is_shared = |i: &usize| *i >= n_left && shared.contains(&(i - n_left));
    let columns = joined.schema().columns().into_iter().enumerate().filter(|(i, _)| !is_shared(i));
    let columns: Vec<Expr> = columns.map(|(_, c)| Expr::Column(c)).collect();
    Ok(LogicalPlanBuilder::from(joined).project(columns)?.build()?)
}

/// Gives the columns at these positions names that the left does not have.
fn rename(right: LogicalPlan, positions: &[usize], left: &DFSchema) -> Result<LogicalPlan> {
    let named = |(i, column): (usize, Column)| {
        if !positions.contains(&i) {
            return Expr::Column(column);
        }
        let mut name = format!("__right_{}", column.name);
        while left.has_column_with_unqualified_name(&name) || right.schema().has_column_with_unqualified_name(&name) {
            name.insert(0, '_');
        }
        Expr::Column(column).alias(name)
    };
    let columns: Vec<Expr> = right.schema().columns().into_iter().enumerate().map(named).collect();
    Ok(LogicalPlanBuilder::from(right.clone()).project(columns)?.build()?)
}
