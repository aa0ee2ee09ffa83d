//! Stages by name: how they are declared and how fitted ones are read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::binarizer::Binarizer;
use super::bucketizer::Bucketizer;
use super::count_vectorizer::FittedCountVectorizer;
use super::cyclical_encoder::FittedCyclicalEncoder;
use super::date_parts::DateParts;
use super::feature_hasher::FittedFeatureHasher;
use super::frequency_encoder::FittedFrequencyEncoder;
use super::hashing_tf::HashingTf;
use super::idf::FittedIdf;
use super::imputer::FittedImputer;
use super::index_to_string::FittedIndexToString;
use super::input_selector::{InputSelector, SelectingStage};
use super::interaction::FittedInteraction;
use super::n_gram::NGram;
use super::one_hot_encoder::FittedOneHotEncoder;
use super::pca::FittedPca;
use super::power_transformer::FittedPowerTransformer;
use super::quantile_clipper::FittedQuantileClipper;
use super::regex_tokenizer::RegexTokenizer;
use super::scaling::FittedScaler;
use super::selector::FittedSelector;
use super::sparse_to_dense::FittedSparseToDense;
use super::sql_transformer::FittedSqlTransformer;
use super::stop_words_remover::StopWordsRemover;
use super::string_indexer::FittedStringIndexer;
use super::target_encoder::FittedTargetEncoder;
use super::tokenizer::Tokenizer;
use super::vector_assembler::FittedVectorAssembler;
use super::vector_indexer::FittedVectorIndexer;
use super::vector_map::FittedVectorStage;
use super::vector_size_hint::FittedVectorSizeHint;
use super::{
    CountVectorizer, CyclicalEncoder, Dct, ElementwiseProduct, FeatureHasher, FittedStage, FrequencyEncoder, Idf,
    Imputer, IndexToString, Interaction, MaxAbsScaler, MinMaxScaler, Normalizer, OneHotEncoder, Pca,
    PolynomialExpansion, PowerTransformer, QuantileClipper, QuantileDiscretizer, RobustScaler, SparseToDense,
    SqlTransformer, Stage, StandardScaler, StringIndexer, SubwordTokenizer, TargetEncoder, UnivariateFeatureSelector,
    VarianceThresholdSelector, VectorAssembler, VectorIndexer, VectorSizeHint, VectorSlicer, VectorStage,
};
use crate::suggest::did_you_mean;
use crate::{MlError, Result};

/// Makes a stage out of its parameters.
pub type StageParser = fn(&Value) -> Result<Arc<dyn Stage>>;

/// Reads back what [`FittedStage::save`] gave.
pub type FittedStageLoader = fn(&Value) -> Result<Arc<dyn FittedStage>>;

/// The stages that pipelines may have, by name.
///
/// ```
/// let registry = tidemill_ml::stage::StageRegistry::default();
/// let stage = registry.parse("standard_scaler", &serde_json::json!({"inputs": ["temp"]})).unwrap();
/// assert_eq!(stage.outputs(), ["temp"]);
/// let error = registry.parse("standard_scalar", &serde_json::json!({})).unwrap_err();
/// assert!(error.to_string().contains("did you mean \"standard_scaler\"?"));
/// ```
#[derive(Debug, Clone)]
pub struct StageRegistry {
    stages: BTreeMap<String, (StageParser, FittedStageLoader)>,
}

impl StageRegistry {
    /// A registry without any stage.
    pub fn empty() -> Self {
        Self { stages: BTreeMap::new() }
    }

    /// Adds a stage, or replaces the one of its name.
    pub fn register(&mut self, name: &str, parse: StageParser, load: FittedStageLoader) -> &mut Self {
        self.stages.insert(name.to_owned(), (parse, load));
        self
    }

    /// The names of all stages.
    pub fn names(&self) -> Vec<&str> {
        self.stages.keys().map(String::as_str).collect()
    }

    /// Makes a stage out of its name and parameters; one whose `inputs` are a selector is still to be bound to columns.
    ///
    /// # Errors
    /// A name or parameter that is not known, and values that do not fit.
    pub fn parse(&self, name: &str, params: &Value) -> Result<Arc<dyn Stage>> {
        let parse = self.get(name)?.0;
        match InputSelector::of(name, params, parse)? {
            Some(selector) => Ok(Arc::new(SelectingStage(selector))),
            None => parse(params),
        }
    }

    /// Reads back a fitted stage.
    ///
    /// # Errors
    /// A name that is not known, or a value that is damaged.
    pub fn load(&self, name: &str, saved: &Value) -> Result<Arc<dyn FittedStage>> {
        (self.get(name)?.1)(saved)
    }

    fn get(&self, name: &str) -> Result<&(StageParser, FittedStageLoader)> {
        self.stages.get(name).ok_or_else(|| {
            let names = self.names();
            MlError::Invalid(format!(
                "unknown stage {name:?}{}; there are {}",
                did_you_mean(name, names.iter().copied()),
                names.join(", ")
            ))
        })
    }
}

