"""The peer of the training suite's spark_trees part: GBTClassifier on PySpark.

Reads Parquet files of numbers and a label, fits on one and scores the other. Prints one line of
JSON with the seconds of the fit alone, from vectors in memory on, and the area under ROC.
"""

import argparse
import json
import time
from pathlib import Path

from flights_pyspark import session
from pyspark.ml.classification import GBTClassifier
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import VectorAssembler


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True, help="the Parquet file to train on")
    parser.add_argument("--test", type=Path, required=True, help="the Parquet file to score")
    parser.add_argument("--trees", type=int, required=True)
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument("--cores", type=int, default=2, help="cores of the local master (2)")
    parser.add_argument("--memory", default="6g", help="heap of the JVM (6g)")
    return parser.parse_args()


def main():
    """Fits, scores and prints the line."""
    args = arguments()
    spark = session(args.cores, args.memory)
    spark.sparkContext.setLogLevel("ERROR")

    def vectors(path):
        rows = spark.read.parquet(str(path))
        names = [name for name in rows.columns if name != "label"]
        rows = VectorAssembler(inputCols=names, outputCol="features").transform(rows)
        return rows.select("label", "features").repartition(args.cores).cache()

    train = vectors(args.train)
    train.count()
    start = time.perf_counter()
    model = GBTClassifier(maxIter=args.trees, maxDepth=args.depth, stepSize=0.1, seed=0).fit(train)
    seconds = time.perf_counter() - start
    area = BinaryClassificationEvaluator(numBins=0).evaluate(model.transform(vectors(args.test)))
    print(json.dumps({"seconds": seconds, "area": area}))


if __name__ == "__main__":
    main()
