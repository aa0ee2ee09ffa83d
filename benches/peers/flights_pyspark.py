"""The flights job on PySpark: features, model selection, hold-out and scoring.

The same job as Tidemill's flights example without its perceptron: read flights, weather and
planes, build the features in SQL, choose among 12 elastic net logistic regressions and 8
gradient-boosted tree models by area under ROC over 3 folds of whole days (January to October),
refit the best of each, measure both on November and December, and score every flight of these
months into Parquet partitioned by day. Prints one JSON report; progress goes to stderr.

    python flights_pyspark.py --data ../../examples/flights/data --out /tmp/flights-spark
"""

import argparse
import itertools
import json
import sys
import time
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path

from flight_columns import CATEGORIES, KEY, NUMBERS
from pyspark.ml import Pipeline
from pyspark.ml.classification import GBTClassifier, LogisticRegression
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import (
    Imputer,
    OneHotEncoder,
    StandardScaler,
    StringIndexer,
    VectorAssembler,
)
from pyspark.ml.functions import vector_to_array
from pyspark.sql import SparkSession, functions as F

FOLDS = 3
# Fold of a day: the high half of a 32-bit multiplicative hash of its days since the epoch.
# Whole days share a fold, and the integers stay below 2^63 in any engine.
FOLD = f"CAST(unix_date(ds) * 2654435761L % 4294967296L DIV 65536L % {FOLDS} AS INT)"

# 12 and 8 points; --quick tries 2 and 2.
LR_GRID = {
    "regParam": [0.0001, 0.001, 0.01, 0.1],
    "elasticNetParam": [0.0, 0.5, 1.0],
}
GBT_GRID = {"maxDepth": [4, 6], "maxIter": [20, 50], "stepSize": [0.1, 0.2]}
QUICK_LR_GRID = {"regParam": [0.001, 0.1], "elasticNetParam": [0.5]}
QUICK_GBT_GRID = {"maxDepth": [2], "maxIter": [2], "stepSize": [0.1, 0.2]}


class Steps:
    """Wall-clock seconds of each named step."""

    def __init__(self):
        self.seconds = {}

    @contextmanager
    def __call__(self, name):
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)
        print(f"{name}: {self.seconds[name]} s", file=sys.stderr)


def session(cores, memory):
    """A local Spark session; UTC, so that days and hours read as the data have them."""
    return (
        SparkSession.builder.master(f"local[{cores}]")
        .appName("tidemill-peer-flights")
        .config("spark.driver.memory", memory)
        .config("spark.sql.shuffle.partitions", str(cores * 2))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )


def build_features(spark, data, sql, out, folds):
    """Runs the features SQL, keeps the result and reads it back with a fold for each day."""
    for table in ("flights", "weather", "planes"):
        spark.read.parquet(str(data / f"{table}.parquet")).createOrReplaceTempView(table)
    path = str(out / "features")
    spark.sql(sql).write.mode("overwrite").parquet(path)
    doubles = {name: F.col(name).cast("double") for name in [*NUMBERS, "late"]}
    rows = spark.read.parquet(path).withColumns(doubles)
    if folds is None:
        return rows.withColumn("fold", F.expr(FOLD))
    dealt = spark.read.csv(str(folds), schema="ds date, fold int", header=True)
    return rows.join(F.broadcast(dealt), "ds")


def preparation():
    """From columns to the vector `features`; a null or unseen category is one of its own."""
    imputed = [f"{name}_imputed" for name in NUMBERS]
    indexed = [f"{name}_index" for name in CATEGORIES]
    encoded = [f"{name}_onehot" for name in CATEGORIES]
    return Pipeline(
        stages=[
            Imputer(inputCols=NUMBERS, outputCols=imputed),
            StringIndexer(inputCols=CATEGORIES, outputCols=indexed, handleInvalid="keep"),
            OneHotEncoder(inputCols=indexed, outputCols=encoded),
            VectorAssembler(inputCols=imputed + encoded, outputCol="assembled"),
            StandardScaler(inputCol="assembled", outputCol="features"),
        ]
    )


def prepared(prepare, rows, partitions):
    """The rows as the models read them, held in memory."""
    vectors = prepare.transform(rows).select("late", "features")
    vectors = vectors.repartition(partitions).cache()
    vectors.count()
    return vectors


def grid_points(grid):
    """Every combination of the grid's values, as dictionaries."""
    return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]


