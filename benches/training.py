"""Training against the peers: ours and theirs in turn, on the same rows with the same parameters and two cores.

Parts:

* trees: boosted trees on a HIGGS-like set (28 numbers, a noisy product of them as label), 100 trees of 63 leaves,
  against LightGBM.
* grid: 16 candidates of boosted trees in one fit, against 16 fits of LightGBM.
* kmeans: 100 clusters of 50 numbers, against scikit-learn.

Data are made once, by seed, into a cache folder. Seconds are those of the fit alone, from numbers in memory on:
binning is in them, reading files and scoring are not. Ours and the peer run in turn; the medians count.

    python benches/training.py
    python benches/training.py --rows 100000 --runs 1  # quick
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PARTS = ["trees", "grid", "kmeans"]
# What ours may take of the peer's time, and how much worse its area under ROC may be.
BOUNDS = {"trees": 1.2, "grid": 0.8, "kmeans": 1.0}
AREA_MARGIN = 0.002
TEST_ROWS = 200_000


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_build_options(parser)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tidemill" / "training"
    parser.add_argument("--part", action="append", choices=PARTS, help="what to run (all)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to train on (1 million)")
    parser.add_argument("--cache", type=Path, default=cache, help="folder of the data")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in turn (3)")
    args = parser.parse_args()
    args.part = args.part or PARTS
    return args


def higgs_like(cache, rows):
    """Two Parquet files, to train on and to test: 21 measured numbers, 7 computed of them, a noisy label."""
    folder = cache / f"higgs-{rows}"
    if not folder.exists():
        harness.say(f"training: making {rows} rows")
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        for seed, (name, n) in enumerate([("train", rows), ("test", TEST_ROWS)]):
            pq.write_table(higgs_rows(np.random.default_rng(seed), n), partial / f"{name}.parquet")
        partial.rename(folder)
    return folder / "train.parquet", folder / "test.parquet"


def higgs_rows(random, n):
    """Momenta are skewed, angles even, tags of three values; high-level numbers are masses of pairs."""
    momenta = random.exponential(1.0, (n, 6)) + 0.3
    angles = random.uniform(-1.7, 1.7, (n, 11))
    tags = random.choice([0.0, 1.1, 2.2], (n, 4), p=[0.5, 0.3, 0.2])
    masses = [
        np.sqrt(2 * momenta[:, i] * momenta[:, j] * (np.cosh(angles[:, i] - angles[:, j]) - np.cos(angles[:, i + j])))
        for i, j in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5), (1, 4)]
    ]
    measured = np.abs(np.stack(masses, 1)) + random.normal(0, 0.15, (n, 7))
    margin = (
        1.2 * np.tanh(measured[:, 0] - measured[:, 1])
        + 0.8 * (np.abs(measured[:, 2] - 1.5) < 0.6)
        - 0.7 * (measured[:, 3] > 2.5) * (tags[:, 0] > 0)
        + 0.5 * np.sin(2 * angles[:, 8]) * (momenta[:, 0] > 1)
        + 0.4 * tags[:, 1] * np.cos(angles[:, 9])
        - 0.3 * np.log(momenta[:, 4])
        - 0.4
    )
    label = (random.uniform(size=n) < 1 / (1 + np.exp(-1.5 * margin))).astype(np.int64)
    columns = np.concatenate([momenta, angles, tags, measured], 1)
    names = [f"x{i}" for i in range(columns.shape[1])]
    return pa.table([label, *columns.T], names=["label", *names])


def blobs(cache, rows, features=50, clusters=100):
    """A Parquet file of points around centres."""
    path = cache / f"blobs-{rows}x{features}.parquet"
    if not path.exists():
        random = np.random.default_rng(3)
        centres = random.normal(0, 1.0, (clusters, features))
        points = centres[random.integers(0, clusters, rows)] + random.normal(0, 0.7, (rows, features))
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(list(points.T), names=[f"x{i}" for i in range(features)]), path)
    return path


def ours(binaries, estimator, params, train, test, extra=()):
    """Seconds of our fit and the predictions of each candidate."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "predictions.arrow"
        command = [binaries / "examples" / "time_training", "--estimator", estimator]
        command += ["--params", json.dumps(params), "--train", train, "--test", test, "--out", out, *extra]
        line = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
        with pa.memory_map(str(out)) as source:
            table = pa.ipc.open_file(source).read_all()
        predictions = [np.array(column.to_numpy()) for column in table.columns]
    return json.loads(line.stdout)["seconds"][0], predictions


def lightgbm_fit(params, rounds, train, test):
    """Seconds of LightGBM's binning and training, and its predictions."""
    import lightgbm

    (x, y), (x_test, _) = train, test
    params = {"objective": "binary", "num_threads": 2, "verbose": -1, "max_bin": 255, **params}
    started = time.perf_counter()
    data = lightgbm.Dataset(x, y, params=params, free_raw_data=False)
    model = lightgbm.train(params, data, num_boost_round=rounds)
    seconds = time.perf_counter() - started
    return seconds, model.predict(x_test)


