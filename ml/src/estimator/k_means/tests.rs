use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::*;
use crate::MlError;
use crate::estimator::support::testing::{TestShards, clusters_fixture, linear_data, numbers, params, slice, unit};
use crate::matrix::{FeatureKind, FeatureValues, Features};

fn all_rows(matrix: &Matrix) -> Vec<u32> {
    (0..matrix.x.n_rows as u32).collect()
}

fn fit_one(matrix: &Matrix, candidate: Value) -> Result<KMeansModel> {
    fit::fit(matrix, &all_rows(matrix), &[params(candidate)], &FitContext::new(7)).remove(0)
}

fn clustering(x: Features) -> Matrix {
    let n_rows = x.n_rows;
    Matrix::new(x, vec![0.0; n_rows], ProblemType::Clustering)
}

fn columns(columns: Vec<Vec<f64>>) -> Matrix {
    let feature = |i| Feature { name: format!("x{i}"), kind: FeatureKind::Number };
    let n_rows = columns[0].len();
    let features = (0..columns.len()).map(feature).collect();
    let values = columns.into_iter().map(|v| FeatureValues::Number(v.into())).collect();
    clustering(Features { features, values, n_rows })
}

/// Twelve clusters, by the formula of `clusters.py`.
fn mixture(n: usize) -> Matrix {
    let value = |i: usize, j: u64| unit((unit(i, 100) * 12.0) as usize, 200 + j) * 10.0 + unit(i, j) * 3.0;
    columns((0..6).map(|j| (0..n).map(|i| value(i, j)).collect()).collect())
}

/// Numbers and a category of 6 labels.
fn mixed(n: usize) -> Matrix {
    clustering(linear_data(n).x)
}

/// The lowest cost of some seeds.
fn best_cost(matrix: &Matrix, k: usize) -> f64 {
    let candidates: Vec<Params> =
        (0..10).map(|seed| params(json!({"k": k, "seed": seed, "max_iter": 100, "tol": 0}))).collect();
    let models = fit::fit(matrix, &all_rows(matrix), &candidates, &FitContext::new(1));
    models.into_iter().map(|m| m.unwrap().training_cost()).fold(f64::INFINITY, f64::min)
}

/// scikit-learn has the best of 50 starts and we of 10; half a percent is room for another local optimum.
#[test]
fn costs_are_those_of_scikit_learn() {
    let fixture = clusters_fixture();
    let matrix = mixture(5_000);
    let sum: f64 = matrix.x.values.iter().map(column_sum).sum();
    assert!((sum / fixture["mixture"]["sum"].as_f64().unwrap() - 1.0).abs() < 1e-12);
    let of = |name: &str| clustering(numbers(&fixture[name]));
    for (name, matrix) in [("iris", of("iris")), ("wine", of("wine")), ("mixture", matrix)] {
        for (k, expected) in fixture[name]["inertia"].as_object().unwrap() {
            let (got, expected) = (best_cost(&matrix, k.parse().unwrap()), expected.as_f64().unwrap());
            assert!(got <= expected * 1.005 && got >= expected * 0.995, "{name}, {k}: {got} and {expected}");
        }
    }
    for name in ["iris", "wine"] {
        let mut matrix = of(name);
        matrix.weight = Some((0..matrix.x.n_rows).map(|i| 1.0 + (i % 3) as f64).collect());
        let (got, expected) = (best_cost(&matrix, 3), fixture[name]["weighted_inertia"].as_f64().unwrap());
        assert!((got / expected - 1.0).abs() < 0.005, "{name}: {got} and {expected}");
    }
}

fn column_sum(values: &FeatureValues) -> f64 {
    match values {
        FeatureValues::Number(values) => values.iter().sum(),
        FeatureValues::Category(_) => 0.0,
    }
}

