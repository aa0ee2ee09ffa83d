"""The flights job, the whole of train and score without the perceptron, against PySpark.

Ours: `tidemill run` of a copy of examples/flights/train.yaml without its multilayer perceptron,
then of score.yaml for November and December, into a fresh warehouse. The peer:
peers/flights_pyspark.py on the same data, grid points and folds (dealt by our fold_hash, given to
it as a table). In turn, in one run; prints wall-clock seconds and peak memory of the process trees
with the ratios of their medians, the areas under ROC on the hold-out, and whether both scored the
same number of rows on each day.

Spark's seconds are what its script measures of itself: they leave out starting Python and counting
rows for the report. Ours are those of the whole processes.

    python benches/flights.py
"""

import argparse
import csv
import io
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import pyarrow.dataset as dataset

import harness

FIRST, LAST = "2013-11-01", "2013-12-31"
DROPPED = "multilayer_perceptron"
# The trees of the example as Spark's are: its grid points, bins and leaf size, every row and feature for every tree.
PEER_TREES = {
    "      max_iter: [50, 100]\n": "      max_iter: [20, 50]\n",
    "      step_size: [0.05, 0.1]\n": "      step_size: [0.1, 0.2]\n",
    "      min_instances_per_node: 100\n": "      max_bins: 32\n      min_instances_per_node: 1\n",
    "      subsampling_rate: 0.8\n": "",
    "      feature_subset: 0.6\n": "",
}
# Ours may be this much below Spark's area under ROC, and may take this share of its time.
MARGIN = 0.005
SHARE = 0.1
# Estimators by the names of ours and the peer's.
ESTIMATORS = {"logistic_regression": "lr", "gradient_boosted_trees": "gbt"}


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_build_options(parser)
    parser.add_argument("--runs", type=int, default=1, help="runs of each, in turn (1)")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="Spark's; all by default")
    parser.add_argument("--keep", type=Path, help="keep warehouse, scores and folds in this folder")
    parser.add_argument("--ours-only", action="store_true", help="leave Spark out: no comparison")
    return parser.parse_args()


def copy_job(folder):
    """A copy of the example whose training job has no perceptron and Spark's grid of trees."""
    job = folder / "flights"
    shutil.copytree(harness.FLIGHTS, job, dirs_exist_ok=True)
    lines, dropping = [], False
    for line in (job / "train.yaml").read_text().splitlines(keepends=True):
        depth = len(line) - len(line.lstrip())
        if line.lstrip().startswith(f"{DROPPED}:"):
            dropping, dropped_depth = True, depth
        elif dropping and line.strip() and depth <= dropped_depth:
            dropping = False
        if not dropping:
            lines.append(line)
    text = "".join(lines)
    if DROPPED in text or len(lines) == 0:
        raise RuntimeError(f"train.yaml still names {DROPPED}")
    for example, peer in PEER_TREES.items():
        if text.count(example) != 1:
            raise RuntimeError(f"train.yaml has no line {example.strip()!r}: adapt PEER_TREES")
        text = text.replace(example, peer)
    (job / "train.yaml").write_text(text)
    return job


def sql(tidemill, warehouse, statement):
    """The rows of a statement, as dictionaries of text."""
    options = ["--warehouse", warehouse, "sql", "--format", "csv", "-c", statement]
    output, _, _ = harness.measured([tidemill, *options])
    return list(csv.DictReader(io.StringIO(output)))


def write_folds(tidemill, job, scratch):
    """Deals the days of the year to folds as the training job does; a CSV of ds,fold."""
    text = (job / "train.yaml").read_text()
    seed = re.search(r"^  seed: (\d+)", text, re.MULTILINE)[1]
    k = re.search(r"folds: \{ k: (\d+), by: ds \}", text)[1]
    path = scratch / "folds.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["ds", "fold"])
        writer.writeheader()
        writer.writerows(deal_folds(tidemill, k, seed, scratch))
    return path


def deal_folds(tidemill, k, seed, scratch):
    """The fold of each day of the year, as our jobs deal them."""
    days = "unnest(generate_series(date '2013-01-01', date '2013-12-31', interval '1' day))"
    fold = f"cast(fold_hash(ds, {seed}) % cast({k} as bigint unsigned) as int)"
    statement = f"select ds, {fold} as fold from (select cast({days} as date) as ds)"
    return sql(tidemill, scratch / "nothing", statement)


