use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::prelude::SessionContext;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use serde_json::json;

use super::*;
use crate::estimator::{Artifacts, Estimator, FitContext, Model, Params, ProblemType};
use crate::matrix::{Feature, FeatureValues, Features, Matrix};
use crate::pipeline::{Pipeline, Subset};

/// Gives its weight times the first feature: as small as a user's own estimator can be.
#[derive(Debug)]
struct Weighted;

#[derive(Debug)]
struct WeightedModel(f64);

impl Estimator for Weighted {
    fn name(&self) -> &str {
        "weighted"
    }

    fn validate(&self, _params: &Params, _problem: ProblemType) -> Result<()> {
        Ok(())
    }

    fn fit(&self, _: &Matrix, _: &[u32], _: &[Params], _: &FitContext) -> Vec<Result<Box<dyn Model>>> {
        Vec::new()
    }

    fn load(&self, _features: Arc<[Feature]>, artifacts: &Artifacts) -> Result<Box<dyn Model>> {
        let bytes = artifacts.get("weight").ok_or_else(|| MlError::Internal("no weight".to_owned()))?;
        Ok(Box::new(WeightedModel(f64::from_le_bytes(bytes.as_slice().try_into().unwrap()))))
    }
}

impl Model for WeightedModel {
    fn estimator(&self) -> &str {
        "weighted"
    }

    fn predict(&self, x: &Features) -> Result<Vec<f64>> {
        match &x.values[0] {
            FeatureValues::Number(values) => Ok(values.iter().map(|v| v * self.0).collect()),
            FeatureValues::Category(values) => Ok(values.iter().map(|&v| f64::from(v) * self.0).collect()),
        }
    }

    fn save(&self) -> Result<Artifacts> {
        Ok(Artifacts::from([("weight".to_owned(), self.0.to_le_bytes().to_vec())]))
    }
}