/// Lloyd's steps without bounds, from the same start.
#[test]
fn bounds_change_no_cluster() {
    for (matrix, k) in [(mixture(20_000), 30), (mixed(9_000), 9), (mixture(3_000), 300)] {
        let start = fit_one(&matrix, json!({"k": k, "max_iter": 0})).unwrap();
        let ours = fit_one(&matrix, json!({"k": k, "max_iter": 15, "tol": 0})).unwrap();
        let one_hot = one_hot(&matrix.x);
        let mut centres = start.centers().to_vec();
        for _ in 0..ours.iterations() {
            let nearest: Vec<usize> = one_hot.iter().map(|row| nearest(row, &centres)).collect();
            for (centre, into) in centres.iter_mut().enumerate() {
                let rows: Vec<&Vec<f64>> =
                    one_hot.iter().zip(&nearest).filter(|(_, n)| **n == centre).map(|(row, _)| row).collect();
                for (column, into) in into.iter_mut().enumerate().filter(|_| !rows.is_empty()) {
                    *into = rows.iter().map(|row| row[column]).sum::<f64>() / rows.len() as f64;
                }
            }
        }
        let mut sizes = vec![0; centres.len()];
        one_hot.iter().for_each(|row| sizes[nearest(row, &centres)] += 1);
        assert_eq!(ours.sizes(), sizes, "k = {k}");
        for (ours, theirs) in ours.centers().iter().flatten().zip(centres.iter().flatten()) {
            assert!((ours - theirs).abs() < 1e-9, "{ours} and {theirs}");
        }
    }
}

fn one_hot(x: &Features) -> Vec<Vec<f64>> {
    let columns = |row: usize| {
        x.features.iter().zip(&x.values).flat_map(move |(feature, values)| match (&feature.kind, values) {
            (FeatureKind::Category { indicators, .. }, FeatureValues::Category(v)) => {
                (0..*indicators).map(|i| f64::from(u8::from(v[row] as usize == i))).collect()
            }
            (_, FeatureValues::Number(v)) => vec![v[row]],
            _ => unreachable!(),
        })
    };
    (0..x.n_rows).map(|row| columns(row).collect()).collect()
}

fn nearest(row: &[f64], centres: &[Vec<f64>]) -> usize {
    let distance = |c: &Vec<f64>| row.iter().zip(c).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let distances: Vec<f64> = centres.iter().map(distance).collect();
    (0..distances.len()).fold(0, |best, i| if distances[i] < distances[best] { i } else { best })
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let candidates = [
        json!({"k": 7}),
        json!({"k": 20, "init_mode": "random", "seed": 3}),
        json!({"k": 5, "distance_measure": "cosine"}),
    ]
    .map(params);
    let mut matrix = mixed(20_000);
    matrix.weight = Some((0..20_000).map(|i| unit(i, 50)).collect());
    let rows: Vec<u32> = (0..20_000).filter(|r| r % 5 != 0).collect();
    let saved = |threads: usize| -> Vec<Artifacts> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let models = pool.install(|| KMeans.fit(&matrix, &rows, &candidates, &FitContext::new(7)));
        models.into_iter().map(|m| m.unwrap().save().unwrap()).collect()
    };
    let one = saved(1);
    assert!(one == saved(2) && one == saved(4));
}

#[test]
fn the_seed_matters() {
    let matrix = mixture(2_000);
    for mode in ["k-means||", "random"] {
        let fit = |seed: u64| {
            let model = fit_one(&matrix, json!({"k": 9, "max_iter": 1, "seed": seed, "init_mode": mode})).unwrap();
            model.save().unwrap()
        };
        assert!(fit(1) == fit(1) && fit(1) != fit(2));
    }
}

#[test]
fn saving_and_loading_is_identity() {
    let matrix = mixed(3_000);
    for measure in ["euclidean", "cosine"] {
        let model = fit_one(&matrix, json!({"k": 6, "distance_measure": measure})).unwrap();
        let loaded = KMeansModel::load(Arc::clone(&matrix.x.features), &model.save().unwrap()).unwrap();
        assert_eq!(loaded, model);
        assert_eq!(loaded.predict(&matrix.x).unwrap(), model.predict(&matrix.x).unwrap());
        assert!(model.importances().is_empty());
    }
}