impl Default for StageRegistry {
    /// Ours, each named as in Spark ML, in snake_case.
    fn default() -> Self {
        let mut registry = Self::empty();
        registry
            .register("binarizer", Binarizer::parse, load::<Binarizer>)
            .register("bucketizer", Bucketizer::parse, load::<Bucketizer>)
            .register("chi_sq_selector", UnivariateFeatureSelector::parse_chi_sq, load::<FittedSelector>)
            .register("dct", VectorStage::<Dct>::parse, load::<FittedVectorStage<Dct>>)
            .register(
                "elementwise_product",
                VectorStage::<ElementwiseProduct>::parse,
                load::<FittedVectorStage<ElementwiseProduct>>,
            )
            .register("count_vectorizer", CountVectorizer::parse, load::<FittedCountVectorizer>)
            .register("cyclical_encoder", CyclicalEncoder::parse, load::<FittedCyclicalEncoder>)
            .register("date_parts", DateParts::parse, load::<DateParts>)
            .register("feature_hasher", FeatureHasher::parse, load::<FittedFeatureHasher>)
            .register("frequency_encoder", FrequencyEncoder::parse, load::<FittedFrequencyEncoder>)
            .register("hashing_tf", HashingTf::parse, load::<HashingTf>)
            .register("idf", Idf::parse, load::<FittedIdf>)
            .register("imputer", Imputer::parse, load::<FittedImputer>)
            .register("index_to_string", IndexToString::parse, load::<FittedIndexToString>)
            .register("interaction", Interaction::parse, load::<FittedInteraction>)
            .register("max_abs_scaler", MaxAbsScaler::parse, load::<FittedScaler>)
            .register("min_max_scaler", MinMaxScaler::parse, load::<FittedScaler>)
            .register("n_gram", NGram::parse, load::<NGram>)
            .register("normalizer", VectorStage::<Normalizer>::parse, load::<FittedVectorStage<Normalizer>>)
            .register("one_hot_encoder", OneHotEncoder::parse, load::<FittedOneHotEncoder>)
            .register("pca", Pca::parse, load::<FittedPca>)
            .register(
                "polynomial_expansion",
                VectorStage::<PolynomialExpansion>::parse,
                load::<FittedVectorStage<PolynomialExpansion>>,
            )
            .register("power_transformer", PowerTransformer::parse, load::<FittedPowerTransformer>)
            .register("quantile_clipper", QuantileClipper::parse, load::<FittedQuantileClipper>)
            .register("quantile_discretizer", QuantileDiscretizer::parse, load::<Bucketizer>)
            .register("regex_tokenizer", RegexTokenizer::parse, load::<RegexTokenizer>)
            .register("robust_scaler", RobustScaler::parse, load::<FittedScaler>)
            .register("sparse_to_dense", SparseToDense::parse, load::<FittedSparseToDense>)
            .register("sql_transformer", SqlTransformer::parse, FittedSqlTransformer::load)
            .register("standard_scaler", StandardScaler::parse, load::<FittedScaler>)
            .register("stop_words_remover", StopWordsRemover::parse, load::<StopWordsRemover>)
            .register("string_indexer", StringIndexer::parse, load::<FittedStringIndexer>)
            .register("subword_tokenizer", SubwordTokenizer::parse, load::<SubwordTokenizer>)
            .register("target_encoder", TargetEncoder::parse, load::<FittedTargetEncoder>)
            .register("tokenizer", Tokenizer::parse, load::<Tokenizer>)
            .register("univariate_feature_selector", UnivariateFeatureSelector::parse, load::<FittedSelector>)
            .register("variance_threshold_selector", VarianceThresholdSelector::parse, load::<FittedSelector>)
            .register("vector_assembler", VectorAssembler::parse, load::<FittedVectorAssembler>)
            .register("vector_indexer", VectorIndexer::parse, load::<FittedVectorIndexer>)
            .register("vector_size_hint", VectorSizeHint::parse, load::<FittedVectorSizeHint>)
            .register("vector_slicer", VectorSlicer::parse, load::<FittedSelector>);
        registry
    }
}

/// What serde writes of a fitted stage.
pub(super) fn save(stage: &impl Serialize) -> Result<Value> {
    serde_json::to_value(stage).map_err(|e| MlError::Internal(format!("a fitted stage cannot be written: {e}")))
}

fn load<T: FittedStage + DeserializeOwned + 'static>(saved: &Value) -> Result<Arc<dyn FittedStage>> {
    let stage: T = serde_json::from_value(saved.clone())
        .map_err(|e| MlError::Corrupt { what: "a fitted stage".to_owned(), why: e.to_string() })?;
    Ok(Arc::new(stage))
}
