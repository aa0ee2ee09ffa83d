"""The peer of the features suite's criteo part: the same transforms as Polars expressions.

Numbers become log(1 + x), nulls and negative ones 0, then less their mean and over their standard
deviation; some categories become their share of the rows, the others a bucket by Polars' own hash.
Reads Parquet, writes the matrix as one Arrow file in the order of the rows. Prints one line of JSON
with the seconds from opening the file on.
"""

import argparse
import json
import time
from pathlib import Path

import polars as pl


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="the Parquet file")
    parser.add_argument("--numbers", nargs="+", required=True, help="to normalise")
    parser.add_argument("--frequent", nargs="+", required=True, help="to encode by frequency")
    parser.add_argument("--hashed", nargs="+", required=True, help="to hash")
    parser.add_argument("--buckets", type=int, required=True, help="buckets of each hash")
    parser.add_argument("--out", type=Path, required=True, help="folder for matrix.arrow")
    return parser.parse_args()


def logarithm(name):
    """log(1 + x), where null and negative count as 0."""
    return pl.col(name).fill_null(0).clip(0).cast(pl.Float64).log1p()


def fitted(rows, args):
    """The statistics of all columns in one pass."""
    means = [logarithm(name).mean().alias(f"{name}_mean") for name in args.numbers]
    deviations = [logarithm(name).std().alias(f"{name}_std") for name in args.numbers]
    counts = [pl.col(name).value_counts().implode() for name in args.frequent]
    statistics = rows.select(pl.len().alias("n"), *means, *deviations, *counts)
    return statistics.collect(engine="streaming")


def features(found, args):
    """The expressions of the matrix's columns."""
    n = found["n"][0]

    def scaled(name):
        return (logarithm(name) - found[f"{name}_mean"][0]) / found[f"{name}_std"][0]

    def share(name):
        counts = found[name][0].struct.unnest()
        shares = counts["count"].cast(pl.Float64) / n
        return pl.col(name).replace_strict(counts[name], shares, return_dtype=pl.Float64)

    def bucket(seed, name):
        return (pl.col(name).hash(seed) % args.buckets).cast(pl.Float64)

    numbers = [scaled(name).alias(name) for name in args.numbers]
    shares = [share(name).alias(name) for name in args.frequent]
    buckets = [bucket(seed, name).alias(name) for seed, name in enumerate(args.hashed)]
    return [*numbers, *shares, *buckets]


def main():
    """Fits, writes and prints the line."""
    args = arguments()
    args.out.mkdir(parents=True)
    start = time.perf_counter()
    rows = pl.scan_parquet(args.rows)
    found = fitted(rows, args)
    fit = time.perf_counter() - start
    matrix = rows.select("row", "label", *features(found, args))
    matrix.sink_ipc(args.out / "matrix.arrow", engine="streaming")
    seconds = time.perf_counter() - start
    print(json.dumps({"fit": fit, "write": seconds - fit, "seconds": seconds}))


if __name__ == "__main__":
    main()