#[test]
fn damaged_artifacts_are_errors() {
    let matrix = mixed(500);
    let artifacts = fit_one(&matrix, json!({"k": 3})).unwrap().save().unwrap();
    let load = |artifacts: &Artifacts, features: &[Feature]| KMeansModel::load(features.into(), artifacts);
    let text = String::from_utf8(artifacts["model.json"].clone()).unwrap();
    let damaged = [
        text[..text.len() / 2].to_owned(),
        text.replace("\"format\":1", "\"format\":2"),
        text.replace("\"columns\":[", "\"columns\":[\"0.5\","),
        text.replace("\"columns\":[", "\"columns\":[\"NaN\"],\"left\":["),
        text.replace("\"training_cost\":\"", "\"training_cost\":\"-"),
        text.replace("\"euclidean\"", "\"manhattan\""),
    ];
    for damaged in damaged {
        assert_ne!(damaged, text);
        let damaged = Artifacts::from([("model.json".to_owned(), damaged.into_bytes())]);
        assert!(matches!(load(&damaged, &matrix.x.features), Err(MlError::Corrupt { .. })));
    }
    assert!(matches!(load(&Artifacts::new(), &matrix.x.features), Err(MlError::Corrupt { .. })));
    assert!(matches!(load(&artifacts, &matrix.x.features[1..]), Err(MlError::Corrupt { .. })));
}

#[test]
fn clusters_do_not_depend_on_the_batch_and_are_those_of_the_fit() {
    let matrix = mixed(3_000);
    for measure in ["euclidean", "cosine"] {
        let model = fit_one(&matrix, json!({"k": 11, "distance_measure": measure})).unwrap();
        let whole = model.predict(&matrix.x).unwrap();
        let size = |cluster: usize| whole.iter().filter(|c| **c == cluster as f64).count() as u64;
        assert_eq!(model.sizes(), (0..11).map(size).collect::<Vec<_>>());
        for size in [1, 7, 1025] {
            let starts = (0..3_000).step_by(size);
            let pieces = starts.flat_map(|s| model.predict(&slice(&matrix.x, s..(s + size).min(3_000))).unwrap());
            assert_eq!(whole, pieces.collect::<Vec<_>>(), "{measure} at {size}");
        }
    }
}

#[test]
fn a_category_without_an_indicator_adds_nothing() {
    let matrix = mixed(1_000);
    let model = fit_one(&matrix, json!({"k": 8})).unwrap();
    let clusters = |index: u32| {
        let mut x = matrix.x.clone();
        x.values[6] = FeatureValues::Category(vec![index; 1_000].into());
        model.predict(&x).unwrap()
    };
    assert_eq!(clusters(5), clusters(u32::MAX));
    assert_eq!(model.centers()[0].len(), 6 + 5);
}

#[test]
fn equal_rows_give_fewer_clusters() {
    let matrix = columns(vec![(0..100).map(|i| f64::from(i % 3) * 0.1).collect()]);
    for mode in ["k-means||", "random"] {
        let model = fit_one(&matrix, json!({"k": 5, "init_mode": mode})).unwrap();
        let mut centres: Vec<f64> = model.centers().iter().map(|c| c[0]).collect();
        centres.sort_by(f64::total_cmp);
        assert!(centres.iter().zip([0.0, 0.1, 0.2]).all(|(a, b)| (a - b).abs() < 1e-12) && centres.len() == 3);
        assert!(model.training_cost() < 1e-20);
    }
    let model = fit_one(&mixture(50), json!({"k": 50, "init_steps": 1})).unwrap();
    assert_eq!(model.centers().len(), 50);
}

#[test]
fn numbers_far_from_zero_are_told_apart() {
    let matrix = columns(vec![(0..1_000).map(|i| 1.7e12 + f64::from(i % 4) * 10.0 + unit(i as usize, 1)).collect()]);
    let model = fit_one(&matrix, json!({"k": 4})).unwrap();
    let clusters = model.predict(&matrix.x).unwrap();
    assert!((0..1_000).all(|i| clusters[i] == clusters[i % 4]) && model.sizes() == [250; 4], "{:?}", model.sizes());
}

