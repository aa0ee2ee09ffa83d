//! The functions in SQL, over columns with nulls.

use arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;

use crate::functions::scalar_udfs;

/// What an expression over a column `v` of vectors, `w` of others, and `x` of numbers is in each of four rows.
async fn rows(expression: &str) -> Result<Vec<String>, String> {
    let context = SessionContext::new();
    scalar_udfs().into_iter().for_each(|function| context.register_udf(function.as_ref().clone()));
    let sql = format!(
        "select {expression} from (
             select id, x, vector(3.0, x) as w,
                 case when id < 3 then vector(x, -2 * x) when id = 3 then vector(0, null) end as v
             from (values (1, 0.5), (2, 4.0), (3, null), (4, 1.0)) as t (id, x)
         ) order by id"
    );
    let batches = context.sql(&sql).await.map_err(|e| e.to_string())?.collect().await.map_err(|e| e.to_string())?;
    let text = |batch: &arrow::array::RecordBatch, row| array_value_to_string(batch.column(0), row).unwrap();
    Ok(batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| text(batch, row))).collect())
}

#[tokio::test]
async fn null_gives_null_and_null_elements_are_nan() {
    let cases = [
        ("v", ["[0.5, -1.0]", "[4.0, -8.0]", "[0.0, NaN]", ""]),
        (
            "vector(x, v, true)",
            ["[0.5, 0.5, -1.0, 1.0]", "[4.0, 4.0, -8.0, 1.0]", "[NaN, 0.0, NaN, 1.0]", "[1.0, NaN, NaN, 1.0]"],
        ),
        ("vector_concat(v, 2)", ["[0.5, -1.0, 2.0]", "[4.0, -8.0, 2.0]", "[0.0, NaN, 2.0]", "[NaN, NaN, 2.0]"]),
        ("vector_dot(v, w)", ["1.0", "-20.0", "NaN", ""]),
        ("vector_norm(v, 1)", ["1.5", "12.0", "NaN", ""]),
        ("vector_norm(v, arrow_cast('inf', 'Float64'))", ["1.0", "8.0", "0.0", ""]),
        ("vector_norm(vector_scale(vector(3, 4), x))", ["2.5", "20.0", "", "5.0"]),
        (
            "vector_normalize(v, 1)",
            [
                "[0.3333333333333333, -0.6666666666666666]",
                "[0.3333333333333333, -0.6666666666666666]",
                "[NaN, NaN]",
                "",
            ],
        ),
        ("vector_scale(v, 2)", ["[1.0, -2.0]", "[8.0, -16.0]", "[0.0, NaN]", ""]),
        ("vector_scale(v, vector(0, 1))", ["[0.0, -1.0]", "[0.0, -8.0]", "[0.0, NaN]", ""]),
        ("vector_slice(v, 1, 0, 1)", ["[-1.0, 0.5, -1.0]", "[-8.0, 4.0, -8.0]", "[NaN, 0.0, NaN]", ""]),
        ("vector_element(v, 1)", ["-1.0", "-8.0", "NaN", ""]),
        ("vector_to_array(v)", ["[0.5, -1.0]", "[4.0, -8.0]", "[0.0, NaN]", ""]),
        ("array_to_vector([x, 1], 2)", ["[0.5, 1.0]", "[4.0, 1.0]", "[NaN, 1.0]", "[1.0, 1.0]"]),
        ("array_to_vector(vector_to_array(v), 2)", ["[0.5, -1.0]", "[4.0, -8.0]", "[0.0, NaN]", ""]),
        (
            "vector_outer(v, vector(0, 2))",
            ["[0.0, 1.0, -0.0, -2.0]", "[0.0, 8.0, -0.0, -16.0]", "[0.0, 0.0, NaN, NaN]", ""],
        ),
        (
            "vector_polynomial(v, 2)",
            ["[0.5, 0.25, -1.0, -0.5, 1.0]", "[4.0, 16.0, -8.0, -32.0, 64.0]", "[0.0, 0.0, NaN, NaN, NaN]", ""],
        ),
        ("vector_dct(vector(x))", ["[0.5]", "[4.0]", "[NaN]", "[1.0]"]),
        ("vector_dct(vector(x), true)", ["[0.5]", "[4.0]", "[NaN]", "[1.0]"]),
    ];
    for (expression, expected) in cases {
        assert_eq!(rows(expression).await.unwrap(), expected, "{expression}");
    }
}

#[tokio::test]
async fn mistakes_are_named() {
    let cases = [
        ("vector('a')", "vector takes a number, got Utf8"),
        ("vector_dot(v, vector(1))", "vector_dot takes two vectors of one size"),
        ("vector_norm(x, 2)", "vector_norm takes a vector (a fixed-size list of numbers), got Float64"),
        ("vector_norm(v, 0.5)", "vector_norm: p is a number of at least 1, got 0.5"),
        ("vector_norm(v, x)", "vector_norm: p is a literal number"),
        ("vector_scale(v, vector(1, 2, 3))", "vector_scale takes vectors of one size, got 2 and 3 elements"),
        ("vector_slice(v, 2)", "an index is a whole number from 0 and below the vector's size, 2, got 2"),
        ("vector_slice(v, id)", "vector_slice: the indices are literals"),
        ("vector_slice(v)", "vector_slice takes a vector and at least one index, got 1 arguments"),
        ("vector_element(v, 2)", "vector_element: the index is a literal from 0 and below the vector's size, 2"),
        ("array_to_vector([1, 2, 3], 2)", "a list has 3 elements; expected 2"),
        ("array_to_vector([1, 2], id)", "array_to_vector: the size is a literal whole number from 0"),
        ("array_to_vector([1, 2], 2000000)", "would give vectors of 2000000 elements; expected at most 1048576"),
        ("vector_polynomial(v, 0)", "vector_polynomial: the degree is a literal whole number of at least 1"),
        ("vector_polynomial(v, 5000)", "vector_polynomial: degree 5000 of 2 elements gives more than 1048576 products"),
        ("vector_dct(v, 1)", "vector_dct takes a vector and, if wanted, true for the inverse"),
    ];
    for (expression, expected) in cases {
        let error = rows(expression).await.unwrap_err();
        assert!(error.contains(expected), "{expression}: {error}");
    }
}
