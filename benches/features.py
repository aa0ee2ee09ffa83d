"""Feature stages from Parquet to Parquet, to labels and to a training matrix, against the peers.

Three parts, each ours and the peer in turn over the same files and with the same cores:

* flights: fit and transform of the flights example's stages, its rows repeated, against PySpark.
  The vectors must be the same within 1e-9 of each column's magnitude.
* indexers: the fit of 300 string indexers, against PySpark. The labels must be the same.
* criteo: numbers and categories like those of Criteo's click logs, logarithms, normalised,
  frequency-encoded and hashed, to the matrix that a grid trains on, against Polars expressions.

Data are made once, by seed and in chunks, into a cache folder. Every engine's seconds are its own
count from opening the file on: they leave out starting Python, the JVM and our process.

    python benches/features.py
    python benches/features.py --repeat 1 --indexer-rows 20000 --criteo-rows 100000  # quick
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import harness
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as dataset
import pyarrow.parquet as pq

PARTS = ["flights", "indexers", "criteo"]
# The share of Spark's time that ours may take, and the rows a second and core of the criteo part.
SPARK_SHARES = {"flights": 1 / 10, "indexers": 1 / 20}
CRITEO_ROWS_PER_CORE_SECOND = 500_000
# Two engines' numbers agree to this, relative to the largest magnitude of their column.
TOLERANCE = 1e-9
# One row in so many of the flights is compared.
SAMPLED = 1024

# The example's views: keys, when a row is known, and how old it may be.
VIEWS = {
    "weather": (["origin"], "cast(weather.observed_at as timestamp) + interval '1 hour'", "71 hours"),
    "carrier_delays": (["carrier"], "carrier_delays.first_cutoff", "1 day"),
    "route_delays": (["origin", "dest"], "route_delays.first_cutoff", "1 day"),
    "origin_delays": (["origin"], "origin_delays.first_cutoff", "1 day"),
}
CATEGORIES = ["carrier", "origin", "dest", "engine", "manufacturer"]
# Those of examples/flights/train.yaml that its imputer fills, and those that it only scales.
IMPUTED = [
    *["plane_age", "seats", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"],
    *["precip", "pressure", "visib", "carrier_late_7d", "route_late_28d", "origin_late_1d"],
]
NUMBERS = [
    *["month", "weekday", "hour", "dep_minute", "arr_minute", "clock_minutes", "distance"],
    *["origin_departures", *IMPUTED],
]
FLIGHTS_STAGES = [
    {"imputer": {"strategy": "mean", "inputs": IMPUTED}},
    {"string_indexer": {"inputs": CATEGORIES, "handle_invalid": "keep"}},
    {"one_hot_encoder": {"inputs": CATEGORIES, "handle_invalid": "keep"}},
    {"standard_scaler": {"with_mean": True, "inputs": NUMBERS}},
    {"vector_assembler": {"inputs": [*NUMBERS, *CATEGORIES]}},
]

# Columns of the criteo part: numbers, categories to encode by frequency and categories to hash.
COUNTS = [f"i{i}" for i in range(1, 14)]
FREQUENT = [f"c{i}" for i in range(1, 14)]
HASHED = [f"c{i}" for i in range(14, 27)]
BUCKETS = 1 << 18
CHUNK_ROWS = 250_000


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_build_options(parser)
    cache = harness.cache("features")
    parser.add_argument("--part", choices=PARTS, action="append", help="one part; all by default")
    parser.add_argument("--repeat", type=int, default=30, help="times the flights come (30)")
    parser.add_argument("--indexers", type=int, default=300, help="string indexers (300)")
    parser.add_argument("--indexer-rows", type=int, default=1_000_000, help="rows (1 million)")
    parser.add_argument("--criteo-rows", type=int, default=10_000_000, help="rows (10 million)")
    parser.add_argument("--cache", type=Path, default=cache, help="folder of the data")
    parser.add_argument("--runs", type=int, default=1, help="runs of each, in turn; medians (1)")
    parser.add_argument("--memory", default="8g", help="heap of Spark's JVM (8g)")
    parser.add_argument("--ours-only", action="store_true", help="leave the peers out")
    return parser.parse_args()


def cached(path, make):
    """A file of the cache, made once by `make(partial path)`."""
    if not path.exists():
        harness.say(f"features: making {path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        make(partial)
        partial.rename(path)
    return path


# What the parts run on.


def flights_rows(args, programs):
    """The flights example's features with a row number, all numbers as doubles, repeated."""

    def make(path):
        table = flights_features(programs)
        schema = pa.schema([("row", pa.int64()), *zip(table.column_names, table.schema.types)])
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(0, args.repeat * table.num_rows, table.num_rows):
                numbers = pa.array(range(start, start + table.num_rows), pa.int64())
                writer.write_table(table.add_column(0, "row", numbers).cast(schema))

    return cached(args.cache / f"flights-{args.repeat}.parquet", make)


