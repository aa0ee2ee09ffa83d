//! Feature stages: declared, fitted with aggregates, and then expressions.
//!
//! A [`Stage`] says which columns it reads and writes and which aggregates it needs. Fitted, it is a [`FittedStage`]:
//! one DataFusion expression for each output over its input columns, and a predicate where it drops rows. Outputs have
//! the names of the inputs unless `outputs` says otherwise, and then replace them in place. Stage and parameter names
//! are Spark ML's in snake_case; where a value or edge case differs from Spark's, the stage says so.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde_json::Value;

use crate::Result;
use crate::matrix::FeatureKind;

mod binarizer;
mod bucketizer;
mod count_vectorizer;
mod cyclical_encoder;
mod date_parts;
mod dct;
mod elementwise_product;
mod feature_hasher;
mod frequency_encoder;
mod hashing_tf;
mod idf;
mod imputer;
mod index_to_string;
mod input_selector;
mod interaction;
mod max_abs_scaler;
mod min_max_scaler;
mod n_gram;
mod normalizer;
mod one_hot_encoder;
mod pca;
mod polynomial_expansion;
mod power_transformer;
mod quantile_clipper;
mod quantile_discretizer;
mod regex_tokenizer;
mod registry;
mod robust_scaler;
mod scaling;
mod scope;
mod selector;
mod sparse_to_dense;
mod sql_transformer;
mod stage_params;
mod standard_scaler;
mod stop_words_remover;
mod string_indexer;
mod subword_tokenizer;
mod target_encoder;
mod tokenizer;
mod univariate_feature_selector;
mod variance_threshold_selector;
mod vector_assembler;
mod vector_indexer;
mod vector_map;
mod vector_size_hint;
mod vector_slicer;

#[cfg(test)]
mod beyond_spark_tests;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod spark_parity;
#[cfg(test)]
mod text_tests;
#[cfg(test)]
mod vector_tests;

pub use binarizer::Binarizer;
pub use bucketizer::Bucketizer;
pub use count_vectorizer::CountVectorizer;
pub use cyclical_encoder::CyclicalEncoder;
pub use date_parts::DateParts;
pub use dct::Dct;
pub use elementwise_product::ElementwiseProduct;
pub use feature_hasher::FeatureHasher;
pub use frequency_encoder::{FrequencyEncoder, Measure};
pub use hashing_tf::HashingTf;
pub use idf::Idf;
pub use imputer::{Imputer, Strategy};
pub use index_to_string::IndexToString;
pub use input_selector::InputSelector;
pub use interaction::Interaction;
pub use max_abs_scaler::MaxAbsScaler;
pub use min_max_scaler::MinMaxScaler;
pub use n_gram::NGram;
pub use normalizer::Normalizer;
pub use one_hot_encoder::OneHotEncoder;
pub use pca::Pca;
pub use polynomial_expansion::PolynomialExpansion;
pub use power_transformer::PowerTransformer;
pub use quantile_clipper::QuantileClipper;
pub use quantile_discretizer::QuantileDiscretizer;
pub use regex_tokenizer::RegexTokenizer;
pub use registry::{FittedStageLoader, StageParser, StageRegistry};
pub use robust_scaler::RobustScaler;
pub use scope::{Categories, ColumnRole, Scope, StageColumn, VectorShape};
pub use sparse_to_dense::SparseToDense;
pub use sql_transformer::SqlTransformer;
pub use stage_params::StageParams;
pub use standard_scaler::StandardScaler;
pub use stop_words_remover::StopWordsRemover;
pub use string_indexer::{StringIndexer, StringOrderType};
pub use subword_tokenizer::SubwordTokenizer;
pub use target_encoder::{TargetEncoder, TargetType};
pub use tokenizer::Tokenizer;
pub use univariate_feature_selector::{Selection, UnivariateFeatureSelector};
pub use variance_threshold_selector::VarianceThresholdSelector;
pub use vector_assembler::VectorAssembler;
pub use vector_indexer::VectorIndexer;
pub use vector_map::{VectorMap, VectorStage};
pub use vector_size_hint::VectorSizeHint;
pub use vector_slicer::VectorSlicer;

