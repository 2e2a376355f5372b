"""The parts that single rows and batches share: right by the plain kernels, one by one alike."""

import math

import numpy as np
import pytest

from stream_em.kernels import compiled, plain
from stream_em.kernels.arena import BLOCKS, DIAGONAL, FIXED, FULL, HARD, SPHERICAL, TIED, shapes
from stream_em.kernels.row_parts import total


def covariances(K, D, seed=0):
    roots = np.random.default_rng(seed).normal(size=(K, D, D + 2))
    return roots @ roots.swapaxes(1, 2)


@pytest.mark.parametrize("D", [1, 2, 3, 7, 32, 300])
def test_factors_of_matrices_are_those_of_the_inverses(D):
    given = covariances(3, D)
    precisions, log_dets, tries = compiled.matrix_factors(given)
    wanted, wanted_log_dets, _ = plain.matrix_factors(given)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(precisions, wanted, rtol=1e-8, atol=1e-9 * scale)
    np.testing.assert_allclose(log_dets, wanted_log_dets, rtol=1e-9, atol=1e-9)
    assert tries.tolist() == [0, 0, 0]
    assert (np.tril(precisions, -1) == 0).all()


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((3, 3)),
        np.ones((3, 3)),
        np.diag([1.0, 1.0, -1e-12]),
        np.diag([1.0, -1.0, 1.0]),
        np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) + 1e-18 * np.eye(3),
    ],
    ids=["zero", "ones", "tiny", "negative", "flat"],
)
def test_a_matrix_without_a_factor_gets_jitter_and_is_counted(matrix):
    found, log_dets, tries = compiled.matrix_factors(matrix[None])
    wanted, wanted_log_dets, wanted_tries = plain.matrix_factors(matrix[None])
    assert tries.tolist() == wanted_tries.tolist()
    assert tries[0] > 0
    np.testing.assert_allclose(log_dets, wanted_log_dets, rtol=1e-4)
    assert np.isfinite(found).all() and np.isfinite(wanted).all()


@pytest.mark.parametrize(
    "variances",
    [np.array([[1.0, 4.0], [9.0, 0.25]]), np.array([[1.0, 0.0], [0.0, 0.0], [1.0, -1.0]])],
    ids=["ordinary", "degenerate"],
)
def test_factors_of_variances(variances):
    found, wanted = compiled.variance_factors(variances), plain.variance_factors(variances)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_log_joint_and_the_share_claimed():
    draw = np.random.default_rng(1)
    density, weights = 50 * draw.normal(size=(20, 3)), np.array([0.5, 0.5, 0.0])
    density[0, 0], density[1, 1] = np.nan, -np.inf
    np.testing.assert_allclose(
        compiled.log_joint(density, weights), plain.log_joint(density, weights), rtol=1e-14
    )
    inside, beyond = 100 * draw.normal(size=50), 100 * draw.normal(size=50)
    inside[0] = beyond[0]
    for ours, theirs in zip(
        compiled.claimed(inside, beyond), plain.claimed(inside, beyond), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-300)
    values = draw.uniform(0, 9, 30)
    np.testing.assert_allclose(compiled.logarithms(values), plain.logarithms(values), rtol=1e-15)


def test_a_log_does_not_depend_on_its_place():
    values = np.random.default_rng(2).uniform(1e-9, 1e9, 1000)
    assert compiled.logarithms(values).tolist() == [math.log(value) for value in values.tolist()]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 127, 128, 129, 136, 255, 300, 1000, 5000])
def test_sums_are_taken_as_numpy_takes_them(n):
    draw = np.random.default_rng(n)
    for _ in range(20):
        values = draw.normal(size=n) * 10.0 ** draw.integers(-9, 9, n)
        column = np.array([[0.0], [0.0], *values[:, None]])
        assert total(column, 2, n) == values.sum()


@pytest.mark.parametrize("form", [HARD, FIXED, SPHERICAL, DIAGONAL, FULL, TIED])
def test_every_block_has_its_shape(form):
    assert len(shapes(3, 5, form, 10)) == BLOCKS
