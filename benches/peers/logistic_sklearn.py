"""The peer of the training suite's logistic part: GridSearchCV over a whole pipeline of scikit-learn.

Reads the feature rows of flights with a column `fold`, chooses among elastic net logistic
regressions by area under ROC over the folds and fits the best on all rows. Prints one line of JSON
with the seconds from opening the file on and each candidate's area.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="the Parquet file")
    parser.add_argument("--numbers", nargs="+", required=True)
    parser.add_argument("--categories", nargs="+", required=True)
    parser.add_argument("--reg-param", type=float, nargs="+", required=True)
    parser.add_argument("--elastic-net-param", type=float, nargs="+", required=True)
    parser.add_argument("--jobs", type=int, default=2, help="processes of the search (2)")
    return parser.parse_args()


def codes(column):
    """The texts' numbers; null is one of its own."""
    return pc.dictionary_encode(column, null_encoding="encode").combine_chunks().indices.to_numpy()


def grid(args, n_rows):
    """Points with the solver for them; scikit-learn's penalty is divided by the rows, two thirds of all."""
    strengths = [1 / (reg * n_rows * 2 / 3) for reg in args.reg_param]
    name = "logisticregression__"
    smooth = [ratio for ratio in args.elastic_net_param if ratio == 0]
    sparse = [ratio for ratio in args.elastic_net_param if ratio > 0]
    return [
        {f"{name}C": strengths, f"{name}l1_ratio": ratios, f"{name}solver": [solver]}
        for ratios, solver in [(smooth, "lbfgs"), (sparse, "saga")]
        if ratios
    ]


def main():
    """Cross-validates and prints the line."""
    args = arguments()
    # Neither is at its optimum after 100 steps for each point; areas do not change by then.
    warnings.simplefilter("ignore", ConvergenceWarning)
    start = time.perf_counter()
    table = pq.read_table(args.rows)
    numbers = [table[name].to_numpy().astype(np.float64) for name in args.numbers]
    x = np.column_stack([*numbers, *(codes(table[name]) for name in args.categories)])
    places = list(range(x.shape[1]))
    columns = ColumnTransformer(
        [
            ("numbers", SimpleImputer(), places[: len(numbers)]),
            ("categories", OneHotEncoder(handle_unknown="ignore"), places[len(numbers) :]),
        ]
    )
    pipeline = make_pipeline(columns, StandardScaler(with_mean=False), LogisticRegression(max_iter=100))
    split = PredefinedSplit(table["fold"].to_numpy())
    search = GridSearchCV(pipeline, grid(args, len(table)), scoring="roc_auc", cv=split, n_jobs=args.jobs)
    search.fit(x, table["late"].to_numpy())
    seconds = time.perf_counter() - start
    found = search.cv_results_
    candidates = [
        {
            "reg_param": 1 / (point["logisticregression__C"] * len(table) * 2 / 3),
            "elastic_net_param": point["logisticregression__l1_ratio"],
            "area": float(area),
        }
        for point, area in zip(found["params"], found["mean_test_score"])
    ]
    print(json.dumps({"seconds": seconds, "candidates": candidates}))


if __name__ == "__main__":
    main()
