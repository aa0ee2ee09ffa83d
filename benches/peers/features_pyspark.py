"""The peer of the features suite: stages over one Parquet file on PySpark.

Reads the list of stages that ours reads, fits the same ones of Spark ML and, with --write, writes
the key and the vector `features` as Parquet; the labels of string indexers go to labels.json.
Prints one line of JSON with the seconds from opening the file on, without the start of the JVM.
"""

import argparse
import json
import time
from pathlib import Path

from pyspark.ml import Pipeline
from pyspark.ml.feature import (
    Imputer,
    OneHotEncoder,
    StandardScaler,
    StringIndexer,
    VectorAssembler,
)
from pyspark.sql import SparkSession

KEY = "row"


def session(cores, memory):
    """A local Spark session."""
    return (
        SparkSession.builder.master(f"local[{cores}]")
        .appName("tidemill-peer-features")
        .config("spark.driver.memory", memory)
        .config("spark.sql.shuffle.partitions", str(cores * 2))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )


class Stages:
    """Spark's stages for ours, which work in place: each column's newest name is kept."""

    def __init__(self):
        self.stages = []
        self._names = {}

    def add(self, name, params):
        """Adds the stage of a name."""
        inputs = [self._names.get(column, column) for column in params["inputs"]]
        if name == "standard_scaler":
            self._scale(inputs, params)
        elif name == "vector_assembler":
            # Columns that were scaled together are one vector by now, at the place of the first.
            inputs = list(dict.fromkeys(inputs))
            self.stages.append(VectorAssembler(inputCols=inputs, outputCol="features"))
        else:
            self._map(name, inputs, params)

    def _map(self, name, inputs, params):
        """A stage from columns to as many others."""
        outputs = [f"{column}_{name}" for column in params["inputs"]]
        columns = {"inputCols": inputs, "outputCols": outputs}
        if name == "imputer":
            stage = Imputer(**columns, strategy=params["strategy"])
        else:
            kinds = {"string_indexer": StringIndexer, "one_hot_encoder": OneHotEncoder}
            stage = kinds[name](**columns, handleInvalid=params.get("handle_invalid", "error"))
        self.stages.append(stage)
        self._names.update(zip(params["inputs"], outputs))

    def _scale(self, inputs, params):
        """Spark scales vectors: one of all columns."""
        scaler = StandardScaler(
            inputCol="unscaled", outputCol="scaled", withMean=params["with_mean"]
        )
        self.stages += [VectorAssembler(inputCols=inputs, outputCol="unscaled"), scaler]
        self._names.update({column: "scaled" for column in params["inputs"]})


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="the Parquet file")
    parser.add_argument("--stages", type=Path, required=True, help="the stages as JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--write", action="store_true", help="transform and write the rows")
    parser.add_argument("--cores", type=int, default=2, help="cores of the local master (2)")
    parser.add_argument("--memory", default="8g", help="heap of the JVM (8g)")
    return parser.parse_args()


def main():
    """Fits, writes and prints the line."""
    args = arguments()
    args.out.mkdir(parents=True)
    spark = session(args.cores, args.memory)
    spark.sparkContext.setLogLevel("ERROR")
    stages = Stages()
    for stage in json.loads(args.stages.read_text()):
        for name, params in stage.items():
            stages.add(name, params)

    start = time.perf_counter()
    rows = spark.read.parquet(str(args.rows))
    model = Pipeline(stages=stages.stages).fit(rows)
    fitted = time.perf_counter() - start
    if args.write:
        transformed = model.transform(rows).select(KEY, "features")
        transformed.write.parquet(str(args.out / "features"))
    seconds = time.perf_counter() - start

    indexers = [stage.labelsArray for stage in model.stages if hasattr(stage, "labelsArray")]
    labels = [list(found) for indexer in indexers for found in indexer]
    (args.out / "labels.json").write_text(json.dumps(labels))
    print(json.dumps({"fit": fitted, "write": seconds - fitted, "seconds": seconds}))


if __name__ == "__main__":
    main()