#[test]
fn cosines_look_at_directions_only() {
    let angle = |i: usize| (i % 3) as f64 * 2.0 + unit(i, 1) * 0.2;
    let column = |f: fn(f64) -> f64| (0..300).map(|i| f(angle(i)) * (0.1 + unit(i, 2) * 100.0)).collect::<Vec<f64>>();
    let matrix = columns(vec![column(f64::cos), column(f64::sin)]);
    let model = fit_one(&matrix, json!({"k": 3, "distance_measure": "cosine"})).unwrap();
    let clusters = model.predict(&matrix.x).unwrap();
    assert!((0..300).all(|i| clusters[i] == clusters[i % 3]) && model.sizes() == [100; 3]);
    assert!(model.centers().iter().all(|c| (c[0] * c[0] + c[1] * c[1] - 1.0).abs() < 1e-12));
    let cost = |i: usize| {
        let centre = &model.centers()[clusters[i] as usize];
        1.0 - (angle(i).cos() * centre[0] + angle(i).sin() * centre[1])
    };
    assert!((model.training_cost() - (0..300).map(cost).sum::<f64>()).abs() < 1e-9);
    let zeros = columns(vec![vec![0.0, 1.0], vec![0.0, 1.0]]);
    assert_eq!(model.predict(&zeros.x).unwrap()[0].to_bits(), f64::NAN.to_bits());
    let error = fit_one(&zeros, json!({"distance_measure": "cosine"})).unwrap_err().to_string();
    assert!(error.contains("1 of 2 training rows have zeros only"), "{error}");
}

#[test]
fn rows_of_weight_zero_move_no_centre() {
    let mut matrix = columns(vec![vec![0.0, 1.0, 10.0, 11.0, 1000.0]]);
    matrix.weight = Some(vec![1.0, 1.0, 1.0, 3.0, 0.0].into());
    let model = fit_one(&matrix, json!({"k": 2})).unwrap();
    let mut centres: Vec<f64> = model.centers().iter().map(|c| c[0]).collect();
    centres.sort_by(f64::total_cmp);
    assert!((centres[0] - 0.5).abs() < 1e-12 && (centres[1] - 10.75).abs() < 1e-12, "{centres:?}");
}

#[test]
fn missing_numbers_are_named_in_training_and_have_no_cluster() {
    let mut matrix = mixture(100);
    let model = fit_one(&matrix, json!({})).unwrap();
    matrix.x.values[2] = FeatureValues::Number((0..100).map(|i| if i == 6 { f64::NAN } else { 1.0 }).collect());
    let error = fit_one(&matrix, json!({})).unwrap_err().to_string();
    assert!(error.starts_with("column \"x2\" has 1 missing"), "{error}");
    let clusters = model.predict(&matrix.x).unwrap();
    assert!((0..100).all(|i| clusters[i].is_nan() == (i == 6)));
}

#[test]
fn parameters_are_checked_by_name_and_range() {
    let cases = [
        (json!({"max_itr": 1}), "did you mean \"max_iter\"?"),
        (json!({"k": 0}), "expected a whole number from 1"),
        (json!({"tol": -1}), "expected a number of at least 0, got -1"),
        (json!({"init_mode": "k-means++"}), "expected one of k-means||, random"),
        (json!({"distance_measure": "l1"}), "expected one of euclidean, cosine"),
    ];
    for (wrong, expected) in cases {
        let error = KMeans.validate(&params(wrong), ProblemType::Clustering).unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("k_means"), "{error}");
    }
    let error = KMeans.validate(&Params::new(), ProblemType::Binary).unwrap_err().to_string();
    assert!(error.contains("problems of type clustering"), "{error}");
}

#[test]
fn cancelled_fits_stop() {
    let ctx = FitContext::new(1);
    ctx.cancel.store(true, Ordering::Relaxed);
    let matrix = mixture(1_000);
    for mode in ["k-means||", "random"] {
        let fitted = KMeans.fit(&matrix, &all_rows(&matrix), &[params(json!({"init_mode": mode}))], &ctx);
        assert!(matches!(fitted[0], Err(MlError::Cancelled)));
    }
}

#[test]
fn other_columns_are_refused() {
    let matrix = mixed(100);
    let model = fit_one(&matrix, json!({})).unwrap();
    let mut x = slice(&matrix.x, 0..3);
    x.features = x.features[..3].into();
    x.values.truncate(3);
    let error = model.predict(&x).unwrap_err().to_string();
    assert!(error.contains("got x0, x1, x2"), "{error}");
}

fn over_shards(matrix: &Matrix, candidates: &[Params], n_shards: usize, forgets: bool) -> Vec<KMeansModel> {
    let shards = TestShards::new(&KMeans, matrix, n_shards, forgets);
    let fitted = sharded::fit_shards(&shards, candidates, &FitContext::new(7));
    fitted.into_iter().map(|model| model.unwrap()).collect()
}

