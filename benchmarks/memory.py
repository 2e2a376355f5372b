"""Peak memory of `stream-em run` over files of 10^6 and of 10^7 generated rows: it stays flat.

    python benchmarks/memory.py [--rows 1000000 10000000] [--features 8] [--kind csv]

Each run is a process of its own with a checkpoint folder, and its peak resident set is
what the operating system reports when it ends.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

CHUNK = 100_000
CONFIG = """
[source]
kind = "{kind}"
path = "{path}"
features = {features}

[model]
kind = "{model}"
{size} = 10

[checkpoints]
directory = "{checkpoints}"

[http]
address = "off"
"""
MODELS = {"kmeans": "n_clusters", "gaussian-mixture": "n_components"}
WRITERS = {"csv": pa.csv.CSVWriter, "parquet": pa.parquet.ParquetWriter}


def main() -> None:
    """Generate each file, run each model over it, print one table in Markdown."""
    options = _options()
    peaks: dict[str, list[float]] = {model: [] for model in MODELS}
    sizes = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = generated(Path(folder) / f"rows.{options.kind}", rows, options.features)
            sizes.append(path.stat().st_size / 1e6)
            for model, found in peaks.items():
                found.append(peak_megabytes(path, model, options.features))
    print(table(options.rows, sizes, peaks))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--kind", choices=sorted(WRITERS), default="csv")
    return parser.parse_args()


def generated(path: Path, rows: int, features: int) -> Path:
    """Write a file of rows chunk by chunk, so that this process stays small too."""
    draw = np.random.default_rng(0)
    centres = draw.normal(scale=10.0, size=(10, features))
    schema = pa.schema([(f"x{number}", pa.float64()) for number in range(features)])
    with WRITERS[path.suffix[1:]](str(path), schema) as out:
        for start in range(0, rows, CHUNK):
            n = min(CHUNK, rows - start)
            X = centres[draw.integers(10, size=n)] + draw.normal(size=(n, features))
            out.write_table(pa.table(list(np.round(X, 4).T), schema=schema))
    return path


def peak_megabytes(path: Path, model: str, features: int) -> float:
    """The peak resident set of one run over the file, from the kernel's account of it."""
    config = path.parent / f"{model}.toml"
    config.write_text(
        CONFIG.format(
            kind=path.suffix[1:],
            path=path,
            features=[f"x{number}" for number in range(features)],
            model=model,
            size=MODELS[model],
            checkpoints=path.parent / model,
        )
    )
    command = [sys.executable, "-m", "stream_em", "run", "-c", str(config), "--no-progress"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    said = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"the run ended with {process.returncode}:\n{said}")
    return usage.ru_maxrss / 1024


def table(rows: list[int], sizes: list[float], peaks: dict[str, list[float]]) -> str:
    """One line for each size of file, and the ratio of the last to the first."""
    lines = [
        "| rows | file, MB | " + " | ".join(f"{model}, peak MB" for model in peaks) + " |",
        "|---:|---:|" + "---:|" * len(peaks),
    ]
    for place, n in enumerate(rows):
        found = " | ".join(f"{column[place]:.0f}" for column in peaks.values())
        lines.append(f"| {n:,} | {sizes[place]:.0f} | {found} |")
    ratios = " | ".join(f"{column[-1] / column[0]:.2f}" for column in peaks.values())
    lines.append(f"| last / first | {sizes[-1] / sizes[0]:.1f} | {ratios} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