def flights_features(programs):
    """The rows of the example's feature query, numbers as doubles."""
    with tempfile.TemporaryDirectory() as scratch:
        queries = Path(scratch) / "queries"
        queries.mkdir()
        (queries / "features.sql").write_text(flights_query())
        folders = {"tables": harness.FLIGHTS / "data", "queries": queries}
        lines = harness.time_queries([programs / "time_queries"], folders, scratch, 0, 1)
        if "error" in lines["features"]:
            raise RuntimeError(lines["features"]["error"])
        with pa.OSFile(f"{scratch}/features.arrow") as source:
            table = pa.ipc.open_file(source).read_all().select([*NUMBERS, *CATEGORIES])
    types = [pa.float64()] * len(NUMBERS) + [pa.string()] * len(CATEGORIES)
    return table.cast(pa.schema(list(zip(table.column_names, types))))


def flights_query():
    """The example's feature query with its views joined as of each flight's cut-off."""
    sql = {name: (harness.FLIGHTS / "views" / f"{name}.sql").read_text() for name in VIEWS}
    joins = [
        f"asof join ({sql[name]}) as {name} match_condition (f.cutoff >= {known}) "
        f"on {' and '.join(f'f.{key} = {name}.{key}' for key in keys)} tolerance interval '{age}'"
        for name, (keys, known, age) in VIEWS.items()
    ]
    columns = [f"f.{name}" if name not in IMPUTED[2:] else name for name in [*NUMBERS, *CATEGORIES]]
    features = (harness.FLIGHTS / "features.sql").read_text()
    return f"select {', '.join(columns)} from ({features}) as f {' '.join(joins)}"


def indexer_rows(args):
    """Columns of skewed categories, 2 to 2,000 values each."""

    def make(path):
        names = [f"c{i}" for i in range(args.indexers)]
        sizes = np.random.default_rng(7).integers(2, 2001, args.indexers)
        schema = pa.schema([(name, pa.string()) for name in names])
        with pq.ParquetWriter(path, schema) as writer:
            for start, n in chunks(args.indexer_rows):
                random = np.random.default_rng([7, start])
                columns = [texts(skewed(random, size, n), i) for i, size in enumerate(sizes)]
                writer.write_table(pa.table(columns, schema=schema))

    return cached(args.cache / f"indexers-{args.indexers}x{args.indexer_rows}.parquet", make)


def criteo_rows(args):
    """Counts with a long tail and categories of 8 hexadecimal digits, some of each missing."""
    frequent = dict(zip(FREQUENT, np.geomspace(4, 40_000, len(FREQUENT)).astype(int)))
    hashed = dict(zip(HASHED, np.geomspace(50_000, 2_000_000, len(HASHED)).astype(int)))
    fields = [("row", pa.int64()), ("label", pa.int32())]
    fields += [(name, pa.int64()) for name in COUNTS]
    schema = pa.schema(fields + [(name, pa.string()) for name in [*FREQUENT, *HASHED]])

    def make(path):
        with pq.ParquetWriter(path, schema) as writer:
            for start, n in chunks(args.criteo_rows):
                random = np.random.default_rng([11, start])
                columns = [np.arange(start, start + n), (random.random(n) < 0.25).astype(np.int32)]
                for i in range(len(COUNTS)):
                    numbers = np.floor(np.exp(random.normal(i / 3, 2, n))).astype(np.int64) - 1
                    columns.append(pa.array(numbers, mask=random.random(n) < 0.03 * i))
                for i, size in enumerate([*frequent.values(), *hashed.values()]):
                    missing = random.random(n) < 0.02 * (i % 13)
                    columns.append(texts(skewed(random, size, n), i, missing))
                writer.write_table(pa.table(columns, schema=schema))

    return cached(args.cache / f"criteo-{args.criteo_rows}.parquet", make)


