"""Training against the peers: ours and theirs in turn, on the same rows with the same parameters and two cores.

Parts:

* trees: boosted trees on a HIGGS-like set (28 numbers, a noisy product of them as label), 100 trees of 63 leaves,
  against LightGBM.
* grid: 16 candidates of boosted trees in one fit, against 16 fits of LightGBM.
* kmeans: 100 clusters of 50 numbers, against scikit-learn.
* numbers: boosted trees on the HIGGS-like set with a skewed number as label, against LightGBM: errors count.
* flights: boosted trees on the flights' features, categories among them, for `late` and for `arr_delay`, against
  LightGBM: areas and errors count.
* logistic: a job of 12 elastic net logistic regressions over 3 folds of whole days and the flights' preparation, the
  whole process of `tidemill run`, against CrossValidator of PySpark and GridSearchCV of scikit-learn.
* single: 32 logistic regressions on 5 folds of the HIGGS-like set against one fit of all rows, and that against
  scikit-learn's.
* spark_trees: 20 boosted trees of depth 6 on the HIGGS-like set, against Spark.

Data are made once, by seed, into a cache folder. Seconds are those of the fit alone, from numbers in memory on, but where
a part says otherwise: binning is in them, reading files and scoring are not. Ours and the peer run in turn; the medians
count. logistic, flights and spark_trees need Java.

    python benches/training.py
    python benches/training.py --rows 100000 --runs 1  # quick
    python benches/training.py --part trees --markdown
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import flights as flights_suite
import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from peers.flight_columns import CATEGORIES, KEY, NUMBERS
from training_data import CACHE, blobs, flight_files, flight_rows, higgs_like
from training_fits import area, in_turn, lightgbm_fit, numbers as numbers_of, ours, peer, rmse

# What ours may take of the peer's time.
BOUNDS = {
    "trees": 1.2,
    "grid": 0.8,
    "kmeans": 1.0,
    "logistic": {"pyspark": 1 / 20, "scikit-learn": 1 / 5},
    "spark_trees": 1 / 30,
}
# How much worse our area under ROC may be, and by how much of it our error larger.
AREA_MARGIN = 0.002
ERROR_MARGIN = 0.01
# How many times as long as one fit the candidates and folds of `single` may take.
SINGLE_BOUND = 30
# 100 trees of 63 leaves.
OURS_63 = {"max_iter": 100, "max_leaves": 63, "step_size": 0.1, "min_instances_per_node": 20}
LIGHTGBM_63 = {"num_leaves": 63, "learning_rate": 0.1, "min_data_in_leaf": 20}
FOLDS = {"k": 3, "seed": 7}
HOLDOUT = "2013-11-01"


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_build_options(parser)
    parser.add_argument("--part", action="append", choices=PARTS, help="what to run (all)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to train on (1 million)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the data")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in turn (3)")
    parser.add_argument("--markdown", action="store_true", help="print a table and not JSON")
    args = parser.parse_args()
    args.part = args.part or list(PARTS)
    return args


def trees(args, binaries):
    """100 trees of 63 leaves."""
    train, test = higgs_like(args.cache, args.rows)
    peer_train, peer_test = numbers_of(train), numbers_of(test)
    seconds, given = in_turn(
        args.runs,
        {
            "tidemill": lambda: ours(binaries, "gradient_boosted_trees", [OURS_63], train, test),
            "lightgbm": lambda: lightgbm_fit(LIGHTGBM_63, 100, peer_train, peer_test),
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
    peer_train, peer_test = numbers_of(train), numbers_of(test)
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
            "tidemill": lambda: ours(binaries, "gradient_boosted_trees", params, train, test),
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
    points, _ = numbers_of(path)
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


def numbers(args, binaries):
    """100 trees of 63 leaves for a number."""
    train, test = higgs_like(args.cache, args.rows, is_number=True)
    return against_lightgbm(args, binaries, train, test, is_number=True)


def flights(args, binaries):
    """The same on the flights, for both of their labels."""
    table = flight_rows(args.cache, args.rows)
    with tempfile.TemporaryDirectory() as folder:
        found = {
            label: against_lightgbm(args, binaries, *flight_files(Path(folder), table, label), label == "arr_delay")
            for label in ["late", "arr_delay"]
        }
    return {**found, "within_bounds": all(part["within_bounds"] for part in found.values())}


def against_lightgbm(args, binaries, train, test, is_number):
    """100 trees of 63 leaves on some files: seconds, and areas or errors that must be as good."""
    peer_train, peer_test = numbers_of(train), numbers_of(test)
    names = [name for name in pq.read_schema(train).names if name != "label"]
    categories = [names.index(name) for name in CATEGORIES if name in names]
    # As ours: labels of 10 rows on may be parted.
    theirs = {**LIGHTGBM_63, "min_data_per_group": 10, "objective": "l2" if is_number else "binary"}
    extra = ["--label", "label", "--problem", "regression" if is_number else "binary"]
    seconds, given = in_turn(
        args.runs,
        {
            "tidemill": lambda: ours(binaries, "gradient_boosted_trees", [OURS_63], train, test, extra),
            "lightgbm": lambda: lightgbm_fit(theirs, 100, peer_train, peer_test, categories),
        },
    )
    measure = rmse if is_number else area
    found = {
        "tidemill": measure(peer_test[1], given["tidemill"][0]),
        "lightgbm": measure(peer_test[1], given["lightgbm"]),
    }
    good = (
        found["tidemill"] <= (1 + ERROR_MARGIN) * found["lightgbm"]
        if is_number
        else found["tidemill"] >= found["lightgbm"] - AREA_MARGIN
    )
    return {
        "seconds": seconds,
        "ratio": seconds["tidemill"] / seconds["lightgbm"],
        "rmse" if is_number else "area_under_roc": found,
        "within_bounds": good,
    }


def logistic(args, binaries):
    """12 candidates over 3 folds, from the file of feature rows to the refitted best."""
    table = flight_rows(args.cache, args.rows)
    grid = {"reg_param": [0.0001, 0.001, 0.01, 0.1], "elastic_net_param": [0.0, 0.5, 1.0]}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        job, rows = write_logistic_job(binaries / "tidemill", table, grid, scratch)
        points = [word for name, values in grid.items() for word in [f"--{name.replace('_', '-')}", *values]]
        columns = ["--numbers", *NUMBERS, "--categories", *CATEGORIES]

        def run_ours():
            with tempfile.TemporaryDirectory() as warehouse:
                command = [binaries / "tidemill", "--json", "--warehouse", warehouse, "run", job]
                output, seconds, _ = harness.measured(command, cwd=scratch)
            events = [json.loads(line) for line in output.splitlines()]
            record = next(event["record"] for event in events if event.get("event") == "record")
            return seconds, [{**c["params"], "area": c["mean"]} for c in record["train"]["candidates"]]

        def run_peer(script, *options):
            found = peer(script, "--rows", rows, *points, *options)
            return found["seconds"], found["candidates"]

        contestants = {
            "tidemill": run_ours,
            "scikit-learn": lambda: run_peer("logistic_sklearn.py", *columns),
            "pyspark": lambda: run_peer("logistic_pyspark.py", "--folds", FOLDS["k"]),
        }
        seconds, given = in_turn(args.runs, contestants)
    return verdict_of_areas(seconds, {name: areas_by_point(found) for name, found in given.items()})


def verdict_of_areas(seconds, areas):
    """Whether ours is fast enough, and each candidate's area that of the peers."""
    bounds = BOUNDS["logistic"]
    ratio = {name: seconds["tidemill"] / seconds[name] for name in bounds}
    off = {
        name: max(abs(areas["tidemill"][point] - areas[name][point]) for point in areas["tidemill"])
        for name in bounds
    }
    return {
        "seconds": seconds,
        "ratio": ratio,
        "largest_difference_of_area": off,
        "best_area": {name: max(found.values()) for name, found in areas.items()},
        "within_bounds": all(ratio[name] <= bounds[name] for name in bounds)
        and all(value <= AREA_MARGIN for value in off.values()),
    }


