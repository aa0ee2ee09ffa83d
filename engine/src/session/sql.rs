//! SQL: queries over the warehouse, and the statements that change it.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, WriteOp, dml::InsertOp};
use futures::FutureExt;
use futures::future::BoxFuture;
use tidemill_ml::suggest::did_you_mean;

use super::asof::{parse_statement, view_query};
use super::warehouse::View;
use super::{CommitNote, Session, WriteMode};
use crate::jobs::Device;
use crate::plan::predict;
use crate::{EngineError, Result};

/// How deep views may stand on views.
const MAX_VIEW_DEPTH: usize = 16;

impl Session {
    /// Runs one SQL statement.
    ///
    /// Queries see the session's tables and the warehouse's tables and views, as they are now; `predict('model@alias')`
    /// scores with the version that the alias means now. `create table … as`, `insert into`, `create view` and `drop`
    /// change the warehouse and are done when this returns; their rows say what was done.
    ///
    /// `create feature view name options (key = ['carrier'], event_time = 'at', …) as select …` declares a feature view, as
    /// [`Session::declare_feature_view`] does.
    ///
    /// `left asof join right match_condition (l.t >= r.t) on l.k = r.k` is [`Session::asof_join`] with all columns of both
    /// sides; `tolerance interval '2 hours'` and `known as of r.seen` may follow.
    ///
    /// # Errors
    /// SQL that does not parse (with line and column), names that do not exist, what the statement itself fails with.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame> {
        if let Some(view) = crate::features::parse_create(sql)? {
            self.declare_feature_view(&view).await?;
            return self.report("feature views", 1);
        }
        let plan = self.plan(sql, 0).await?;
        self.execute(plan, sql).await
    }

    /// The logical plan of one query, its models resolved and pinned.
    ///
    /// # Errors
    /// As [`Session::sql`], and a statement that is not a query.
    pub async fn query(&self, sql: &str) -> Result<LogicalPlan> {
        let plan = self.plan(sql, 0).await?;
        match plan {
            LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Statement(_) | LogicalPlan::Copy(_) => {
                Err(EngineError::Invalid(format!(
                    "expected one SELECT, got: {}",
                    sql.trim().lines().next().unwrap_or_default()
                )))
            }
            query => Ok(query),
        }
    }

    fn plan<'a>(&'a self, sql: &'a str, depth: usize) -> BoxFuture<'a, Result<LogicalPlan>> {
        async move {
            let state = self.context().state();
            let statement = parse_statement(&state, sql)?;
            let mut missing = Vec::new();
            for table in state.resolve_table_references(&statement)? {
                if table.schema() == Some("information_schema") {
                    self.bring_all().await?;
                } else if !self.bring_table(&table, depth).await? {
                    missing.push(table.table().to_owned());
                }
            }
            let models = self.resolve_models(predict::names_in(&statement)).await?;
            let plan = match self.context().state().statement_to_plan(statement).await {
                Ok(plan) => plan,
                Err(e) => return Err(self.explain_missing(e, &missing).await),
            };
            self.with_models(plan, Device::Cpu, models).await
        }
        .boxed()
    }

    /// Makes a table of the warehouse known to the session, as it is now; false when there is none.
    async fn bring_table(&self, table: &TableReference, depth: usize) -> Result<bool> {
        let (None | Some("public"), name) = (table.schema(), table.table()) else { return Ok(true) };
        if self.is_own_table(name)? {
            return Ok(true);
        }
        if let Some(table) = self.warehouse().open_table(name).await? {
            self.register_warehouse(name, Arc::new(table.snapshot(None).await?))?;
            return Ok(true);
        }
        match self.warehouse().view(name).await? {
            Some(view) => self.bring_view(name, view, depth).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Makes every table and view of the warehouse known; a view that no longer plans is left out.
    async fn bring_all(&self) -> Result<()> {
        for name in self.tables().await? {
            if let Err(error) = self.bring_table(&TableReference::bare(name.as_str()), 0).await {
                tracing::warn!(name, %error, "left out");
            }
        }
        Ok(())
    }

    /// A planning error, told by the name that is nearest where it is about a table that is not there.
    async fn explain_missing(&self, e: DataFusionError, missing: &[String]) -> EngineError {
        let message = e.find_root().to_string();
        let about = |name: &&String| message.contains(&format!(".{name}' not found"));
        let Some(name) = missing.iter().find(about) else { return e.into() };
        let mut known = self.tables().await.unwrap_or_default();
        known.extend(
            self.context()
                .catalog("datafusion")
                .and_then(|c| c.schema("public"))
                .map(|s| s.table_names())
                .unwrap_or_default(),
        );
        let hint = did_you_mean(name, known.iter().map(String::as_str));
        EngineError::NotFound(format!("table {name:?} does not exist{hint}; all that do: show tables"))
    }

    async fn bring_view(&self, name: &str, view: View, depth: usize) -> Result<()> {
        if depth >= MAX_VIEW_DEPTH {
            return Err(EngineError::Invalid(format!(
                "view {name:?} stands on more than {MAX_VIEW_DEPTH} views, or on itself"
            )));
        }
        for (table, location) in &view.tables {
            if !self.context().table_exist(table.as_str())? {
                self.register_parquet(table, location).await?;
            }
        }
        let plan = self.plan(&view.sql, depth + 1).await?;
        self.register_warehouse(name, Arc::new(ViewTable::new(plan, Some(view.sql))))
    }

    /// Runs a plan: a query lazily, a change of the warehouse at once.
    async fn execute(&self, plan: LogicalPlan, sql: &str) -> Result<DataFrame> {
        match plan {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(c)) => {
                let name = own_name(&c.name)?;
                if self.warehouse().open_table(&name).await?.is_some() {
                    match (c.or_replace, c.if_not_exists) {
                        (true, _) => {}
                        (_, true) => return self.report("rows", 0),
                        _ => {
                            return Err(EngineError::Invalid(format!(
                                "table {name:?} exists; use create or replace table, or insert into"
                            )));
                        }
                    }
                }
                let written =
                    self.write_plan(c.input.as_ref().clone(), &name, WriteMode::Replace, CommitNote::default()).await?;
                self.report("rows", written.n_rows)
            }
            LogicalPlan::Dml(d) if self.warehouse().open_table(d.table_name.table()).await?.is_some() => {
                let mode = match d.op {
                    WriteOp::Insert(InsertOp::Append) => WriteMode::Append,
                    WriteOp::Insert(InsertOp::Overwrite) => WriteMode::Replace,
                    other => {
                        return Err(EngineError::Invalid(format!(
                            "{other} is not possible on the table {}; insert into and insert overwrite are",
                            d.table_name
                        )));
                    }
                };
                let written = self
                    .write_plan(d.input.as_ref().clone(), d.table_name.table(), mode, CommitNote::default())
                    .await?;
                self.report("rows", written.n_rows)
            }
            LogicalPlan::Ddl(DdlStatement::CreateView(c)) => {
                let name = own_name(&c.name)?;
                if !c.or_replace && self.warehouse().view(&name).await?.is_some() {
                    return Err(EngineError::Invalid(format!("view {name:?} exists; use create or replace view")));
                }
                self.warehouse().put_view(&name, &View { sql: view_query(sql)?, tables: Default::default() }).await?;
                self.report("views", 1)
            }
            LogicalPlan::Ddl(DdlStatement::DropView(d)) => {
                let name = own_name(&d.name)?;
                if self.warehouse().view(&name).await?.is_none() && !d.if_exists {
                    return Err(EngineError::NotFound(format!("view {name:?} does not exist in the warehouse")));
                }
                self.warehouse().drop_view(&name).await?;
                self.report("views", 1)
            }
            LogicalPlan::Ddl(DdlStatement::DropTable(d))
                if self.warehouse().open_table(d.name.table()).await?.is_some() =>
            {
                self.drop_table(d.name.table()).await?;
                self.report("tables", 1)
            }
            other => Ok(self.context().execute_logical_plan(other).await?),
        }
    }
}

fn own_name(name: &TableReference) -> Result<String> {
    match name.schema() {
        None | Some("public") => Ok(name.table().to_owned()),
        Some(other) => {
            Err(EngineError::Invalid(format!("schema {other:?} does not exist in the warehouse; leave it out")))
        }
    }
}
