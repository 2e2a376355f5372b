"""Rows that the tests of the scikit-learn door share."""

import numpy as np
import pytest


@pytest.fixture
def overlapping():
    """A maker of rows (n, D) from overlapping clusters, and of K rows among them."""

    def make(n=600, K=4, D=3, seed=0, offset=0.0):
        draw = np.random.default_rng(seed)
        centres = draw.normal(size=(K, D)) * 2.5
        X = centres[draw.integers(0, K, n)] + draw.normal(size=(n, D))
        X = X @ (np.eye(D) + 0.3 * draw.normal(size=(D, D))) + offset
        return X, X[draw.permutation(n)[:K]]

    return make


@pytest.fixture
def precisions():
    """A maker of unequal precisions in scikit-learn's shapes."""

    def make(kind, K, D):
        sizes, matrix = 1.0 + 0.5 * np.arange(K), np.eye(D) + 0.3
        shapes = {
            "full": np.linalg.inv(sizes[:, None, None] * matrix),
            "tied": np.linalg.inv(matrix),
            "diag": 1 / np.outer(sizes, 1 + np.arange(D)),
            "spherical": 1 / sizes,
        }
        return shapes[kind]

    return make


@pytest.fixture
def blobs():
    """Three clear clusters (n, 2) in the order of their batches, and their centres."""
    draw = np.random.default_rng(3)
    centres = np.array([[0.0, 0.0], [12.0, 0.0], [0.0, 12.0]])
    return centres[draw.integers(3, size=3000)] + draw.normal(size=(3000, 2)), centres