def chunks(n_rows):
    """Start and length of the chunks that data are made and written in."""
    return [(start, min(CHUNK_ROWS, n_rows - start)) for start in range(0, n_rows, CHUNK_ROWS)]


def skewed(random, size, n):
    """Numbers below `size`, the small ones far oftener."""
    return (size * random.random(n) ** 3).astype(np.uint32)


def texts(numbers, column, missing=None):
    """Numbers as 8 hexadecimal digits of a column's own, null where missing."""
    # An odd factor keeps different numbers different.
    scattered = numbers * np.uint32(2_654_435_761) + np.uint32(column)
    nibbles = (scattered[:, None] >> np.arange(28, -4, -4, dtype=np.uint32)) & np.uint32(15)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)[nibbles]
    offsets = np.arange(0, 8 * len(numbers) + 1, 8, dtype=np.int32)
    array = pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(digits))
    return array if missing is None else pc.if_else(pa.array(missing), None, array)


# How the engines run.


class Engines:
    """Runs ours and the peers; keeps their seconds and peak memory."""

    def __init__(self, args, programs, scratch):
        self.args, self.programs, self.scratch = args, programs, scratch

    def compare(self, part, ours, peer, peer_name):
        """Runs both in turn; medians, and the folders of what the last runs wrote."""
        sides = {"tidemill": ours} if self.args.ours_only else {"tidemill": ours, peer_name: peer}
        runs = {name: [] for name in sides}
        folders = {}
        for number in range(self.args.runs):
            for name, command in sides.items():
                harness.say(f"features: {part}, {name}")
                folders[name] = self.scratch / f"{part}-{name}-{number}"
                output, _, memory = harness.measured([*command, "--out", folders[name]])
                runs[name].append({**json.loads(output), "peak_mib": memory})
        return {name: medians(found) for name, found in runs.items()}, folders

    def ours(self, rows, stages, *options):
        """Our command for stages over a file of rows."""
        program = self.programs / "time_features"
        return [program, "--rows", rows, "--stages", self.stages_file(stages), *options]

    def spark(self, rows, stages, *options):
        """Spark's command for the same stages."""
        script = harness.BENCHES / "peers" / "features_pyspark.py"
        limits = ["--cores", os.cpu_count(), "--memory", self.args.memory]
        stages = ["--stages", self.stages_file(stages)]
        return [sys.executable, script, "--rows", rows, *stages, *limits, *options]

    def stages_file(self, stages):
        """The stages as a file of JSON."""
        path = self.scratch / "stages.json"
        path.write_text(json.dumps(stages))
        return path


def medians(runs):
    """The median of each figure over the runs."""
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


# The parts: figures, differences and whether the bound is kept.


def flights(args, engines):
    """Fit and transform of the flights, Parquet to Parquet."""
    rows = flights_rows(args, engines.programs)
    ours = engines.ours(rows, FLIGHTS_STAGES, "--write", "table")
    spark = engines.spark(rows, FLIGHTS_STAGES, "--write")
    report, folders = engines.compare("flights", ours, spark, "spark")
    if not args.ours_only:
        report["differences"] = flights_differences(folders["tidemill"], folders["spark"])
        against_spark("flights", report)
    report["fit_with_profile"] = profiled_fit(args, engines, rows)
    return report


def profiled_fit(args, engines, rows):
    """The fit alone, without and with the profile that training keeps, in turn."""
    runs = {"without": [], "with": []}
    for number in range(args.runs):
        for name, options in [("without", []), ("with", ["--profile"])]:
            harness.say(f"features: fit {name} profile")
            out = engines.scratch / f"fit-{name}-{number}"
            command = engines.ours(rows, FLIGHTS_STAGES, *options, "--out", out)
            runs[name].append(json.loads(harness.measured(command)[0]))
    return {name: medians(found)["fit"] for name, found in runs.items()}