pub use crate::functions::category_index::Invalid;

/// A stage as it is declared. Users plug in their own by implementing it and registering a parser for its name.
pub trait Stage: Debug + Send + Sync {
    /// The name in pipeline declarations, e.g. `standard_scaler`.
    fn name(&self) -> &str;

    /// The columns that it reads.
    fn inputs(&self) -> &[String];

    /// The columns that only its fit reads, such as a label: the fitted stage does without them.
    fn fit_inputs(&self) -> &[String] {
        &[]
    }

    /// The columns that it writes; a name that exists already is replaced.
    fn outputs(&self) -> &[String];

    /// Whether the fitted stage may drop rows; later stages are fitted on what is left.
    fn drops_rows(&self) -> bool {
        false
    }

    /// Checks the input columns and gives the output columns, before anything runs.
    ///
    /// # Errors
    /// [`crate::MlError::Invalid`] naming the column, what was expected and what is there. The pipeline puts the
    /// stage's number and name in front.
    fn plan(&self, scope: &Scope) -> Result<Vec<StageColumn>>;

    /// The aggregates over its input columns, those of [`Self::fit_inputs`] too, that the fit needs; none where nothing
    /// is learned.
    ///
    /// Each must be a function of the multiset of rows, whatever their order, such as those of [`crate::functions`].
    ///
    /// # Errors
    /// What cannot be expressed over these columns.
    fn aggregates(&self, _scope: &Scope) -> Result<Vec<Expr>> {
        Ok(Vec::new())
    }

    /// Makes the fitted stage out of the aggregates' values, in their order.
    ///
    /// # Errors
    /// Data that the stage cannot be fitted to, e.g. a column without any value.
    fn fit(&self, scope: &Scope, values: &[ScalarValue]) -> Result<Arc<dyn FittedStage>>;

    /// Whether its outputs, in their order, are the pipeline's features; such a stage comes last.
    fn selects_features(&self) -> bool {
        false
    }

    /// What chooses its inputs, where they were declared by what columns are. Such a stage only stands for the one that
    /// the selector makes of it.
    fn input_selector(&self) -> Option<&InputSelector> {
        None
    }

    /// The stage with these inputs, where none were declared; otherwise none.
    fn with_default_inputs(&self, _inputs: &[String]) -> Option<Arc<dyn Stage>> {
        None
    }
}

/// One output of a fitted stage.
#[derive(Debug, Clone)]
pub struct FittedOutput {
    /// The column that it writes.
    pub column: String,
    /// Its value over the stage's input columns.
    pub expr: Expr,
    /// How models read it, if it becomes a feature.
    pub kind: FeatureKind,
}

/// A fitted stage: expressions with the fitted values inside.
pub trait FittedStage: Debug + Send + Sync {
    /// The name that its loader is registered under.
    fn name(&self) -> &str;

    /// The columns that it reads.
    fn inputs(&self) -> &[String];

    /// The columns that it writes, each by an expression over its inputs.
    ///
    /// # Errors
    /// Fitted values that make no expression.
    fn outputs(&self) -> Result<Vec<FittedOutput>>;

    /// The columns that only [`Self::training_outputs`] reads, beside the inputs.
    fn training_inputs(&self) -> &[String] {
        &[]
    }

    /// The same columns in the same order for the rows that the stage was fitted on, where these must not see what the
    /// fit learned from themselves; none where they are [`Self::outputs`]. Later stages of the fit and estimators are
    /// trained on them; scoring never uses them, so they need not be saved.
    ///
    /// # Errors
    /// As [`Self::outputs`], and a stage read back without what they need.
    fn training_outputs(&self) -> Result<Option<Vec<FittedOutput>>> {
        Ok(None)
    }

    /// What rows must satisfy to be kept; they are filtered before the outputs are computed.
    fn row_predicate(&self) -> Option<Expr> {
        None
    }

    /// What its loader reads back. Equal stages give equal values; floats go through [`crate::codec::exact`].
    ///
    /// # Errors
    /// What cannot be written.
    fn save(&self) -> Result<Value>;

    /// What was fitted, in a line.
    fn describe(&self) -> String;
}
