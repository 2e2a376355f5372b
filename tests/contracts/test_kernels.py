"""The compiled kernels give what the plain ones define."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_em.arrays import Array
from stream_em.kernels import compiled, plain

EPS = 1e-12  # relative
FAINT = 1e-300  # below it, numbers have lost their digits
NAMES = (
    "nearest",
    "log_density_full",
    "log_density_diagonal",
    "posterior",
    "hard_tally",
    "soft_tally_diagonal",
    "soft_tally_full",
    "soft_tally_pooled",
)
SOFT = NAMES[5:]


@pytest.fixture(autouse=True, scope="module")
def _kernels_compiled() -> None:
    compiled.warm_up()


class Case(NamedTuple):
    """A batch, the clusters it meets, and what an E-step made of it."""

    Z: Array
    weights: Array
    means: Array
    factors: Array
    deviations: Array
    log_dets: Array
    log_joint: Array
    labels: Array
    R: Array

    def arguments(self, name: str) -> tuple[Array, ...]:
        """What the kernel of this name is called with."""
        return {
            "nearest": (self.Z, self.means),
            "log_density_full": (self.Z, self.means, self.factors, self.log_dets),
            "log_density_diagonal": (self.Z, self.means, self.deviations, self.log_dets),
            "posterior": (self.log_joint,),
            "hard_tally": (self.Z, self.weights, self.labels, self.means),
        }.get(name, (self.Z, self.weights, self.R, self.means))


def a_case(
    n: int, D: int, K: int, seed: int = 0, offset: float = 0.0, reach: float = 4.0, far: float = 1.0
) -> Case:
    """Random rows about random means; `far` pushes every fifth row out by that factor.

    Every seventh row weighs nothing, and the last cluster of several has a weight of zero.
    """
    rng = np.random.default_rng(seed)
    means = offset + reach * rng.normal(size=(K, D))
    Z = means[rng.integers(K, size=n)] + rng.normal(size=(n, D))
    Z[::5] = offset + far * (Z[::5] - offset)
    factors = np.triu(0.2 * rng.normal(size=(K, D, D)), 1)
    factors += np.apply_along_axis(np.diag, 1, rng.uniform(0.5, 2.0, size=(K, D)))
    log_dets = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    shares = rng.dirichlet(np.ones(K))
    shares[K - 1 :] *= K == 1
    with np.errstate(divide="ignore"):
        log_joint = plain.log_density_full(Z, means, factors, log_dets) + np.log(shares)
    weights = rng.uniform(0.0, 3.0, size=n)
    weights[::7] = 0.0
    labels, R = plain.nearest(Z, means)[0], plain.posterior(log_joint)[0]
    deviations = rng.uniform(0.5, 2.0, size=(K, D))
    return Case(Z, weights, means, factors, deviations, log_dets, log_joint, labels, R)


cases = st.builds(
    a_case,
    n=st.sampled_from([0, 1, 2, 5, 30, 63, 64, 65, 150]),
    D=st.integers(1, 10),
    K=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    offset=st.sampled_from([0.0, -30.0, 1e4, 1e8]),
    reach=st.sampled_from([0.0, 1.0, 4.0, 100.0]),
    far=st.sampled_from([1.0, 10.0, 1e3]),
)


def both(name: str, arguments: tuple[Array, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """What the compiled and the plain kernel of this name return, as tuples."""
    found = [getattr(module, name)(*arguments) for module in (compiled, plain)]
    got, wanted = (out if isinstance(out, tuple) else (out,) for out in found)
    assert [a.shape for a in got] == [a.shape for a in wanted]
    assert [a.dtype for a in got] == [a.dtype for a in wanted]
    return got, wanted


def assert_near(got: Array, wanted: Array, slack: Array | float) -> None:
    """Within EPS of what is wanted, or within the slack given."""
    np.testing.assert_array_less(np.abs(got - wanted), EPS * np.abs(wanted) + slack + FAINT)


@given(cases)
@example(a_case(0, 3, 4))
@example(a_case(1, 1, 1))
@example(a_case(2, 4, 12, offset=1e8))
def test_nearest_is_as_plain(case: Case) -> None:
    (labels, squared), (wanted, distances) = both("nearest", case.arguments("nearest"))
    np.testing.assert_array_equal(labels, wanted)
    assert_near(squared, distances, 0.0)


@given(cases, st.sampled_from(["log_density_full", "log_density_diagonal"]))
@example(a_case(0, 3, 4), "log_density_full")
@example(a_case(64, 1, 1), "log_density_full")
@example(a_case(150, 5, 3, far=1e3), "log_density_diagonal")
def test_densities_are_as_plain(case: Case, name: str) -> None:
    (got,), (wanted,) = both(name, case.arguments(name))
    assert_near(got, wanted, EPS * (np.abs(case.log_dets) + case.Z.shape[1]))


@given(cases)
@example(a_case(0, 3, 4))
@example(a_case(65, 2, 9, far=1e3, reach=100.0))
def test_posterior_is_as_plain(case: Case) -> None:
    got, wanted = both("posterior", (case.log_joint,))
    assert_near(got[0], wanted[0], 0.0)
    assert_near(got[1], wanted[1], EPS)
    assert_near(got[2], wanted[2], EPS)


def test_far_rows_underflow_to_zero_not_to_nan() -> None:
    log_joint = np.array([[-1.0, -800.0, -np.inf], [-1e300, 0.0, -745.0]])
    R, log_likelihood, entropy = compiled.posterior(log_joint)
    np.testing.assert_array_equal(R[0], [1.0, 0.0, 0.0])
    assert 0 < R[1, 2] < FAINT
    np.testing.assert_array_equal(log_likelihood, [-1.0, 0.0])
    np.testing.assert_allclose(entropy, 0.0, atol=FAINT)


@pytest.mark.parametrize("row", [[-np.inf, -np.inf], [np.nan, 0.0], [0.0, np.nan]])
def test_a_row_that_is_nowhere_is_nan_as_in_plain(row: list[float]) -> None:
    with np.errstate(invalid="ignore"):
        got, wanted = both("posterior", (np.array([row]),))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isnan(a).all()


def spread_allowed(case: Case, N: Array, mean: Array, trace: Array) -> Array:
    """By how much a scatter may differ (K,): of its trace, of what was subtracted, of rounding."""
    removed = N * np.square(mean - case.means).sum(axis=1)
    rounding = N * np.square(4e-16 * np.abs(np.concatenate([case.means, case.Z])).max())
    return EPS * trace + 1e-15 * np.minimum(removed, plain.RECENTRE * trace) + 4 * rounding


def assert_tallies_agree(case: Case, name: str, assigned: Array, centres: Array) -> None:
    case = case._replace(means=centres)
    got, wanted = both(name, (case.Z, case.weights, assigned, centres))
    N, _, mean, scatter = wanted
    assert_near(got[0], N, 0.0)
    assert_near(got[1], wanted[1], 0.0)
    size = 1.0 + np.abs(mean) + np.abs(mean - centres)
    lost = np.where(N > 0, 1e-320 / np.where(N > 0, N, 1.0), 0.0)  # digits of a faint N
    assert_near(got[2], mean, EPS * size + lost[:, None] * size)
    full = plain.soft_tally_diagonal if name != "hard_tally" else plain.hard_tally
    traces = full(case.Z, case.weights, assigned, centres)[3].sum(axis=1)
    slack = spread_allowed(case, N, mean, traces)
    if name == "soft_tally_pooled":
        slack = slack.sum()
    assert_near(got[3], scatter, np.reshape(slack, np.shape(slack) + (1,) * (scatter.ndim - 1)))


@given(cases, st.sampled_from(SOFT))
@example(a_case(0, 3, 4), "soft_tally_full")
@example(a_case(1, 1, 1), "soft_tally_diagonal")
@example(a_case(2, 4, 12, offset=1e8), "soft_tally_full")
@example(a_case(150, 9, 12, far=1e3), "soft_tally_pooled")
def test_soft_tallies_are_as_plain(case: Case, name: str) -> None:
    assert_tallies_agree(case, name, case.R, case.means)


@given(cases)
@example(a_case(0, 3, 4))
@example(a_case(1, 1, 1))
def test_hard_tallies_are_as_plain(case: Case) -> None:
    assert_tallies_agree(case, "hard_tally", case.labels, case.means)


@given(cases, st.sampled_from([*SOFT, "hard_tally"]), st.sampled_from([1e2, 1e6]))
def test_tallies_about_far_centres_are_taken_again_about_the_mean(
    case: Case, name: str, away: float
) -> None:
    assigned = case.labels if name == "hard_tally" else case.R
    assert_tallies_agree(case, name, assigned, case.means + away)


@pytest.mark.parametrize("name", SOFT)
def test_a_scatter_seen_from_far_away_keeps_its_digits(name: str) -> None:
    case = a_case(150, 4, 1)
    near = getattr(compiled, name)(case.Z, case.weights, case.R, case.means)[3]
    away = getattr(compiled, name)(case.Z, case.weights, case.R, case.means + 1e7)[3]
    np.testing.assert_allclose(away, near, rtol=1e-11, atol=1e-11 * np.abs(near).max())


@pytest.mark.parametrize("name", ["hard_tally", *SOFT])
def test_a_cluster_without_weight_keeps_its_centre(name: str) -> None:
    case = a_case(30, 3, 2)._replace(weights=np.zeros(30))
    N, squares, means, scatter = getattr(compiled, name)(*case.arguments(name))
    assert not N.any()
    assert not squares.any()
    assert not scatter.any()
    np.testing.assert_array_equal(means, case.means)


@pytest.mark.parametrize("name", ["hard_tally", "soft_tally_diagonal"])
def test_the_scatter_of_a_constant_feature_is_not_negative(name: str) -> None:
    for seed in range(20):
        case = a_case(40, 3, 2, seed=seed)
        case.Z[:, 1] = case.means[0, 1] + 1.1
        scatter = getattr(compiled, name)(*case.arguments(name))[3]
        assert (scatter >= 0).all()


@given(cases)
def test_wards_cost_is_as_plain(case: Case) -> None:
    """Read from the tally of the rows, empty clusters included."""
    N, _, means, _ = plain.soft_tally_diagonal(case.Z, case.weights, case.R, case.means)
    expected, found = plain.ward(N, means), compiled.ward(N, means)
    assert (np.isinf(expected) == np.isinf(found)).all()
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-12, atol=FAINT)


def test_labels_of_no_cluster_count_nowhere() -> None:
    case = a_case(30, 3, 2)
    assigned = np.where(np.arange(30) % 3 == 0, case.labels, [-1, 2] * 15)
    assert_tallies_agree(case, "hard_tally", assigned, case.means)


@given(st.integers(1, 9), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_ties_go_to_the_lowest_index(D: int, K: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.integers(-2, 3, size=(70, D)).astype(float)
    means = rng.integers(-2, 3, size=(K, D)).astype(float)
    got, wanted = both("nearest", (Z, np.concatenate([means, means])))
    np.testing.assert_array_equal(got, wanted)
    assert got[0].max() < K


def test_mirrored_means_tie_exactly() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 200))
    for pair in zip(a, b, strict=True):
        labels, _ = compiled.nearest(np.zeros((3, 2)), np.array([pair[::-1], pair]))
        assert labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize("D", [31, 64, 255, 256, 257])
@pytest.mark.parametrize("name", NAMES)
def test_wide_rows_are_as_plain(name: str, D: int) -> None:
    case = a_case(20, D, 2)
    for a, b in zip(*both(name, case.arguments(name)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * np.abs(b).max())


@pytest.mark.parametrize("name", ["log_density_full", "soft_tally_full", "soft_tally_pooled"])
def test_above_a_width_the_dense_products_are_those_of_plain(name: str) -> None:
    arguments = a_case(20, compiled.WIDE + 1, 2).arguments(name)
    for a, b in zip(*both(name, arguments), strict=True):
        np.testing.assert_array_equal(a, b)
