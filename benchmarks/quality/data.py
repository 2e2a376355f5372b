"""Data of the quality benchmarks: sets from wheels and a folder beside the repository, generators.

Measured sets are standardised with their global moments and jittered a little, so that
constant or rounded columns have a density; a real stream can do neither beforehand.
"""

import gzip
import zipfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
JITTER = {"shuttle": 0.05}  # in standard deviations; others 0.02
SYNTHETIC = {"synA": (8, 5, 3.0), "synB": (10, 10, 2.0), "synC": (5, 2, 2.5)}  # K, D, separation
MOST_ROWS = 60_000  # of cover and donors, drawn at random in file order


class Mixture(NamedTuple):
    """A Gaussian mixture to draw from."""

    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, D)
    covariances: np.ndarray  # (K, D, D)

    def rows(self, n: int, draw: np.random.Generator) -> np.ndarray:
        """(n, D) rows."""
        K, D = self.means.shape
        roots = np.linalg.cholesky(self.covariances)
        labels = draw.choice(K, n, p=self.weights)
        noise, out = draw.normal(size=(n, D)), np.empty((n, D))
        for k in range(K):
            out[labels == k] = self.means[k] + noise[labels == k] @ roots[k].T
        return out


SLOW5 = Mixture(  # five strongly overlapping clusters in the plane
    np.array([0.3, 0.2, 0.2, 0.15, 0.15]),
    np.array([[0, 0], [2.2, 0], [0, 2.2], [2.4, 2.4], [1.1, -2.0]]),
    np.array(
        [
            [[1, 0.3], [0.3, 0.8]],
            [[0.6, -0.2], [-0.2, 1]],
            [[1.2, 0], [0, 0.5]],
            [[0.8, 0.2], [0.2, 0.8]],
            [[0.5, 0], [0, 0.9]],
        ]
    ),
)


def random_mixture(K: int, D: int, separation: float, draw: np.random.Generator) -> Mixture:
    """K clusters in D features with random means, covariances and weights."""
    means = draw.normal(size=(K, D)) * separation
    A = draw.normal(size=(K, D, D)) / np.sqrt(D)
    covariances = A @ A.transpose(0, 2, 1) + 0.2 * np.eye(D)
    return Mixture(draw.dirichlet(np.full(K, 3.0)), means, covariances)


def available(name: str) -> bool:
    """Whether the set can be read here."""
    return name in SYNTHETIC or name in ("shuttle", "segment", "digits") or _path(name).exists()


def _path(name: str) -> Path:
    return SHARED / (f"{name}.npz" if name in ("cover", "donors") else f"{name}.csv.gz")


def in_order(name: str, seed: int) -> np.ndarray:
    """Rows (n, D) in the order of the file; a generated set is redrawn for every seed."""
    draw = np.random.default_rng(seed)
    if name in SYNTHETIC:
        return random_mixture(*SYNTHETIC[name], draw).rows(40_000, draw)
    X = _measured(name)
    return X + draw.normal(size=X.shape) * JITTER.get(name, 0.02)


def shuffled(name: str, seed: int) -> np.ndarray:
    """Rows (n, D) in random order."""
    X = in_order(name, seed)
    return X[np.random.default_rng((seed, 1)).permutation(len(X))]


@cache
def _measured(name: str) -> np.ndarray:
    X = _read(name)
    if len(X) > MOST_ROWS:
        X = X[np.sort(np.random.default_rng(0).choice(len(X), MOST_ROWS, replace=False))]
    deviation = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def _read(name: str) -> np.ndarray:
    if name == "digits":
        return load_digits().data
    if name == "segment":
        with zipfile.ZipFile(str(files("river.datasets") / "segment.csv.zip")) as archive:
            lines = archive.read(archive.namelist()[0]).decode().splitlines()
        return np.loadtxt(lines, delimiter=",", skiprows=1, usecols=range(18))
    if name == "shuttle":
        return _gzipped(Path(str(files("river.datasets") / "shuttle.csv.gz")), 9)
    if name in ("cover", "donors"):
        return np.load(_path(name))["X"].astype(np.float64)
    return _gzipped(_path(name), 6 if name == "elec" else 8)


def _gzipped(path: Path, features: int) -> np.ndarray:
    with gzip.open(path, "rt") as lines:
        return np.loadtxt(lines, delimiter=",", skiprows=1, usecols=range(features))
