//! The functions that fitted pipelines are made of and fitted with.
//!
//! Every function is known by its name alone and keeps nothing in its instances: registered on the client, the
//! scheduler and the executors under one name, it travels in a plan as that name. Every aggregate is a function of
//! the multiset of its rows: their order, partitioning and number of threads change no bit of the result.

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub(crate) mod aggregate;
pub mod bucket_index;
pub mod category_counts;
pub mod category_index;
pub mod category_label;
pub mod category_means;
pub mod category_value;
pub mod count_terms;
pub mod distinct_numbers;
pub mod distribution;
pub mod document_counts;
pub mod exact;
pub mod exact_covariances;
pub mod exact_mean;
pub mod exact_mode;
pub mod exact_moments;
pub mod exact_quantile;
pub mod exact_sum;
pub mod feature_hash;
pub mod hashing_tf;
mod key_counts;
mod label_table;
mod murmur3;
pub mod n_grams;
pub mod regex_tokens;
pub mod remove_words;
pub mod require_number;
mod sparse;
pub mod sparse_to_dense;
pub mod subword_tokens;
pub(crate) mod support;
pub mod term_counts;
mod text_map;
pub mod vector;
pub mod weigh_elements;
pub mod yeo_johnson;
pub mod yeo_johnson_fit;

/// The scalar functions to register wherever plans are planned or run.
pub fn scalar_udfs() -> Vec<Arc<ScalarUDF>> {
    let mut functions = vec![
        bucket_index::udf(),
        category_index::udf(),
        category_label::udf(),
        category_value::udf(),
        count_terms::udf(),
        feature_hash::udf(),
        hashing_tf::udf(),
        n_grams::udf(),
        regex_tokens::udf(),
        remove_words::udf(),
        require_number::udf(),
        sparse_to_dense::udf(),
        subword_tokens::udf(),
        weigh_elements::udf(),
        yeo_johnson::udf(),
    ];
    functions.extend(vector::udfs());
    functions.extend(crate::estimator::scalar_udfs());
    functions
}

/// The aggregate functions to register wherever plans are planned or run.
pub fn aggregate_udfs() -> Vec<Arc<AggregateUDF>> {
    let mut functions = fitting_udfs();
    functions.extend(crate::eval::aggregate_udfs());
    functions
}

/// Whether a function, of rows or an aggregate, takes text as views (`Utf8View`) as well as it takes `Utf8`, and gives the
/// same for both: scans then read such columns as views, which takes less time.
pub fn takes_views(function: &str) -> bool {
    ["category_counts", "count", "fold_hash", "tidemill_category_index", "tidemill_category_value"].contains(&function)
}

/// The aggregates that stages are fitted with; all of them take a condition as their last argument.
fn fitting_udfs() -> Vec<Arc<AggregateUDF>> {
    vec![
        exact_sum::udaf(),
        exact_mean::udaf(),
        exact_moments::udaf(),
        exact_quantile::udaf(),
        exact_covariances::udaf(),
        exact_mode::udaf(),
        category_counts::udaf(),
        category_means::udaf(),
        distinct_numbers::udaf(),
        distribution::udaf(),
        document_counts::udaf(),
        term_counts::udaf(),
        yeo_johnson_fit::udaf(),
    ]
}

/// Whether an aggregate takes a condition after its arguments, and leaves out the rows for which it is not true.
pub(crate) fn takes_condition(aggregate: &str) -> bool {
    fitting_udfs().iter().any(|f| f.name() == aggregate)
}
