"""What the suites share: building, a cluster, measured processes and comparing rows."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

BENCHES = Path(__file__).resolve().parent
REPOSITORY = BENCHES.parent
FLIGHTS = REPOSITORY / "examples" / "flights"

# Engines that answer a decimal division or average in double agree to this, relative to the value.
TOLERANCE = 1e-4
# How long a cluster may take until it is ready, and to end.
READY_SECONDS = 90
STOP_SECONDS = 20
# How often the memory of a process tree is sampled.
SAMPLE_SECONDS = 0.1


def say(text):
    """Tells a person how far the suite is; results go to standard output alone."""
    print(text, file=sys.stderr, flush=True)


def cache(suite):
    """The folder of a suite's data."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return caches / "tidemill" / suite


def add_build_options(parser):
    """The options that say what is measured."""
    parser.add_argument(
        "--profile", default="release", help="cargo profile of our binaries (release)"
    )
    parser.add_argument(
        "--binaries", type=Path, help="measure the binaries of this folder instead of building them"
    )


def binaries(args):
    """The folder of our binaries, built first unless one is given; examples lie below it."""
    if args.binaries:
        return args.binaries.resolve()
    targets = ["--bin", "tidemill"]
    for example in ["time_queries", "time_features", "time_training"]:
        targets += ["--example", example]
    build = ["cargo", "build", "--profile", args.profile, *targets]
    subprocess.run(build, cwd=REPOSITORY, check=True)
    cargo = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = json.loads(subprocess.check_output(cargo, cwd=REPOSITORY))
    folder = "debug" if args.profile == "dev" else args.profile
    return Path(metadata["target_directory"]) / folder


@contextmanager
def cluster(tidemill, executors, warehouse, more=()):
    """A scheduler and executors as processes for as long as the block; yields the address."""
    options = ["--executors", str(executors), "--json", "--warehouse", str(warehouse), *more]
    process = subprocess.Popen([tidemill, "cluster", *options], stdout=subprocess.PIPE, text=True)
    late = threading.Timer(READY_SECONDS, process.kill)
    late.start()
    try:
        address = ready_address(process)
        late.cancel()
        yield address
    finally:
        late.cancel()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def ready_address(process):
    """The address in the line that says that the cluster is ready."""
    for line in process.stdout:
        event = json.loads(line)
        if event.get("event") == "ready":
            return event["address"]
    raise RuntimeError(f"the cluster was not ready within {READY_SECONDS} s")


def time_queries(engine, folders, out, warmup, runs):
    """Runs the queries on one engine; its times by query, with an error where one failed.

    `engine` is a command that takes the options of examples/time_queries.rs; peers/time_queries.py
    takes the same.
    """
    options = ["--out", str(out), "--warmup", str(warmup), "--runs", str(runs)]
    for name, folder in folders.items():
        options += [f"--{name}", str(folder)]
    process = subprocess.run([*map(str, engine), *options], stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    if process.returncode != 0:
        raise RuntimeError(f"{engine[0]} ended with {process.returncode}")
    return {line.pop("query"): line for line in lines}


def engines(folder, spark, address):
    """The commands that time queries, by engine: ours in both modes, then the peers."""
    ours = [folder / "examples" / "time_queries"]
    peer = [sys.executable, BENCHES / "peers" / "time_queries.py", "--engine"]
    commands = {
        "tidemill": ours,
        "tidemill cluster": [*ours, "--cluster", address],
        "datafusion": [*peer, "datafusion"],
        "duckdb": [*peer, "duckdb"],
    }
    if spark:
        commands["spark"] = [*peer, "spark"]
    return commands


def difference(expected, got, ordered):
    """How the rows of two Arrow IPC files differ, in a sentence; None when they do not.

    Whole numbers, texts and dates agree exactly, other numbers within TOLERANCE. Rows that the
    query does not order are sorted first, by what agrees exactly.
    """
    expected, got = rows_of(expected), rows_of(got)
    if len(expected) != len(got):
        return f"expected {len(expected)} rows, got {len(got)}"
    if not ordered:
        expected, got = sorted(expected, key=sort_key), sorted(got, key=sort_key)
    for number, (left, right) in enumerate(zip(expected, got), 1):
        if len(left) != len(right) or not all(map(same, left, right)):
            return f"row {number}: expected {left}, got {right}"
    return None


def rows_of(path):
    """The rows of an Arrow IPC file as tuples."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    columns = [column.to_pylist() for column in table.columns]
    return list(zip(*columns)) if columns else []


def sort_key(row):
    """Exact values first, then the rest to few digits."""
    inexact = (float, Decimal)
    exact = [str(value) for value in row if not isinstance(value, inexact)]
    rest = [float(f"{value:.3g}") for value in row if isinstance(value, inexact)]
    return exact, rest


def same(left, right):
    """Whether two values are the same to a reader of the result."""
    numbers = (int, float, Decimal)
    if isinstance(left, numbers) and isinstance(right, numbers):
        if isinstance(left, int) and isinstance(right, int):
            return left == right
        return math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=1e-9)
    return left == right


class PeakMemory:
    """The most resident memory that a process and all below it had at one time, as sampled.

    Pages that processes share count once for each of them.
    """

    def __init__(self, root):
        self.bytes = 0
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, tree_memory(self._root))


def tree_memory(root):
    """Resident bytes of a process and its descendants, by Linux's /proc."""
    page = os.sysconf("SC_PAGE_SIZE")
    children, resident = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may hold anything; the parent is the second field on.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            resident[int(folder.name)] = int((folder / "statm").read_text().split()[1]) * page
        except (OSError, IndexError, ValueError):
            continue  # ended meanwhile
        children.setdefault(parent, []).append(int(folder.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        total += resident.get(process, 0)
        waiting += children.get(process, [])
    return total


def measured(command, **options):
    """Runs a command to its end: its standard output, wall-clock seconds and peak memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True, **options)
    with PeakMemory(process.pid) as memory:
        output, _ = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {output[-2000:]}")
    return output, seconds, memory.bytes / 2**20


def print_report(report):
    """Prints the suite's result as JSON."""
    json.dump(report, sys.stdout, indent=2)
    print()