fn weighted(matrix: Matrix) -> Matrix {
    Matrix { weight: Some((0..matrix.x.n_rows).map(|i| (i % 4) as f64).collect()), ..matrix }
}

#[test]
fn one_shard_gives_the_model_of_rows_in_memory() {
    let candidates = [params(json!({"k": 12, "max_iter": 50})), params(json!({"k": 5, "distance_measure": "cosine"}))];
    for matrix in [mixture(9_000), weighted(mixture(9_000))] {
        let in_memory = fit::fit(&matrix, &all_rows(&matrix), &candidates, &FitContext::new(7));
        for (ours, theirs) in over_shards(&matrix, &candidates, 1, false).iter().zip(in_memory) {
            assert_eq!(ours.save().unwrap(), theirs.unwrap().save().unwrap());
        }
    }
}

#[test]
fn shards_find_clusters_as_tight_as_rows_in_memory() {
    for matrix in [mixture(9_000), weighted(mixture(9_000)), mixed(9_000)] {
        let candidates: Vec<Params> =
            (0..6).map(|seed| params(json!({"k": 12, "max_iter": 100, "tol": 0, "seed": seed}))).collect();
        let best = |costs: &mut dyn Iterator<Item = f64>| costs.fold(f64::INFINITY, f64::min);
        let in_memory = fit::fit(&matrix, &all_rows(&matrix), &candidates, &FitContext::new(7));
        let theirs = best(&mut in_memory.into_iter().map(|model| model.unwrap().training_cost()));
        let ours = best(&mut over_shards(&matrix, &candidates, 4, false).iter().map(KMeansModel::training_cost));
        assert!((ours / theirs - 1.0).abs() < 0.01, "{ours} and {theirs}");
    }
}

#[test]
fn rows_that_are_equal_in_several_shards_are_one_centre() {
    let matrix = columns(vec![(0..200).map(|i| f64::from(i % 5)).collect()]);
    for init_mode in ["k-means||", "random"] {
        let candidates = [5, 8].map(|k| params(json!({"k": k, "init_mode": init_mode})));
        for model in over_shards(&matrix, &candidates, 4, false) {
            assert!(model.centers().len() == 5 && model.training_cost() < 1e-20);
            let mut clusters = model.predict(&matrix.x).unwrap();
            clusters.sort_by(f64::total_cmp);
            clusters.dedup();
            assert_eq!(clusters, [0.0, 1.0, 2.0, 3.0, 4.0]);
        }
    }
}

#[test]
fn what_is_kept_of_shards_changes_no_bit() {
    let candidates = [
        params(json!({"k": 40, "max_iter": 10})),
        params(json!({"k": 12, "distance_measure": "cosine", "init_mode": "random"})),
    ];
    for matrix in [mixture(9_000), weighted(mixed(9_000))] {
        let saved = |forgets| -> Vec<Artifacts> {
            over_shards(&matrix, &candidates, 3, forgets).iter().map(|model| model.save().unwrap()).collect()
        };
        assert!(saved(false) == saved(true));
    }
}

#[test]
fn what_is_wrong_with_rows_is_found_over_shards_too() {
    let mut gaps = mixture(100);
    gaps.x.values[2] = FeatureValues::Number(vec![f64::NAN; 100].into());
    let negative = Matrix { weight: Some(vec![-1.0; 100].into()), ..mixture(100) };
    let none = Matrix { weight: Some(vec![0.0; 100].into()), ..mixture(100) };
    let zeros = columns(vec![vec![0.0; 100]]);
    let cosine = json!({"k": 2, "distance_measure": "cosine"});
    for (matrix, candidate) in [(gaps, json!({})), (negative, json!({})), (none, json!({})), (zeros, cosine)] {
        let shards = TestShards::new(&KMeans, &matrix, 3, false);
        let ours = sharded::fit_shards(&shards, &[params(candidate.clone())], &FitContext::new(7)).remove(0);
        let theirs = fit_one(&matrix, candidate);
        assert_eq!(ours.unwrap_err().to_string(), theirs.unwrap_err().to_string());
    }
}
