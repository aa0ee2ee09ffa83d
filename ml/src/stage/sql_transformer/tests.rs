use std::sync::Arc;

use arrow::array::{Array, Float64Array, RecordBatch, StringArray};
use datafusion::datasource::MemTable;
use serde_json::json;

use super::*;
use crate::pipeline::{Pipeline, PipelineModel, Subset};
use crate::stage::StageRegistry;

fn schema() -> Schema {
    schema_of(vec![("x".to_owned(), DataType::Float64), ("Text".to_owned(), DataType::Utf8)])
}

fn pipeline(statement: &str) -> Result<Pipeline> {
    Pipeline::from_value(&json!([{"sql_transformer": {"statement": statement}}]), &StageRegistry::default())
}

#[test]
fn what_is_more_than_a_row_is_refused_by_name() {
    let cases = [
        ("SELECT sum(x) AS s FROM __THIS__", "aggregate functions and GROUP BY cannot be in it"),
        ("SELECT x AS s FROM __THIS__ GROUP BY x", "aggregate functions and GROUP BY cannot be in it"),
        ("SELECT DISTINCT x FROM __THIS__", "DISTINCT cannot be in it"),
        ("SELECT x FROM __THIS__ ORDER BY x", "ORDER BY cannot be in it"),
        ("SELECT x FROM __THIS__ LIMIT 3", "LIMIT and OFFSET cannot be in it"),
        ("SELECT sum(x) OVER () AS s FROM __THIS__", "window functions cannot be in it"),
        ("SELECT (SELECT 1) + x AS s FROM __THIS__", "subqueries cannot be in it"),
        ("SELECT x FROM __THIS__ WHERE x IN (SELECT x FROM __THIS__)", "subqueries cannot be in it"),
        ("SELECT x FROM __THIS__ JOIN t ON true", "joins cannot be in it"),
        ("SELECT x FROM __THIS__, t", "expected FROM __THIS__ alone, got 2 tables"),
        ("SELECT x FROM t", "expected FROM __THIS__, got FROM t"),
        ("SELECT x FROM __THIS__ UNION ALL SELECT x FROM __THIS__", "UNION, VALUES and their like cannot be in it"),
        ("WITH t AS (SELECT 1) SELECT x FROM __THIS__", "WITH cannot be in it"),
        ("SELECT * EXCLUDE (x), x AS y FROM __THIS__", "* EXCLUDE (x) cannot be in it"),
        ("DELETE FROM __THIS__", "what is not a SELECT cannot be in it"),
        ("SELECT x + random() AS s FROM __THIS__", "random() gives other values from call to call"),
        ("SELECT x FROM __THIS__ WHERE now() > '2020-01-01'", "now() gives other values from call to call"),
        ("SELECT x + 1 FROM __THIS__", "x + 1 has no name; write x + 1 AS name"),
        ("SELECT 1 AS one FROM __THIS__", "the statement names no column"),
        ("SELECT y + 1 AS s FROM __THIS__", "stage 1 (sql_transformer): column \"y\" does not exist"),
        ("SELECT text AS s FROM __THIS__", "column \"text\" does not exist; did you mean \"Text\"?"),
        ("SELECT nope(x) AS s FROM __THIS__", "Invalid function 'nope'"),
        ("SELECT *, x + 1 AS x FROM __THIS__", "ambiguous"),
        ("SELEKT x", "stage 1 (sql_transformer): parameter \"statement\": "),
        ("", "stage 1 (sql_transformer): "),
    ];
    for (statement, expected) in cases {
        let error = pipeline(statement).and_then(|p| p.validate(&schema())).unwrap_err().to_string();
        assert!(error.starts_with("stage 1 (sql_transformer): "), "{statement}: {error}");
        assert!(error.contains(expected), "{statement}: {error}");
    }
}

#[tokio::test]
async fn names_are_taken_as_written_and_saved_pipelines_give_the_same() {
    let x = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(3.0)]));
    let text = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    let rows = RecordBatch::try_from_iter_with_nullable([("x", x as _, true), ("Text", text as _, true)]).unwrap();
    let table = Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]).unwrap());
    let frame = || datafusion::prelude::SessionContext::new().read_table(Arc::clone(&table) as _).unwrap();
    let pipeline = pipeline("SELECT __THIS__.x + 1 AS Next, `Text` AS word FROM __THIS__ WHERE x IS NOT NULL").unwrap();
    assert_eq!(pipeline.input_names(), ["x", "Text"]);
    assert_eq!(pipeline.feature_names(), ["Next", "word"]);
    let model = pipeline.fit(frame(), &[Subset::all("all")]).await.unwrap().models.remove(0);
    let read = PipelineModel::from_bytes(&model.to_bytes().unwrap(), &StageRegistry::default()).unwrap();
    for model in [&model, &read] {
        let batches = model.transform(frame(), &[]).unwrap().collect().await.unwrap();
        let batch = &batches[0];
        assert_eq!(batch.column(0).as_ref(), &Float64Array::from(vec![2.0, 4.0]) as &dyn Array);
        assert_eq!(batch.column(1).as_ref(), &StringArray::from(vec!["a", "c"]) as &dyn Array);
    }
}
