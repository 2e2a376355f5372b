"""Clusterers in River's progressive validation: squared distance to the nearest centre.

    python benchmarks/learners/quality.py [--rows 5000] [--data ../shared/data]

Each event passes `StandardScaler`, is measured against the centres as they stand, and is
learned after that. The first tenth of a stream is not counted. Streams are those of River's
wheel and, where present, larger ones in a folder. K-means and mixtures have ten centres; those
that find their own number have it in brackets, as it was at the end.
"""

import argparse
import csv
import gzip
import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from river import cluster, datasets, preprocessing

from stream_em.river import GaussianMixture, KMeans, SoftKMeans

K = 10
PAUSE = 20  # events between two looks at the centres
Event = dict[Any, float]
CLUSTERERS: dict[str, Callable[[], Any]] = {
    "KMeans": lambda: KMeans(K, seeding_rows=500, seed=1),
    "KMeans, half-life 200": lambda: KMeans(K, 200, seeding_rows=500, seed=1),
    "SoftKMeans": lambda: SoftKMeans(K, seeding_rows=500, seed=1),
    "GaussianMixture, diag": lambda: GaussianMixture(K, "diag", seeding_rows=500, seed=1),
    "River KMeans, halflife 0.5": lambda: cluster.KMeans(n_clusters=K, seed=1),
    "River KMeans, halflife 0.05": lambda: cluster.KMeans(n_clusters=K, halflife=0.05, seed=1),
    "River STREAMKMeans": lambda: cluster.STREAMKMeans(
        chunk_size=100, n_clusters=K, halflife=0.5, seed=1
    ),
    "River CluStream": lambda: cluster.CluStream(
        n_macro_clusters=K, max_micro_clusters=50, time_gap=200, seed=1
    ),
    "River DBSTREAM": lambda: cluster.DBSTREAM(clustering_threshold=1.5),
    "River DenStream": lambda: cluster.DenStream(epsilon=1.0, n_samples_init=200),
}
BUNDLED = {
    "Phishing": datasets.Phishing,
    "Bananas": datasets.Bananas,
    "ImageSegments": datasets.ImageSegments,
    "TrumpApproval": datasets.TrumpApproval,
    "ChickWeights": datasets.ChickWeights,
    "Shuttle": datasets.Shuttle,
}


def main() -> None:
    """Run every clusterer on every stream, and print one table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {name: taken(events, options.rows) for name, events in streams(options.data)}
    print("| stream | events | " + " | ".join(CLUSTERERS) + " |")
    print("|---|---:|" + "---:|" * len(CLUSTERERS))
    for name, events in found.items():
        cells = [measured(made(), events) for made in CLUSTERERS.values()]
        print(f"| {name} | {len(events):,} | " + " | ".join(cells) + " |", flush=True)


def streams(folder: Path) -> Iterator[tuple[str, Iterator[Event]]]:
    """The streams there are, by name."""
    for name, made in BUNDLED.items():
        yield name, (numeric(x) for x, _ in made())
    for name, skipped in (("elec", 1), ("weather", 1)):
        path = folder / f"{name}.csv.gz"
        if path.exists():
            yield name, from_csv(path, skipped)
    path = folder / "cover.npz"
    if path.exists():
        yield "cover", from_npz(path)


def numeric(x: dict[Any, Any]) -> Event:
    return {name: float(value) for name, value in x.items() if isinstance(value, (int, float))}


def from_csv(path: Path, targets: int) -> Iterator[Event]:
    """Numeric columns of a CSV file, the last ones left out."""
    with gzip.open(path, "rt", newline="") as file:
        for record in csv.DictReader(file):
            columns = list(record.items())[:-targets]
            yield {name: float(value) for name, value in columns}


def from_npz(path: Path) -> Iterator[Event]:
    """Rows of the first matrix in a file."""
    with np.load(path) as arrays:
        matrix = next(arrays[name] for name in arrays.files if arrays[name].ndim == 2)
    for row in matrix.astype(float):
        yield dict(enumerate(row.tolist()))


def taken(events: Iterator[Event], rows: int) -> list[Event]:
    return list(itertools.islice(events, rows))


def measured(clusterer: Any, events: list[Event]) -> str:
    """Mean squared distance to the nearest centre before each event is learned, as a cell."""
    scaler, total, counted = preprocessing.StandardScaler(), 0.0, 0
    centres: np.ndarray | None = None
    names = sorted({name for x in events[:100] for name in x}, key=str)
    for number, x in enumerate(events):
        scaler.learn_one(x)
        z = scaler.transform_one(x)
        if number % PAUSE == 0:
            centres = as_matrix(clusterer, z, names)
        if centres is not None and number >= len(events) // 10:
            row = np.array([z[name] for name in names])
            total, counted = total + float(np.square(centres - row).sum(axis=1).min()), counted + 1
        clusterer.learn_one(z)
    if centres is None or counted <= len(events) // 2:
        return "–"
    number = "" if len(centres) == K else f" ({len(centres)})"
    return f"{total / counted:.3f}{number}"


def as_matrix(clusterer: Any, z: Event, names: list[Any]) -> np.ndarray | None:
    """Centres (K, D) as they stand; None while there are none."""
    try:
        clusterer.predict_one(z)  # some refresh their centres only when asked
        found = [[mean.get(name, 0.0) for name in names] for mean in clusterer.centers.values()]
    except (ValueError, KeyError, IndexError, ZeroDivisionError, AttributeError):
        return None
    return np.array(found) if found else None


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - start:.0f} s")
