//! How long k-means takes on 1,000,000 rows of 50 numbers with 100 clusters: `cargo run -p tidemill-ml --example
//! k_means_time [how far the clusters are apart] [steps]`.
#![allow(clippy::print_stdout, reason = "an example's output")]

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tidemill_ml::estimator::{Estimator, FitContext, KMeans, Params, ProblemType};
use tidemill_ml::matrix::{Feature, FeatureKind, FeatureValues, Features, Matrix};

const ROWS: u64 = 1_000_000;
const NUMBERS: u64 = 50;
const CLUSTERS: u64 = 100;

fn main() {
    let argument = |i: usize, default: f64| std::env::args().nth(i).and_then(|v| v.parse().ok()).unwrap_or(default);
    let matrix = matrix(argument(1, 1.5));
    let rows: Vec<u32> = (0..ROWS as u32).collect();
    for max_iter in [0, argument(2, 20.0) as u64] {
        for seed in [0, 1] {
            let json = json!({"k": CLUSTERS, "max_iter": max_iter, "tol": 0, "seed": seed});
            let params: Params = serde_json::from_value(json).unwrap_or_default();
            let start = Instant::now();
            let models = KMeans.fit(&matrix, &rows, &[params], &FitContext::new(1));
            let seconds = start.elapsed().as_secs_f64();
            let artifacts = models.into_iter().flatten().map(|model| model.save()).find_map(Result::ok);
            let bytes = artifacts.and_then(|mut files| files.remove("model.json")).unwrap_or_default();
            let model: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            println!("{seconds:.2} s, {} steps, inertia {}", model["iterations"], model["training_cost"]);
        }
    }
}

/// Clusters whose centres are uniform in a cube of side `spread`, and rows with a deviation of 1 around them.
fn matrix(spread: f64) -> Matrix {
    let cluster: Vec<u64> = (0..ROWS).map(|i| (unit(i, 1000) * CLUSTERS as f64) as u64).collect();
    let feature = |j: u64| Feature { name: format!("x{j}"), kind: FeatureKind::Number };
    let column = |j: u64| {
        let centres: Vec<f64> = (0..CLUSTERS).map(|c| unit(c, 2000 + j) * spread).collect();
        let value = |i: u64| centres[cluster[i as usize] as usize] + noise(i, j);
        FeatureValues::Number((0..ROWS).map(value).collect())
    };
    let features: Arc<[Feature]> = (0..NUMBERS).map(feature).collect();
    let x = Features { features, values: (0..NUMBERS).map(column).collect(), n_rows: ROWS as usize };
    Matrix::new(x, vec![0.0; ROWS as usize], ProblemType::Clustering)
}

/// The sum of three uniform numbers, of deviation 1.
fn noise(row: u64, column: u64) -> f64 {
    let h = mix(mix(row) ^ column);
    let thirds = (h >> 43) + ((h >> 22) & 0x1f_ffff) + ((h >> 1) & 0x1f_ffff);
    (thirds as f64 / f64::from(1 << 21) - 1.5) * 2.0
}

fn unit(row: u64, column: u64) -> f64 {
    (mix(mix(row) ^ column) >> 11) as f64 / (1u64 << 53) as f64
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
