//! Which columns of text scans read as views, and that nobody can tell from the rows.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tidemill_connectors::files::{FileTable, TextViews};
use tidemill_connectors::stores::StoreOptions;

use crate::support::{context, location};

/// Queries, and the columns that they read as views when `count` and `octet_length` take views.
const QUERIES: [(&str, &[&str]); 20] = [
    ("select a, count(*), avg(n) from t group by a", &["a"]),
    ("select a, b, min(n) from t group by a, b", &["a", "b"]),
    ("select a, count(b) from t where n > 3 group by a", &["a", "b"]),
    ("select count(a), octet_length(b) as k from t group by k", &["a", "b"]),
    ("select k, count(*) from (select a || '!' as k, b from t where n > 3) group by k", &[]),
    ("select a, count(*) from t where a <> 'short' group by a", &[]),
    ("select a, count(*) from t where b <> 'short' group by a", &["a"]),
    ("select a, count(*) from t where a is not null and n > 3 group by a", &["a"]),
    ("select a, max(b) from t group by a", &["a"]),
    ("select a, min(a) from t group by a", &[]),
    ("select a, count(*) filter (where a > 'b') from t group by a", &[]),
    ("select a, array_agg(n order by a) from t group by a", &[]),
    ("select a, grouping(a) from t group by rollup(a)", &[]),
    ("select a, b from t", &[]),
    ("select octet_length(a), b from t", &["a"]),
    ("select sum(cast(a is null as bigint)), count(b) from t", &["a", "b"]),
    ("select octet_length(a), a from t", &[]),
    ("select distinct a from t", &["a"]),
    ("select c, count(*) from t group by c", &[]),
    ("select x.a, count(*) from t x join t y on x.n = y.n group by x.a", &[]),
];

/// Texts on both sides of what a view holds in itself, nulls and empty ones among them.
fn rows() -> RecordBatch {
    // The last is too long for a bound in statistics: only the least is known.
    let long = "z".repeat(100);
    let texts = ["", "short", "twelve bytes", "thirteen byte", "a text that is longer than any view", &long];
    let text = |row: usize| (row % 7 < texts.len()).then(|| texts[row % 7]);
    let columns: [(&str, ArrayRef); 4] = [
        ("a", Arc::new((0..2_000).map(text).collect::<StringArray>())),
        ("b", Arc::new((0..2_000).map(|row| text(row / 5)).collect::<StringArray>())),
        ("c", Arc::new((0..2_000).map(text).collect::<StringArray>())),
        ("n", Arc::new(Int64Array::from_iter_values(0..2_000))),
    ];
    let metadata = |name: &str| (name == "c").then(|| ("kind".to_owned(), "json".to_owned())).into_iter().collect();
    let field = |(name, column): &(&str, ArrayRef)| {
        Field::new(*name, column.data_type().clone(), true).with_metadata(metadata(name))
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}

/// The columns that the plan's scans read as views.
fn views(plan: &Arc<dyn ExecutionPlan>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let look = |node: &Arc<dyn ExecutionPlan>| {
        if let Some((_, source)) =
            node.downcast_ref().and_then(DataSourceExec::downcast_to_file_source::<ParquetSource>)
        {
            let views = source
                .table_schema()
                .file_schema()
                .fields()
                .iter()
                .filter(|field| *field.data_type() == DataType::Utf8View);
            found.extend(views.map(|field| field.name().clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    };
    plan.apply(look).unwrap();
    found
}

#[tokio::test]
async fn text_is_read_as_views_where_nobody_can_tell() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let properties = WriterProperties::builder().set_statistics_truncate_length(None).build();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), rows().schema(), Some(properties)).unwrap();
    writer.write(&rows()).unwrap();
    writer.close().unwrap();
    let table: Arc<dyn TableProvider> = Arc::new(FileTable::open(&location(&path)).await.unwrap());
    let plain = context(StoreOptions::default());
    let rule = TextViews::new(|function| ["count", "octet_length"].contains(&function));
    let state =
        SessionStateBuilder::new_from_existing(plain.state()).with_physical_optimizer_rule(Arc::new(rule)).build();
    let with_rule = SessionContext::new_with_state(state);
    // Both contexts have one catalog.
    plain.register_table("t", table).unwrap();
    for (sql, expected) in QUERIES {
        let mut shown = vec![];
        for context in [&plain, &with_rule] {
            let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
            let expected = if std::ptr::eq(context, &plain) { &[] } else { expected };
            let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(views(&plan), expected, "{sql}");
            let batches = collect(plan, context.task_ctx()).await.unwrap();
            let table = pretty_format_batches(&batches).unwrap().to_string();
            let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
            lines.sort();
            shown.push((batches.first().map(RecordBatch::schema), lines));
        }
        assert_eq!(shown[0], shown[1], "{sql}");
    }
}