def areas_by_point(candidates):
    """Areas by parameters; these went through divisions, so few digits count."""
    return {(f"{c['reg_param']:.3g}", f"{c['elastic_net_param']:.3g}"): c["area"] for c in candidates}


def write_logistic_job(tidemill, table, grid, scratch):
    """Our job and the peers' rows: those to train on, with the folds that our job deals."""
    folds = {row["ds"]: int(row["fold"]) for row in flights_suite.deal_folds(tidemill, FOLDS["k"], FOLDS["seed"], scratch)}
    days = [str(day) for day in table["ds"].to_pylist()]
    pq.write_table(table, scratch / "flights.parquet")
    with_fold = table.append_column("fold", pa.array([folds[day] for day in days], pa.int32()))
    rows = scratch / "rows.parquet"
    # Spark reads no nanoseconds, and the peers need no key.
    train = with_fold.filter(pa.array([day < HOLDOUT for day in days])).drop_columns(["time_hour"])
    pq.write_table(train, rows)
    (scratch / "features.sql").write_text("select * from flights\n")
    missing = [name for name in NUMBERS if table[name].null_count]
    # JSON is YAML too.
    job = {
        "job": "train",
        "name": "logistic",
        "tables": {"flights": "flights.parquet"},
        "features": "features.sql",
        "key": KEY,
        "label": "late",
        "split": {"train": f"ds < date '{HOLDOUT}'", "holdout": f"ds >= date '{HOLDOUT}'"},
        "pipeline": [
            {"imputer": {"strategy": "mean", "inputs": missing}},
            {"string_indexer": {"inputs": CATEGORIES, "handle_invalid": "keep"}},
            {"one_hot_encoder": {"inputs": CATEGORIES, "handle_invalid": "keep"}},
            {"vector_assembler": {"inputs": [*NUMBERS, *CATEGORIES]}},
        ],
        "grid": {
            "folds": {"k": FOLDS["k"], "by": "ds"},
            "metric": "area_under_roc",
            "seed": FOLDS["seed"],
            "estimators": {"logistic_regression": grid},
        },
        "register": {"model": "late", "threshold": 0.5},
    }
    path = scratch / "train.yaml"
    path.write_text(json.dumps(job, indent=1))
    return path, rows