def cross_validate(models, train, evaluator, partitions, parallelism, step):
    """Mean area under ROC over the folds of each model's candidates.

    The preparation is fitted on the training rows of each fold, once for all candidates
    (CrossValidator over a whole Pipeline would fit it anew for each).
    """
    areas = {name: [[] for _ in grid_points(grid)] for name, (_, grid) in models.items()}
    for fold in range(FOLDS):
        with step(f"fold {fold} preparation"):
            inside = train.where(F.col("fold") != fold)
            prepare = preparation().fit(inside)
            fitting = prepared(prepare, inside, partitions)
            checking = prepared(prepare, train.where(F.col("fold") == fold), partitions)
        for name, (estimator, grid) in models.items():

            def area(point, estimator=estimator):
                model = estimator.copy(as_params(estimator, point)).fit(fitting)
                return evaluator.evaluate(model.transform(checking))

            with step(f"fold {fold} {name}"), ThreadPool(parallelism) as pool:
                for found, value in zip(areas[name], pool.map(area, grid_points(grid), 1)):
                    found.append(value)
        fitting.unpersist()
        checking.unpersist()
    return {name: [sum(found) / FOLDS for found in areas[name]] for name in areas}


def as_params(estimator, point):
    """A point of a grid as the estimator's parameter map."""
    return {estimator.getParam(name): value for name, value in point.items()}


def write_scores(prepare, best, rows, path):
    """Scores all rows with both models into Parquet, one folder per day."""
    scores = prepare.transform(rows)
    for name, model in best.items():
        # The models' output columns carry the same names: keep the probability, drop the rest.
        scores = (
            model.transform(scores)
            .withColumn(f"{name}_score", vector_to_array("probability")[1])
            .drop("rawPrediction", "probability", "prediction")
        )
    columns = [*KEY, *(f"{name}_score" for name in best), "ds"]
    scores.select(columns).repartition("ds").write.mode("overwrite").partitionBy("ds").parquet(path)


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parent
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of flights, weather and planes.parquet"
    )
    parser.add_argument(
        "--features",
        type=Path,
        default=here / "features_spark.sql",
        help="features query in Spark's dialect (default: features_spark.sql beside this file)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for features and scores; overwritten"
    )
    parser.add_argument(
        "--folds", type=Path, help="CSV of ds,fold: each day's fold (default: by a hash of the day)"
    )
    parser.add_argument("--cores", type=int, default=2, help="cores of the local master (2)")
    parser.add_argument("--memory", default="6g", help="heap of the JVM (6g)")
    parser.add_argument("--parallelism", type=int, default=2, help="candidates fitted at once (2)")
    parser.add_argument("--quick", action="store_true", help="tiny grids, to see that it runs")
    parser.add_argument("--features-only", action="store_true", help="end after the features")
    return parser.parse_args()


def main():
    """Runs the job and prints its report."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    step = Steps()
    start = time.perf_counter()
    with step("session"):
        spark = session(args.cores, args.memory)
        spark.sparkContext.setLogLevel("ERROR")
    with step("features"):
        rows = build_features(spark, args.data, args.features.read_text(), args.out, args.folds)
    if args.features_only:
        return
    train = rows.where("month <= 10 AND late IS NOT NULL")
    holdout = rows.where("month > 10")

    evaluator = BinaryClassificationEvaluator(labelCol="late", numBins=0)  # exact area
    models = {
        "lr": (
            # StandardScaler has scaled the features already.
            LogisticRegression(labelCol="late", standardization=False),
            QUICK_LR_GRID if args.quick else LR_GRID,
        ),
        "gbt": (
            GBTClassifier(labelCol="late", seed=0),
            QUICK_GBT_GRID if args.quick else GBT_GRID,
        ),
    }
    means = cross_validate(models, train, evaluator, args.cores, args.parallelism, step)

    with step("refit preparation"):
        prepare = preparation().fit(train)
        fitting = prepared(prepare, train, args.cores)
        checking = prepared(prepare, holdout.where("late IS NOT NULL"), args.cores)
    best, report = {}, {}
    for name, (estimator, grid) in models.items():
        points = grid_points(grid)
        chosen = max(range(len(points)), key=means[name].__getitem__)
        with step(f"refit {name}"):
            best[name] = estimator.copy(as_params(estimator, points[chosen])).fit(fitting)
            area = evaluator.evaluate(best[name].transform(checking))
        report[name] = {
            "best": points[chosen],
            "holdout_auc": area,
            "candidates": [
                {**point, "mean_auc": mean} for point, mean in zip(points, means[name])
            ],
        }
    with step("scores"):
        path = str(args.out / "scores")
        write_scores(prepare, best, holdout, path)
    total = time.perf_counter() - start
    counts = {
        "features": rows.count(),
        "train": train.count(),
        "folds": {r["fold"]: r["count"] for r in train.groupBy("fold").count().collect()},
        "scored": spark.read.parquet(path).count(),
    }
    spark_version = spark.version
    spark.stop()

    json.dump(
        {
            "spark": spark_version,
            "cores": args.cores,
            "quick": args.quick,
            "rows": counts,
            "models": report,
            "seconds": {**step.seconds, "total": round(total, 2)},
        },
        sys.stdout,
        indent=2,
    )
    print()


if __name__ == "__main__":
    main()