def indexers(args, engines):
    """The fit of many string indexers."""
    rows = indexer_rows(args)
    columns = [f"c{i}" for i in range(args.indexers)]
    stages = [{"string_indexer": {"inputs": columns}}]
    sides = engines.ours(rows, stages), engines.spark(rows, stages)
    report, folders = engines.compare("indexers", *sides, "spark")
    if not args.ours_only:
        labels = [feature["kind"]["labels"] for feature in features_of(folders["tidemill"])]
        expected = json.loads((folders["spark"] / "labels.json").read_text())
        pairs = zip(columns, labels, expected, strict=True)
        report["differences"] = [f"labels of {c} differ" for c, a, b in pairs if a != b]
        against_spark("indexers", report)
    return report


def criteo(args, engines):
    """From the click log's columns to the training matrix."""
    rows = criteo_rows(args)
    stages = [
        {"standard_scaler": {"with_mean": True, "inputs": COUNTS}},
        {"frequency_encoder": {"inputs": FREQUENT}},
        {"vector_assembler": {"inputs": [*COUNTS, *FREQUENT, *HASHED]}},
    ]
    query = engines.scratch / "criteo.sql"
    query.write_text(criteo_query())
    ours = engines.ours(rows, stages, "--query", query, "--write", "matrix")
    script = harness.BENCHES / "peers" / "features_polars.py"
    columns = ["--numbers", *COUNTS, "--frequent", *FREQUENT, "--hashed", *HASHED]
    polars = [sys.executable, script, "--rows", rows, "--buckets", BUCKETS, *columns]
    report, folders = engines.compare("criteo", ours, polars, "polars")
    report["rows_per_core_second"] = round(
        args.criteo_rows / report["tidemill"]["seconds"] / os.cpu_count()
    )
    slow = report["rows_per_core_second"] < CRITEO_ROWS_PER_CORE_SECOND
    if not args.ours_only:
        report["differences"] = criteo_differences(rows, folders["tidemill"], folders["polars"])
        ratio = report["polars"]["seconds"] / report["tidemill"]["seconds"]
        report["ratio"] = round(ratio, 2)
        slow = slow or ratio < 1
    report["within_bound"] = not slow
    return report


def criteo_query():
    """The part of the work that looks at one row: logarithms and hashes."""
    logarithm = "ln(1 + cast(greatest(coalesce({0}, 0), 0) as double)) as {0}"
    hashed = f"fold_hash({{0}}, {{1}}) % cast({BUCKETS} as bigint unsigned)"
    columns = ["row", "label", *(logarithm.format(name) for name in COUNTS), *FREQUENT]
    for seed, name in enumerate(HASHED):
        columns.append(f"cast({hashed.format(name, seed)} as double) as {name}")
    return f"select {', '.join(columns)} from rows"


def against_spark(part, report):
    """Adds how many times Spark's time ours goes into, and whether that is enough."""
    ratio = report["spark"]["seconds"] / report["tidemill"]["seconds"]
    report["ratio"] = round(ratio, 1)
    report["within_bound"] = ratio * SPARK_SHARES[part] >= 1


# Comparing what they wrote.


def features_of(folder):
    """Our features' names and kinds."""
    return json.loads((folder / "features.json").read_text())


def flights_differences(ours, spark):
    """How the rows and vectors differ, in sentences."""
    tables = {"ours": ours / "tables", "Spark's": spark / "features"}
    files = {name: sorted(folder.rglob("*.parquet")) for name, folder in tables.items()}
    counts = {name: dataset.dataset(paths).count_rows() for name, paths in files.items()}
    if len(set(counts.values())) != 1:
        return [f"rows differ: {counts}"]
    got = one_hot_view(sampled(files["ours"]), features_of(ours))
    expected = dense(sampled(files["Spark's"])["features"])
    if got.shape != expected.shape:
        return [f"the matrices are {got.shape} and {expected.shape}"]
    return [f"column {i} differs" for i in range(got.shape[1]) if differ(got[:, i], expected[:, i])]


