"""The data of the training suites, made once into a cache folder: by seed, or of the flights."""

import shutil
import subprocess
import sys

import harness
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from peers.flight_columns import CATEGORIES, KEY, NUMBERS

CACHE = harness.cache("training")
TEST_ROWS = 200_000


def higgs_like(cache, rows, is_number=False):
    """Two Parquet files, to train on and to test: 21 measured numbers, 7 computed of them, a noisy label: 0 and 1, or a
    skewed number."""
    folder = cache / f"higgs-{'numbers-' if is_number else ''}{rows}"
    if not folder.exists():
        harness.say(f"training: making {rows} rows")
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        for seed, (name, n) in enumerate([("train", rows), ("test", TEST_ROWS)]):
            pq.write_table(higgs_rows(np.random.default_rng(seed), n, is_number), partial / f"{name}.parquet")
        partial.rename(folder)
    return folder / "train.parquet", folder / "test.parquet"


def higgs_rows(random, n, is_number):
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
    is_signal = random.uniform(size=n) < 1 / (1 + np.exp(-1.5 * margin))
    columns = np.concatenate([momenta, angles, tags, measured], 1)
    number = 10 * margin + random.gumbel(0, 5, n)
    label = number if is_number else is_signal.astype(np.int64)
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


def wide(cache, rows, features):
    """Two Parquet files of so many numbers, of which a tenth matter, and a label."""
    folder = cache / f"wide-{rows}x{features}"
    if not folder.exists():
        harness.say(f"training: making {rows} rows of {features} numbers")
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        for seed, (name, n) in enumerate([("train", rows), ("test", 1000)]):
            random = np.random.default_rng(seed)
            columns = [random.normal(size=n).astype(np.float32).astype(np.float64) for _ in range(features)]
            matter = max(features // 10, 2)
            margin = sum(columns[:matter]) / np.sqrt(matter) + columns[0] * columns[1]
            label = (random.uniform(size=n) < 1 / (1 + np.exp(-2 * margin))).astype(np.int64)
            names = [f"x{i}" for i in range(features)]
            pq.write_table(pa.table([label, *columns], names=["label", *names]), partial / f"{name}.parquet")
        partial.rename(folder)
    return folder / "train.parquet", folder / "test.parquet"


def flight_rows(cache, rows=None):
    """The feature rows of the flights with an outcome, in the order of their key; with `rows` about as many, of spans of five
    days spread over the year. The query is that of peers/features_spark.sql, run by Spark."""
    path = cache / "flights.parquet"
    if not path.exists():
        out = cache / "flights.partial"
        out.mkdir(parents=True, exist_ok=True)
        script = harness.BENCHES / "peers" / "flights_pyspark.py"
        options = ["--data", harness.FLIGHTS / "data", "--out", out, "--features-only"]
        subprocess.run([sys.executable, str(script), *map(str, options)], check=True)
        names = ["ds", "flight", "time_hour", *CATEGORIES, *NUMBERS, "arr_delay", "late"]
        # Without Spark's own metadata, by which it would not see further columns.
        table = pq.read_table(out / "features").select(names).replace_schema_metadata(None)
        table = table.filter(pc.is_valid(table["late"])).sort_by([(name, "ascending") for name in KEY])
        for name in [*NUMBERS, "arr_delay"]:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.float64()))
        pq.write_table(table, path)
        shutil.rmtree(out)
    table = pq.read_table(path)
    if rows is None or rows >= len(table):
        return table
    every = -(-len(table) // rows)
    return table.filter(pa.array(day_numbers(table) // 5 % every == 0))


def day_numbers(table):
    """Days since the epoch of each row."""
    return table["ds"].cast(pa.date32()).cast(pa.int32()).to_numpy()


def flight_files(folder, table, label):
    """Two Parquet files, to train on and to test (every fifth day), of numbers and of categories as indices."""
    columns = {"label": table[label].cast(pa.float64())}
    columns |= {name: table[name] for name in NUMBERS}
    for name in CATEGORIES:
        columns[name] = pc.dictionary_encode(table[name]).combine_chunks().indices.cast(pa.int32())
    coded = pa.table(columns)
    is_test = pa.array(day_numbers(table) % 5 == 0)
    paths = folder / f"{label}-train.parquet", folder / f"{label}-test.parquet"
    pq.write_table(coded.filter(pc.invert(is_test)), paths[0])
    pq.write_table(coded.filter(is_test), paths[1])
    return paths