def single(args, binaries):
    """32 candidates on 5 folds against one fit, and one fit against scikit-learn's."""
    train, test = higgs_like(args.cache, args.rows)
    peer_train, peer_test = numbers_of(train), numbers_of(test)
    regs = [10.0**-power for power in np.linspace(1, 5, 8)]
    params = [{"reg_param": reg, "elastic_net_param": ratio} for reg in regs for ratio in (0.0, 0.3, 0.7, 1.0)]
    one = {"reg_param": 0.001}
    seconds, given = in_turn(
        args.runs,
        {
            "one": lambda: ours(binaries, "logistic_regression", [one], train, test),
            "all": lambda: ours(
                binaries, "logistic_regression", params, train, test, ["--label", "label", "--folds", "5"]
            ),
            "scikit-learn": lambda: sklearn_logistic(one["reg_param"], peer_train, peer_test),
        },
    )
    areas = {"tidemill": area(peer_test[1], given["one"][0]), "scikit-learn": area(peer_test[1], given["scikit-learn"])}
    times = seconds["all"] / seconds["one"]
    ratio = seconds["one"] / seconds["scikit-learn"]
    return {
        "seconds": seconds,
        "ratio": ratio,
        "all_to_one": times,
        "area_under_roc": areas,
        "within_bounds": times <= SINGLE_BOUND and ratio <= 1 and abs(areas["tidemill"] - areas["scikit-learn"]) <= AREA_MARGIN,
    }


def sklearn_logistic(reg, train, test):
    """Seconds of scikit-learn's scaling and fit, and its scores."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (x, y), (x_test, _) = train, test
    started = time.perf_counter()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (reg * len(y)), max_iter=100)).fit(x, y)
    seconds = time.perf_counter() - started
    return seconds, model.predict_proba(x_test)[:, 1]


def spark_trees(args, binaries):
    """20 trees of depth 6, as Spark grows them."""
    train, test = higgs_like(args.cache, args.rows)
    label = numbers_of(test)[1]
    params = {"max_iter": 20, "max_depth": 6, "step_size": 0.1, "max_bins": 32, "min_instances_per_node": 1}
    params["growth"] = "depth_wise"

    def run_spark():
        found = peer("trees_pyspark.py", "--train", train, "--test", test, "--trees", 20, "--depth", 6)
        return found["seconds"], found["area"]

    seconds, given = in_turn(
        args.runs,
        {
            "tidemill": lambda: ours(binaries, "gradient_boosted_trees", [params], train, test),
            "pyspark": run_spark,
        },
    )
    areas = {"tidemill": area(label, given["tidemill"][0]), "pyspark": given["pyspark"]}
    ratio = seconds["tidemill"] / seconds["pyspark"]
    return {
        "seconds": seconds,
        "ratio": ratio,
        "area_under_roc": areas,
        "within_bounds": ratio <= BOUNDS["spark_trees"] and areas["tidemill"] >= areas["pyspark"] - AREA_MARGIN,
    }


PARTS = {
    part.__name__: part for part in [trees, grid, kmeans, numbers, flights, logistic, single, spark_trees]
}


def table_of(found):
    """What was found as a table of Markdown."""
    lines = ["| part | seconds | ratio | outputs | within bounds |", "|---|---|---|---|---|"]
    for name, part in found.items():
        halves = {f"{name}, {half}": part[half] for half in ("late", "arr_delay") if half in part} or {name: part}
        for title, row in halves.items():
            known = ("seconds", "ratio", "within_bounds")
            outputs = {key: value for key, value in row.items() if key not in known}
            good = "yes" if row["within_bounds"] else "**no**"
            cells = [title, words(row["seconds"]), words(row["ratio"]), words(outputs), good]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def words(value):
    """Numbers by name, in a line."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {words(of_name)}" for name, of_name in value.items())
    return f"{value:.4g}"


def main():
    """Runs the parts and prints what was found."""
    args = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    binaries = harness.binaries(args)
    found = {part: PARTS[part](args, binaries) for part in args.part}
    if args.markdown:
        print(table_of(found))
    else:
        print(json.dumps({"suite": "training", "rows": args.rows, "cores": os.cpu_count(), **found}, indent=2))
    sys.exit(0 if all(part["within_bounds"] for part in found.values()) else 1)


if __name__ == "__main__":
    main()