def sampled(files):
    """One row in SAMPLED, in the order of their numbers."""
    chosen = pc.bit_wise_and(dataset.field("row"), SAMPLED - 1) == 0
    return dataset.dataset(files).to_table(filter=chosen).sort_by("row")


def one_hot_view(table, features):
    """Our columns with an indicator column for each category that has one."""
    columns = []
    for feature in features:
        values = table[feature["name"]].to_numpy()
        indicators = feature["kind"].get("indicators")
        columns += [values] if indicators is None else [values == i for i in range(indicators)]
    return np.column_stack(columns).astype(float)


def dense(vectors):
    """Spark's vectors as rows of a matrix."""
    rows = vectors.to_pylist()
    size = max(row["size"] or len(row["values"]) for row in rows)
    matrix = np.zeros((len(rows), size))
    for out, row in zip(matrix, rows):
        out[row["indices"] if row["type"] == 0 else slice(None)] = row["values"]
    return matrix


def differ(got, expected):
    """Whether two columns differ by more than the tolerance; NaN always does."""
    return not np.max(np.abs(got - expected)) <= TOLERANCE * np.max(np.abs(expected))


def criteo_differences(rows, ours, polars):
    """How the matrices differ: in numbers, or in buckets that are not what they should be."""
    ours = list((ours / "matrix").rglob("*.arrow"))
    polars = [polars / "matrix.arrow"]
    # Whoever trains on our matrix puts its rows in the order of the key.
    order = np.argsort(column_of(ours, "__key_0"), kind="stable")
    differences = []
    for name in ["label", *COUNTS, *FREQUENT]:
        found = column_of(ours, name.replace("label", "__label"))[order]
        if differ(found, column_of(polars, name)):
            differences.append(f"column {name} differs")
    for seed, name in enumerate(HASHED):
        text = pq.read_table(rows, columns=[name])[name]
        if not np.array_equal(column_of(ours, name)[order], buckets(text, seed)):
            differences.append(f"our buckets of {name} are not those of the formula")
        if not is_function(text, column_of(polars, name)):
            differences.append(f"Polars has several buckets for one value of {name}")
    return differences


def column_of(paths, name):
    """One column of Arrow files."""
    return np.concatenate([column_of_file(path, name) for path in paths]).astype(float)


def column_of_file(path, name):
    """One column of an Arrow file."""
    with pa.memory_map(str(path)) as source:
        index = pa.ipc.open_file(source).schema.get_field_index(name)
        options = pa.ipc.IpcReadOptions(included_fields=[index])
        return pa.ipc.open_file(source, options=options).read_all()[name].to_numpy()


def buckets(text, seed):
    """The buckets of texts of 8 bytes by our fold_hash."""
    text = text.combine_chunks()
    words = np.frombuffer(pc.fill_null(text, "0" * 8).buffers()[2], np.uint64)[: len(text)]
    hashes = mix(mix(mix(np.uint64(seed)) ^ words) ^ np.uint64(8))
    null = mix(mix(~np.uint64(seed)))
    hashes = np.where(text.is_null().to_numpy(zero_copy_only=False), null, hashes)
    return (hashes % np.uint64(BUCKETS)).astype(float)


def mix(z):
    """SplitMix64's step and output."""
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def is_function(text, found):
    """Whether equal texts have equal buckets."""
    pairs = pa.table({"text": text, "bucket": found}).group_by(["text", "bucket"]).aggregate([])
    return pairs.num_rows == pc.count_distinct(text, mode="all").as_py()


def main():
    """Runs the suite; ends with 1 when an answer differs or a release build misses its bound."""
    args = arguments()
    programs = harness.binaries(args) / "examples"
    parts = {"flights": flights, "indexers": indexers, "criteo": criteo}
    report = {"suite": "features", "profile": args.profile, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as scratch:
        engines = Engines(args, programs, Path(scratch))
        for name in args.part or PARTS:
            report[name] = parts[name](args, engines)
    harness.print_report(report)
    found = [report[name] for name in args.part or PARTS]
    bad = any(part.get("differences") for part in found)
    slow = any(part.get("within_bound") is False for part in found)
    sys.exit(1 if bad or (args.profile != "dev" and slow) else 0)


if __name__ == "__main__":
    main()