def run_ours(tidemill, job, warehouse, scratch):
    """Trains and scores; seconds, peak memory, areas under ROC and rows scored by day."""
    shutil.rmtree(warehouse, ignore_errors=True)
    common = [tidemill, "--json", "--warehouse", warehouse, "run"]
    days = ["--param", f"ds={FIRST}", "--param", f"to={LAST}"]
    seconds, memory, records = {}, [], {}
    for name, options in {"train": [], "score": days}.items():
        harness.say(f"flights: ours, {name}")
        command = [*common, job / f"{name}.yaml", *options]
        output, seconds[name], peak = harness.measured(command, cwd=scratch)
        memory.append(peak)
        events = [json.loads(line) for line in output.splitlines()]
        records[name] = next(e["record"] for e in events if e.get("event") == "record")
    statement = "select ds, count(*) as n from scored_flights group by ds"
    rows = {row["ds"]: int(row["n"]) for row in sql(tidemill, warehouse, statement)}
    train = records["train"]["train"]
    steps = [*records["train"]["steps"], *records["score"]["steps"]]
    return {
        "seconds": sum(seconds.values()),
        "parts": seconds,
        "steps": [{step["step"]: round(step["seconds"], 2)} for step in steps],
        "peak_mib": max(memory),
        "areas": {name: train["holdout_by_estimator"].get(name) for name in ESTIMATORS},
        "best": best_of(train["candidates"]),
        "rows": rows,
    }


def best_of(candidates):
    """The best candidate of each estimator in the folds, with its mean."""
    best = {}
    for candidate in candidates:
        name, mean = candidate["estimator"], candidate["mean"]
        if mean is not None and (name not in best or mean > best[name]["mean_auc"]):
            best[name] = {**candidate["params"], "mean_auc": mean}
    return best


def run_spark(folds, out, cores):
    """Runs the peer's script; the same figures."""
    harness.say("flights: Spark")
    script = harness.BENCHES / "peers" / "flights_pyspark.py"
    options = ["--data", harness.FLIGHTS / "data", "--folds", folds, "--out", out, "--cores", cores]
    output, _, memory = harness.measured([sys.executable, script, *options])
    report = json.loads(output)
    days = dataset.dataset(out / "scores", partitioning="hive").to_table(columns=["ds"])
    counts = days["ds"].value_counts().to_pylist()
    models = report["models"]
    return {
        "seconds": report["seconds"]["total"],
        "steps": report["seconds"],
        "peak_mib": memory,
        "areas": {ours: models[theirs]["holdout_auc"] for ours, theirs in ESTIMATORS.items()},
        "best": {
            ours: {
                **models[theirs]["best"],
                "mean_auc": max(c["mean_auc"] for c in models[theirs]["candidates"]),
            }
            for ours, theirs in ESTIMATORS.items()
        },
        "rows": {str(count["values"])[:10]: count["counts"] for count in counts},
    }


def figures(runs):
    """The medians of several runs, and what does not vary from the last."""
    last = runs[-1]
    median = {
        name: round(statistics.median(run[name] for run in runs), 2)
        for name in ("seconds", "peak_mib")
    }
    return {**last, **median, "rows": sum(last["rows"].values())}


def verdict(ours, spark):
    """What must hold, and whether it does."""
    areas = {
        name: ours["areas"][name] is not None
        and ours["areas"][name] >= spark["areas"][name] - MARGIN
        for name in ESTIMATORS
    }
    return {
        "areas_within_margin": areas,
        "same_rows_each_day": ours["rows"] == spark["rows"],
        "within_share_of_time": ours["seconds"] <= SHARE * spark["seconds"],
    }


def run_all(tidemill, args, scratch):
    """Both in turn, as often as asked; the report."""
    job = copy_job(scratch)
    folds = write_folds(tidemill, job, scratch)
    ours, spark = [], []
    for _ in range(args.runs):
        ours.append(run_ours(tidemill, job, scratch / "warehouse", scratch))
        if not args.ours_only:
            spark.append(run_spark(folds, scratch / "spark", args.cores))
    report = {"suite": "flights", "profile": args.profile, "cores": args.cores, "runs": args.runs}
    report["ours"] = figures(ours)
    if spark:
        report["spark"] = figures(spark)
        report["spark_to_ours"] = {
            name: round(report["spark"][name] / report["ours"][name], 2)
            for name in ("seconds", "peak_mib")
        }
        report["holds"] = verdict(ours[-1], spark[-1])
    return report


def main():
    """Runs the suite; ends with 1 when outputs differ or a release build takes too long."""
    args = arguments()
    tidemill = harness.binaries(args) / "tidemill"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = (args.keep or Path(scratch)).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        report = run_all(tidemill, args, scratch)
    harness.print_report(report)
    holds = report.get("holds", {})
    areas = holds.get("areas_within_margin", {})
    good = holds.get("same_rows_each_day", True) and all(areas.values())
    slow = args.profile != "dev" and not holds.get("within_share_of_time", True)
    sys.exit(0 if good and not slow else 1)


if __name__ == "__main__":
    main()
