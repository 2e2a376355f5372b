"""Events per second of each file format into a model, beside a bare read of the same file.

    python benchmarks/throughput.py [--rows 1000000] [--features 8] [--rounds 3]

Files are generated into a temporary folder. Every measurement of one round runs in the same
process on the same files; of all rounds the quickest counts. The bare read takes the whole
file into a table at once, on all cores. Nothing is written and no checkpoint is taken:
reading, parsing, learning and scoring are what is measured.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

import stream_em as se
from stream_em_connectors.files import CsvSource, JsonLinesSource, ParquetSource

CLUSTERS = 10
BATCH = 1_000
SOURCES = {"csv": CsvSource, "jsonl": JsonLinesSource, "parquet": ParquetSource}
MODELS = {
    "KMeans(10)": se.KMeans(CLUSTERS),
    "GaussianMixture(10, Full())": se.GaussianMixture(CLUSTERS, se.Full()),
}


def main() -> None:
    """Generate, measure, print three tables in Markdown."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        rows = generated(options.rows, options.features)
        files = written(rows, Path(folder))
        rates = measured(jobs(rows, files), options.rows, options.rounds)
        print(f"{options.rows:,} rows x {options.features} features, best of {options.rounds}\n")
        print(format_table(rates, files))
        print(loaded_table(rates))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def generated(rows: int, features: int) -> np.ndarray:
    """(rows, features) from as many Gaussian clusters as the models seek, to 4 decimals."""
    draw = np.random.default_rng(0)
    centres = draw.normal(scale=10.0, size=(CLUSTERS, features))
    return np.round(
        centres[draw.integers(CLUSTERS, size=rows)] + draw.normal(size=(rows, features)), 4
    )


def written(rows: np.ndarray, folder: Path) -> dict[str, Path]:
    """The same rows as a file of each format."""
    names = [f"x{number}" for number in range(rows.shape[1])]
    table = pa.table(dict(zip(names, rows.T, strict=True)))
    files = {kind: folder / f"rows.{kind}" for kind in SOURCES}
    pa.csv.write_csv(table, files["csv"])
    pa.parquet.write_table(table, files["parquet"])
    encode = msgspec.json.Encoder().encode_lines
    with files["jsonl"].open("wb") as out:
        for batch in table.to_batches(10_000):
            out.write(encode(batch.to_pylist()))
    return files


def jobs(rows: np.ndarray, files: dict[str, Path]) -> dict[str, Callable[[], object]]:
    """What is measured, by name; each job handles all rows once."""
    features = tuple(f"x{number}" for number in range(rows.shape[1]))
    found: dict[str, Callable[[], object]] = {
        "csv": lambda: pa.csv.read_csv(files["csv"]),
        "jsonl": lambda: pa.json.read_json(files["jsonl"]),
        "jsonl msgspec": lambda: decode_lines(files["jsonl"]),
        "parquet": lambda: pa.parquet.read_table(files["parquet"]),
        "loaded MiniBatchKMeans": lambda: scikit_learn(rows),
    }
    for name, model in MODELS.items():
        found[f"loaded {name}"] = lambda model=model: steps(model, rows)
        for kind, source in SOURCES.items():
            opened = source(str(files[kind]), features=features, batch_size=BATCH)
            found[f"{kind} {name}"] = lambda opened=opened, model=model: se.run(opened, model)
    return found


def decode_lines(path: Path) -> int:
    """Decode line by line into plain objects, the floor for parsing JSON in Python."""
    decode = msgspec.json.Decoder().decode
    with path.open("rb") as lines:
        return sum(1 for line in lines if decode(line))


def steps(model: object, rows: np.ndarray) -> None:
    """Learn an array that is in memory already, in batches as the engine cuts them."""
    state = se.init(model, seed=0)
    for start in range(0, len(rows), BATCH):
        state, _ = se.step(model, state, rows[start : start + BATCH])


def scikit_learn(rows: np.ndarray) -> None:
    """The same array through the named peer, on one thread: with batches as small as these
    its threads wait for each other, and on a busy machine it is many times slower.
    """
    peer = MiniBatchKMeans(CLUSTERS, random_state=0)
    with threadpool_limits(1):
        for start in range(0, len(rows), BATCH):
            peer.partial_fit(rows[start : start + BATCH])


def measured(work: dict[str, Callable[[], object]], rows: int, rounds: int) -> dict[str, float]:
    """Rows per second of each job: the quickest of several interleaved rounds."""
    for model in MODELS.values():
        steps(model, generated(5 * BATCH, 3))  # compile before the clock starts
    best = dict.fromkeys(work, 0.0)
    for _ in range(rounds):
        for name, job in work.items():
            gc.collect()
            started = time.perf_counter()
            job()
            best[name] = max(best[name], rows / (time.perf_counter() - started))
    return best


def format_table(rates: dict[str, float], files: dict[str, Path]) -> str:
    """Every format: the bare read, and each model with its share of the bare read's rate."""
    lines = [
        "| file | MB | bare pyarrow read, rows/s | "
        + " | ".join(f"{m}, events/s | of the read" for m in MODELS)
        + " |",
        "|---|---:|---:|" + "---:|---:|" * len(MODELS),
    ]
    for kind, path in files.items():
        cells = [kind, f"{path.stat().st_size / 1e6:.0f}", f"{rates[kind]:,.0f}"]
        for model in MODELS:
            rate = rates[f"{kind} {model}"]
            cells += [f"{rate:,.0f}", f"{rate / rates[kind]:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    plain = rates["jsonl msgspec"]
    lines += ["", f"A bare msgspec loop over the JSON lines decodes {plain:,.0f} rows/s.", ""]
    return "\n".join(lines)


def loaded_table(rates: dict[str, float]) -> str:
    """Rows that are in memory already: this library's steps beside scikit-learn's."""
    peer = rates["loaded MiniBatchKMeans"]
    lines = [
        f"| rows in memory, batches of {BATCH:,} | events/s | of scikit-learn's |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {name.removeprefix('loaded ')} | {rate:,.0f} | {rate / peer:.2f} |"
        for name, rate in rates.items()
        if name.startswith("loaded ")
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
