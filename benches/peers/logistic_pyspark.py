"""The peer of the training suite's logistic part: CrossValidator over a whole pipeline on PySpark.

Reads the feature rows of flights with a column `fold`, chooses among elastic net logistic
regressions by area under ROC over the folds and fits the best on all rows. Prints one line of JSON
with the seconds from opening the file on, without the start of the JVM, and each candidate's area.
"""

import argparse
import json
import time
from pathlib import Path

from flight_columns import NUMBERS
from flights_pyspark import preparation, session
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import functions as F


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="the Parquet file")
    parser.add_argument("--reg-param", type=float, nargs="+", required=True)
    parser.add_argument("--elastic-net-param", type=float, nargs="+", required=True)
    parser.add_argument("--folds", type=int, required=True, help="how many folds there are")
    parser.add_argument("--cores", type=int, default=2, help="cores of the local master (2)")
    parser.add_argument("--memory", default="6g", help="heap of the JVM (6g)")
    return parser.parse_args()


def main():
    """Cross-validates and prints the line."""
    args = arguments()
    spark = session(args.cores, args.memory)
    spark.sparkContext.setLogLevel("ERROR")
    start = time.perf_counter()
    rows = spark.read.parquet(str(args.rows))
    rows = rows.withColumns({name: F.col(name).cast("double") for name in [*NUMBERS, "late"]})
    # The preparation has scaled the features already.
    regression = LogisticRegression(labelCol="late", standardization=False)
    grid = ParamGridBuilder().addGrid(regression.regParam, args.reg_param)
    grid = grid.addGrid(regression.elasticNetParam, args.elastic_net_param).build()
    validator = CrossValidator(
        estimator=Pipeline(stages=[preparation(), regression]),
        estimatorParamMaps=grid,
        evaluator=BinaryClassificationEvaluator(labelCol="late", numBins=0),  # exact area
        numFolds=args.folds,
        foldCol="fold",
        parallelism=args.cores,
    )
    model = validator.fit(rows)
    seconds = time.perf_counter() - start
    candidates = [
        {
            "reg_param": point[regression.regParam],
            "elastic_net_param": point[regression.elasticNetParam],
            "area": area,
        }
        for point, area in zip(grid, model.avgMetrics)
    ]
    print(json.dumps({"seconds": seconds, "candidates": candidates}))


if __name__ == "__main__":
    main()