def numbers(path):
    """The features and the label of a file."""
    table = pq.read_table(path)
    label = table["label"].to_numpy() if "label" in table.column_names else None
    names = [name for name in table.column_names if name != "label"]
    return np.stack([table[name].to_numpy() for name in names], 1), label


def in_turn(runs, contestants):
    """Seconds of each contestant, which run in turn, and what each gave the last time."""
    seconds, given = {name: [] for name in contestants}, {}
    for _ in range(runs):
        for name, run in contestants.items():
            took, given[name] = run()
            harness.say(f"training: {name} {took:.2f} s")
            seconds[name].append(took)
    return {name: statistics.median(times) for name, times in seconds.items()}, given


def area(label, scores):
    """The area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, scores))


def trees(args, binaries):
    """100 trees of 63 leaves."""
    train, test = higgs_like(args.cache, args.rows)
    peer_train, peer_test = numbers(train), numbers(test)
    params = {"max_iter": 100, "max_leaves": 63, "step_size": 0.1, "min_instances_per_node": 20}
    theirs = {"num_leaves": 63, "learning_rate": 0.1, "min_data_in_leaf": 20}
    seconds, given = in_turn(
        args.runs,
        {
            "tidemill": lambda: ours(
                binaries, "gradient_boosted_trees", [params], train, test, ["--label", "label"]
            ),
            "lightgbm": lambda: lightgbm_fit(theirs, 100, peer_train, peer_test),
        },
    )
    areas = {"tidemill": area(peer_test[1], given["tidemill"][0]), "lightgbm": area(peer_test[1], given["lightgbm"])}
    return {
        "seconds": seconds,
        "area_under_roc": areas,
        "ratio": seconds["tidemill"] / seconds["lightgbm"],
        "within_bounds": seconds["tidemill"] <= BOUNDS["trees"] * seconds["lightgbm"]
        and areas["tidemill"] >= areas["lightgbm"] - AREA_MARGIN,
    }


def grid(args, binaries):
    """16 candidates in one fit."""
    train, test = higgs_like(args.cache, args.rows)
    peer_train, peer_test = numbers(train), numbers(test)
    points = [(n, leaves, step) for n in (50, 100) for leaves in (15, 31, 63, 127) for step in (0.05, 0.1)]
    params = [{"max_iter": n, "max_leaves": leaves, "step_size": step} for n, leaves, step in points]

    def one_by_one():
        took, scores = 0.0, []
        for n, leaves, step in points:
            theirs = {"num_leaves": leaves, "learning_rate": step, "min_data_in_leaf": 20}
            seconds, predictions = lightgbm_fit(theirs, n, peer_train, peer_test)
            took += seconds
            scores.append(predictions)
        return took, scores

    seconds, given = in_turn(
        args.runs,
        {
            "tidemill": lambda: ours(
                binaries, "gradient_boosted_trees", params, train, test, ["--label", "label"]
            ),
            "lightgbm": one_by_one,
        },
    )
    worst = min(
        area(peer_test[1], mine) - area(peer_test[1], theirs)
        for mine, theirs in zip(given["tidemill"], given["lightgbm"])
    )
    ratio = seconds["tidemill"] / seconds["lightgbm"]
    return {
        "seconds": seconds,
        "ratio": ratio,
        "least_gain_of_area": worst,
        "within_bounds": ratio <= BOUNDS["grid"] and worst >= -AREA_MARGIN,
    }


def kmeans(args, binaries):
    """100 clusters, the same number of iterations."""
    from sklearn.cluster import KMeans

    path = blobs(args.cache, args.rows)
    points, _ = numbers(path)
    params = {"k": 100, "max_iter": 20, "tol": 0.0, "seed": 1}

    def theirs():
        started = time.perf_counter()
        model = KMeans(100, n_init=1, max_iter=20, tol=0.0, random_state=1).fit(points)
        return time.perf_counter() - started, float(model.inertia_)

    seconds, given = in_turn(
        args.runs,
        {
            "tidemill": lambda: ours(
                binaries, "k_means", [params], path, path, ["--problem", "clustering"]
            ),
            "scikit-learn": theirs,
        },
    )
    clusters = given["tidemill"][0].astype(int)
    inertia = sum(
        float(((points[clusters == c] - points[clusters == c].mean(0)) ** 2).sum()) for c in np.unique(clusters)
    )
    ratio = seconds["tidemill"] / seconds["scikit-learn"]
    return {
        "seconds": seconds,
        "ratio": ratio,
        "inertia": {"tidemill": inertia, "scikit-learn": given["scikit-learn"]},
        "within_bounds": ratio <= BOUNDS["kmeans"] and inertia <= 1.005 * given["scikit-learn"],
    }


def main():
    """Runs the parts and prints what was found as JSON."""
    args = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    binaries = harness.binaries(args)
    found = {part: globals()[part](args, binaries) for part in args.part}
    print(json.dumps({"suite": "training", "rows": args.rows, "cores": os.cpu_count(), **found}, indent=2))
    sys.exit(0 if all(part["within_bounds"] for part in found.values()) else 1)


if __name__ == "__main__":
    main()