fn rows() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(StringArray::from(vec!["a", "b", "c", "d"]))),
        ("carrier", Arc::new(StringArray::from(vec![Some("UA"), Some("AA"), None, Some("UA")]))),
        ("temp", Arc::new(Float64Array::from(vec![Some(1.0), None, Some(2.5), Some(0.1)]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn package(weight: f64) -> ModelPackage {
    let stages = json!([
        {"imputer": {"inputs": ["temp"]}},
        {"string_indexer": {"inputs": ["carrier"], "handle_invalid": "skip"}},
    ]);
    let pipeline = Pipeline::from_value(&stages, &StageRegistry::default()).unwrap();
    let df = SessionContext::new().read_batch(rows()).unwrap();
    let fit = pipeline.fit(df, &[Subset::all("all")]).await.unwrap();
    ModelPackage {
        pipeline: fit.models.into_iter().next().unwrap(),
        model: Box::new(WeightedModel(weight)),
        problem_type: ProblemType::Binary,
        classes: None,
        params: Params::from([("weight".to_owned(), json!(weight))]),
        metrics: BTreeMap::from([("roc_auc".to_owned(), 0.71), ("odd".to_owned(), f64::NAN)]),
        threshold: 0.5,
        training_data: vec![json!({"table": "flights", "version": 3})],
        input_query: None,
        feature_views: vec![],
        run_id: "run-1".to_owned(),
        code_version: "0.1.0".to_owned(),
        parity_sample: rows(),
    }
}

fn registry_on(store: Arc<dyn ObjectStore>) -> Registry {
    let mut estimators = EstimatorRegistry::empty();
    estimators.register(Arc::new(Weighted));
    Registry::new(store, Path::from("warehouse/models"), StageRegistry::default(), estimators)
}

fn in_memory() -> (Arc<InMemory>, Registry) {
    let store = Arc::new(InMemory::new());
    (Arc::clone(&store), registry_on(store))
}

fn reference(text: &str) -> ModelRef {
    text.parse().unwrap()
}

fn to(version: u64, expected: Expected) -> AliasMove {
    AliasMove { version: ModelVersion(version), reason: "better".to_owned(), expected }
}

#[tokio::test]
async fn a_registered_model_scores_as_it_was_packed() {
    let (_, registry) = in_memory();
    let registered = registry.register("late", &package(2.0).await).await.unwrap();
    assert_eq!((registered.version, registered.already_registered), (ModelVersion(1), false));
    let model = registry.load("late", registered.version).await.unwrap();
    // Row 2 has no carrier and is dropped; row 1 has no temperature and gets the mean of 1.0, 2.5 and 0.1.
    let scores = model.score(&rows()).unwrap();
    let expected = Float64Array::from(vec![Some(2.0), Some(2.4), None, Some(0.2)]);
    assert_eq!(scores.as_primitive::<Float64Type>(), &expected);
    for row in 0..4 {
        let score = model.score(&rows().slice(row, 1)).unwrap();
        assert_eq!(score.as_primitive::<Float64Type>(), &expected.slice(row, 1));
    }
    assert_eq!(model.threshold(), 0.5);
    let manifest = model.manifest();
    assert_eq!(manifest.signature.inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["temp", "carrier"]);
    assert_eq!((manifest.metrics["roc_auc"], manifest.metrics["odd"].is_nan()), (0.71, true));
    assert_eq!(manifest.training_data, [json!({"table": "flights", "version": 3})]);
}

#[tokio::test]
async fn scoring_names_the_column_that_does_not_fit() {
    let (_, registry) = in_memory();
    registry.register("late", &package(2.0).await).await.unwrap();
    let model = registry.load("late", ModelVersion(1)).await.unwrap();
    let message = model.score(&rows().project(&[0, 1]).unwrap()).unwrap_err().to_string();
    assert!(message.contains("column \"temp\" does not exist"), "{message}");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let batch = RecordBatch::try_from_iter(vec![("temp", Arc::clone(&text)), ("carrier", text)]).unwrap();
    let message = model.score(&batch).unwrap_err().to_string();
    assert_eq!(message, "column \"temp\" is Utf8; the model reads Float64; cast it in SQL");
}

#[tokio::test]
async fn the_same_digest_is_not_registered_twice() {
    let (_, registry) = in_memory();
    let first = registry.register("late", &package(2.0).await).await.unwrap();
    registry.register("late", &package(3.0).await).await.unwrap();
    let mut again = package(2.0).await;
    again.run_id = "run-2".to_owned();
    again.parity_sample = rows().slice(0, 2);
    let second = registry.register("late", &again).await.unwrap();
    assert_eq!((second.version, second.already_registered), (first.version, true));
    assert_eq!(registry.versions("late").await.unwrap().len(), 2);
    let mut other_threshold = package(2.0).await;
    other_threshold.threshold = 0.4;
    assert_eq!(registry.register("late", &other_threshold).await.unwrap().version, ModelVersion(3));
}

#[tokio::test]
async fn references_resolve_or_say_what_to_do() {
    let (_, registry) = in_memory();
    let message = registry.resolve(&reference("late")).await.unwrap_err().to_string();
    assert_eq!(message, "unknown model \"late\"; no model is registered yet, run a training job first");
    for weight in [1.0, 2.0, 3.0] {
        registry.register("late", &package(weight).await).await.unwrap();
    }
    assert_eq!(registry.resolve(&reference("late")).await.unwrap(), ModelVersion(3));
    assert_eq!(registry.resolve(&reference("late/2")).await.unwrap(), ModelVersion(2));
    registry.set_alias("late", "live", to(2, Expected::None)).await.unwrap();
    assert_eq!(registry.resolve(&reference("late@live")).await.unwrap(), ModelVersion(2));
    for (text, expected) in [
        ("late@next", "model \"late\" has no alias @next; run: tidemill models promote late 3"),
        ("late/9", "model \"late\" has no version 9; the latest is 3"),
        ("latr@live", "unknown model \"latr\"; did you mean \"late\"?; there are late"),
    ] {
        assert_eq!(registry.resolve(&reference(text)).await.unwrap_err().to_string(), expected);
    }
    for text in ["late@", "late/x", "late/0", "a/b@c", "", "../late"] {
        assert!(text.parse::<ModelRef>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn every_move_of_an_alias_is_kept() {
    let (_, registry) = in_memory();
    registry.register("late", &package(1.0).await).await.unwrap();
    registry.register("late", &package(2.0).await).await.unwrap();
    let before = Utc::now();
    registry.set_alias("late", "live", to(1, Expected::None)).await.unwrap();
    let between = Utc::now();
    registry.set_alias("late", "live", to(2, Expected::Version(ModelVersion(1)))).await.unwrap();
    registry.set_alias("late", "live", to(2, Expected::Any)).await.unwrap();
    let history = registry.alias_history("late", "live").await.unwrap();
    let moves: Vec<_> = history.iter().map(|e| (e.number, e.previous, e.version)).collect();
    assert_eq!(moves, [(1, None, ModelVersion(1)), (2, Some(ModelVersion(1)), ModelVersion(2))]);
    assert_eq!(registry.alias_at("late", "live", before).await.unwrap(), None);
    assert_eq!(registry.alias_at("late", "live", between).await.unwrap(), Some(ModelVersion(1)));
    let stale = registry.set_alias("late", "live", to(1, Expected::Version(ModelVersion(1)))).await.unwrap_err();
    assert_eq!(
        stale.to_string(),
        "alias @live of model \"late\" is version 2, expected version 1; another process moved it: compare again"
    );
    assert!(registry.set_alias("late", "live", to(7, Expected::Any)).await.is_err());
    let list = registry.list().await.unwrap();
    assert_eq!(list[0].aliases, BTreeMap::from([("live".to_owned(), ModelVersion(2))]));
    assert_eq!((list.len(), list[0].latest), (1, ModelVersion(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_writers_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let stores: [Arc<dyn ObjectStore>; 2] = [Arc::new(InMemory::new()), Arc::new(local)];
    for store in stores {
        let registry = registry_on(store);
        let writers = (0..16u32).map(|writer| {
            let registry = registry.clone();
            // Two writers register each model: sixteen writers, eight digests.
            tokio::spawn(async move { registry.register("late", &package(f64::from(writer / 2)).await).await })
        });
        let mut versions = BTreeSet::new();
        let mut repeated = 0;
        for writer in writers.collect::<Vec<_>>() {
            let registered = writer.await.unwrap().unwrap();
            versions.insert(registered.version.0);
            repeated += usize::from(registered.already_registered);
        }
        assert_eq!(versions, (1..=8).collect::<BTreeSet<_>>());
        assert_eq!(repeated, 8);
        let digests: BTreeSet<String> =
            registry.versions("late").await.unwrap().into_iter().map(|m| m.digest).collect();
        assert_eq!(digests.len(), 8);
        for version in versions {
            registry.load("late", ModelVersion(version)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_promotions_from_one_state_one_wins() {
    let (_, registry) = in_memory();
    for weight in [1.0, 2.0] {
        registry.register("late", &package(weight).await).await.unwrap();
    }
    let promote = |version| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.set_alias("late", "live", to(version, Expected::None)).await })
    };
    let (first, second) = (promote(1), promote(2));
    let results = [first.await.unwrap(), second.await.unwrap()];
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert_eq!(registry.alias_history("late", "live").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_damaged_or_missing_file_is_named() {
    let (store, registry) = in_memory();
    let registered = registry.register("late", &package(2.0).await).await.unwrap();
    let folder = Path::from(format!("warehouse/models/late/artifacts/{}", registered.manifest.digest));
    let weight = folder.clone().join("model").join("weight");
    store.put(&weight, PutPayload::from(9.0f64.to_le_bytes().to_vec())).await.unwrap();
    let message = registry.load("late", ModelVersion(1)).await.unwrap_err().to_string();
    assert!(message.starts_with("file \"model/weight\" of the model is not readable: it has 8 bytes"), "{message}");
    store.delete(&weight).await.unwrap();
    let message = registry.load("late", ModelVersion(1)).await.unwrap_err().to_string();
    assert!(
        message.starts_with("file \"model/weight\" of the model is not readable: there is nothing at"),
        "{message}"
    );
}

#[tokio::test]
async fn a_model_that_scores_otherwise_is_refused() {
    let packed = package(2.0).await.pack().unwrap();
    let mut manifest = packed.manifest("late", ModelVersion(1), Utc::now());
    let mut files = packed.files.clone();
    // As if the estimator had changed: other weights under digests that fit them.
    files.insert("model/weight".to_owned(), 3.0f64.to_le_bytes().to_vec());
    manifest.files.insert("model/weight".to_owned(), FileEntry::of(&files["model/weight"]));
    let mut estimators = EstimatorRegistry::empty();
    estimators.register(Arc::new(Weighted));
    let error = unpack(manifest, &files, &StageRegistry::default(), &estimators).unwrap_err().to_string();
    assert!(error.contains("row 0 of its parity sample scores 3.0 here and scored 2.0 when it was packed"), "{error}");
}

#[tokio::test]
async fn a_newer_manifest_is_refused_by_its_format() {
    let (store, registry) = in_memory();
    registry.register("late", &package(2.0).await).await.unwrap();
    let path = Path::from("warehouse/models/late/versions/00000000000000000002.json");
    store.put(&path, PutPayload::from_static(br#"{"format_version": 4, "shape": "new"}"#)).await.unwrap();
    let message = registry.load("late", ModelVersion(2)).await.unwrap_err().to_string();
    assert_eq!(
        message,
        "the manifest of late/2 is not readable: it has format 4, this version reads up to 1; use a newer tidemill"
    );
}

#[tokio::test]
async fn names_that_leave_the_folder_are_refused() {
    let (_, registry) = in_memory();
    for name in ["", "../late", "a/b", ".hidden", "ü"] {
        assert!(registry.register(name, &package(1.0).await).await.is_err(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cache_loads_a_model_once() {
    let (_, registry) = in_memory();
    registry.register("late", &package(2.0).await).await.unwrap();
    let cache = Arc::new(ModelCache::new(2));
    let loads = Arc::new(AtomicUsize::new(0));
    let digest = registry.manifest("late", ModelVersion(1)).await.unwrap().digest;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (registry, cache, loads, digest) =
                (registry.clone(), Arc::clone(&cache), Arc::clone(&loads), digest.clone());
            tokio::spawn(async move {
                let load = || async {
                    loads.fetch_add(1, Ordering::SeqCst);
                    registry.load("late", ModelVersion(1)).await
                };
                cache.get_or_load(&digest, load).await.unwrap().version()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), ModelVersion(1));
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert!(cache.get(&digest).is_some());
    for weight in [3.0, 4.0] {
        let version = registry.register("late", &package(weight).await).await.unwrap().version;
        registry.load_cached("late", version, &cache).await.unwrap();
    }
    assert_eq!((cache.len(), cache.get(&digest).is_none()), (2, true));
}

#[tokio::test]
async fn models_of_all_our_estimators_come_back_to_the_bit() {
    let registry = Registry::new(
        Arc::new(InMemory::new()),
        Path::from("m"),
        StageRegistry::default(),
        EstimatorRegistry::default(),
    );
    let n = 64;
    let x: Vec<f64> = (0..n).map(|i| f64::from(i * 37 % 64) / 7.0).collect();
    let carrier: Vec<&str> = (0..n).map(|i| ["UA", "AA", "B6"][(i % 3) as usize]).collect();
    let columns: Vec<(&str, ArrayRef)> =
        vec![("x", Arc::new(Float64Array::from(x.clone()))), ("carrier", Arc::new(StringArray::from(carrier)))];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let stages = json!([
        {"string_indexer": {"inputs": ["carrier"], "handle_invalid": "keep"}},
        {"one_hot_encoder": {"inputs": ["carrier"]}},
        {"standard_scaler": {"inputs": ["x"]}},
    ]);
    let pipeline = Pipeline::from_value(&stages, &StageRegistry::default()).unwrap();
    let df = SessionContext::new().read_batch(rows.clone()).unwrap();
    let pipeline = pipeline.fit(df, &[Subset::all("all")]).await.unwrap().models.remove(0);
    let features = pipeline.compile(&rows.schema()).unwrap().apply(&rows).unwrap();
    let classes = x.iter().map(|&v| f64::from(u8::from(v > 4.0))).collect();
    let binary = Matrix::new(features.clone(), classes, ProblemType::Binary);
    let regression =
        Matrix::new(features, x.iter().map(|v| 2.0 * v + (5.0 * v).sin()).collect(), ProblemType::Regression);
    let clustering = Matrix { problem: ProblemType::Clustering, ..binary.clone() };
    let all: Vec<u32> = (0..n as u32).collect();
    for name in EstimatorRegistry::default().names() {
        let estimator = EstimatorRegistry::default().get(name).unwrap();
        let is_for = |matrix: &&Matrix| estimator.validate(&Params::new(), matrix.problem).is_ok();
        let matrix = [&binary, &regression, &clustering].into_iter().find(is_for).unwrap();
        let fitted = estimator.fit(matrix, &all, &[Params::new()], &FitContext::new(7)).remove(0).unwrap();
        let expected = fitted.predict(&matrix.x).unwrap();
        let package = ModelPackage {
            pipeline: pipeline.clone(),
            model: fitted,
            problem_type: matrix.problem,
            classes: None,
            params: Params::new(),
            metrics: BTreeMap::new(),
            threshold: 0.5,
            training_data: Vec::new(),
            input_query: None,
            feature_views: vec![],
            run_id: String::new(),
            code_version: String::new(),
            parity_sample: rows.clone(),
        };
        let version = registry.register(name, &package).await.unwrap().version;
        let model = registry.load(name, version).await.unwrap();
        // Numbers of clusters are integers.
        let numbers = |scores: ArrayRef| cast(&scores, &DataType::Float64).unwrap();
        let scores = numbers(model.score(&rows).unwrap());
        assert_eq!(scores.as_primitive::<Float64Type>(), &Float64Array::from(expected.clone()), "{name}");
        for row in [0, 17, 63] {
            let score = numbers(model.score(&rows.slice(row, 1)).unwrap());
            assert_eq!(score.as_primitive::<Float64Type>().value(0).to_bits(), expected[row].to_bits(), "{name}");
        }
    }
}
