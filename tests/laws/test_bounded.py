"""A state does not grow with the stream: its size stays under the formula of the README."""

import numpy as np
import pytest

import stream_em as se
from stream_em.checkpoints import Checkpoint, encode
from stream_em.streams import Positions

K, D = 6, 5
HEADER = 16 * 1024
ROOMY = se.Restructuring(variable=True)


def scatter_size(model):
    """s: numbers in the scatter of one cluster, at most."""
    whole = isinstance(getattr(model, "covariance", None), (se.Full, se.Tied))
    return D * D if whole else D


def allowed(model, state):
    """Bytes that the README grants a state."""
    s = scatter_size(model)
    settings = model.restructuring
    size = 8 * K * (4 * s + 3 * D + 14) + 56 * D + 64 + HEADER
    if state.moments is None:
        return size + model.rows_to_hold(D) * (8 * D + 16)
    if settings is not None:
        size += settings.capacity * (8 * D + 24)
        size += 1000 * 8 * D if settings.variable else 0
    return size


def weight(model, state):
    """Bytes of a checkpoint of the state."""
    return len(encode(Checkpoint(1, "here", model, state, Positions())))


def stream(n, seed=0):
    """Groups with outliers, and far groups that come and go: all that a state can hold."""
    draw = np.random.default_rng(seed)
    centres = 8 * np.eye(K, D)
    X = centres[draw.integers(0, K, n)] + draw.normal(size=(n, D))
    X[draw.random(n) < 0.1] *= draw.uniform(5, 50)
    X[n // 2 : n // 2 + n // 10] += 100.0
    return X


MODELS = [
    se.KMeans(K),
    se.SoftKMeans(K),
    se.SphericalKMeans(K),
    se.VonMisesFisher(K),
    se.StudentMixture(K),
    se.GaussianMixture(K),
    se.GaussianMixture(K, se.Tied()),
    se.GaussianMixture(K, se.Diagonal()),
    se.GaussianMixture(K, se.Spherical()),
    se.GaussianMixture(K, restructuring=ROOMY),
    se.GaussianMixture(K, restructuring=None, background=None),
    se.KMeans(K, restructuring=se.Restructuring(capacity=100)),
    se.GaussianMixture(K, forgetting=se.HalfLife(5000)),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: repr(m)[:60])
def test_a_state_weighs_no_more_than_the_formula_says(model):
    state, sizes = se.init(model), []
    for rows in np.split(stream(20_000), 40):
        state, _ = se.step(model, state, rows)
        sizes.append((weight(model, state), allowed(model, state)))
    assert all(size <= most for size, most in sizes)
    assert max(size for size, _ in sizes[20:]) <= max(size for size, _ in sizes[:20]) * 1.5


def test_the_formula_is_not_slack_without_end():
    """Rows set aside and rows held are what weighs; both come near to what they are granted."""
    model = se.KMeans(K, restructuring=se.Restructuring(moves=0, threshold=0.0))
    state = se.init(model)
    X = stream(6000)
    state, _ = se.step(model, state, X[:1999])
    assert weight(model, state) > 0.7 * allowed(model, state)
    state, _ = se.step(model, state, X[1999:])
    assert len(state.quarantine) == 1000
    assert weight(model, state) > 0.75 * allowed(model, state)
    assert weight(model, state) <= allowed(model, state)


def test_the_readme_states_the_formula(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    for part in ("8K (4s + 3D + 14)", "1000 (8D + 24)", "n₀ (8D + 16)", "1000 · 8D", "56D + 64"):
        assert part in text
