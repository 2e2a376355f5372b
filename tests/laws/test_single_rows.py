"""The law of single rows: n calls of `learn` leave the bits that n steps of one row leave."""

import copy
import pickle
import warnings
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as se
from stream_em.errors import StreamEmError
from stream_em.single import Owned

FEW = se.Seeding(rows=40, restarts=2)
BUSY = se.Restructuring(every_rows=60, capacity=12)  # ticks often, and soon has no room
LAST = 460  # rows of a stream

COVARIANCES = (se.Full(), se.Tied(), se.Diagonal(), se.Spherical(), se.Isotropic(1.5))
POLICIES = (None, se.HalfLife(events=120), se.KeepAll(), se.KeepNothing())


def family(**options):
    options = {"seeding": FEW, "restructuring": BUSY, **options}
    return [
        se.KMeans(4, **options),
        se.SoftKMeans(4, **options),
        *(se.GaussianMixture(4, covariance, **options) for covariance in COVARIANCES),
    ]


def under(policy, **options):
    return family(**({} if policy is None else {"forgetting": policy}), **options)


def name(model):
    kind = getattr(model, "covariance", model).kind
    return f"{kind}-{model.forgetting.kind}-{'moves' if model.restructuring else 'still'}"


def stream(n=LAST, D=3, seed=0, far=0.08, drift=4.0):
    """Groups that drift, outliers everywhere, and from the middle on a group far away."""
    draw = np.random.default_rng(seed)
    centres = 5 * draw.normal(size=(4, D))
    X = centres[draw.integers(0, 4, n)] + draw.normal(size=(n, D))
    X += drift * np.arange(n)[:, None] / n
    lost = np.flatnonzero(draw.random(n) < far)
    X[lost] = 40 * draw.normal(size=(len(lost), D))
    late = np.flatnonzero((np.arange(n) > n // 2) & (draw.random(n) < 0.25))
    X[late] = 30 + draw.normal(size=(len(late), D))
    return X


def weights_of(n, seed=0):
    return np.random.default_rng(seed).choice([0.0, 0.3, 1.0, 2.5], n)


def differences(a, b, path=""):
    """Where two values differ, arrays compared bit for bit."""
    if is_dataclass(a):
        kinds = [] if type(a) is type(b) else [path]
        return kinds + [
            found
            for field in fields(a)
            for found in differences(
                getattr(a, field.name), getattr(b, field.name), f"{path}.{field.name}"
            )
        ]
    if isinstance(a, np.ndarray):
        same = isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape
        return [] if same and a.tobytes() == b.tobytes() else [path]
    return [] if type(a) is type(b) and (a == b or a != a) else [path]


def both_ways(model, X, weights, every=20):
    """Rows learned by steps and one by one, compared on the way; the last of each."""
    state, owned = se.init(model, seed=3), Owned(model, se.init(model, seed=3), refresh=0.0)
    changes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, (row, weight) in enumerate(zip(X, weights.tolist(), strict=True)):
            state, info = se.step(model, state, row[None], weights=[weight])
            owned.learn(row, weight)
            changes += [change.kind for change in info.changes if "seed" not in change.reason]
            if i % every == 0 or i == len(X) - 1:
                assert differences(state, owned.state) == [], f"after row {i}"
    return state, owned, changes


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: getattr(policy, "kind", "default"))
def test_single_rows_leave_the_bits_of_steps_of_one_row(policy):
    X, weights = stream(), weights_of(LAST)
    found = []
    for model in under(policy):
        _, _, changes = both_ways(model, X, weights)
        found += changes
    if policy is not None and not policy.learns_at_once:
        assert "relocation" in found


@pytest.mark.parametrize(
    "options",
    [
        {"scaling": se.Standardise()},
        {"restructuring": None},
        {"restructuring": se.Restructuring()},
        {"restructuring": se.Restructuring(every_rows=50, capacity=500)},
    ],
    ids=["standardised", "still", "default", "roomy"],
)
def test_settings_change_nothing_of_that(options):
    X = stream(D=2, seed=1)
    for model in family(**options):
        both_ways(model, X, np.ones(LAST))


def test_glitches_are_drawn_back_alike():
    X = stream(D=2, seed=6)
    X[[20, 200, 201, 350]] = [[1e7, 0.0], [-1e6, 2.0], [1e5, -1e9], [0.0, 1e4]]
    for model in family():
        both_ways(model, X, np.ones(LAST))


def test_clusters_with_nothing_to_do_move_alike():
    X = stream(D=2, seed=7, far=0.0)
    X[150:] += 60.0
    found = []
    for model in family(forgetting=se.HalfLife(events=10))[:2]:
        _, _, changes = both_ways(model, X, np.ones(LAST))
        found += changes
    assert "relocation" in found


def test_births_happen_alike_one_by_one():
    draw = np.random.default_rng(2)
    calm, late = draw.normal(size=(400, 2)), 25 + draw.normal(size=(250, 2))
    mixed = np.concatenate([calm, draw.permutation(np.concatenate([late, calm]))])
    model = se.GaussianMixture(
        3, se.Full(), seeding=FEW, restructuring=se.Restructuring(every_rows=100)
    )
    _, _, changes = both_ways(model, mixed, np.ones(len(mixed)), every=50)
    assert "relocation" in changes


def test_without_prior_and_background_too():
    for covariance in COVARIANCES:
        model = se.GaussianMixture(4, covariance, seeding=FEW, background=None, prior=None)
        both_ways(model, stream(seed=4, far=0.0), np.ones(LAST))


def test_many_clusters_in_many_features_too():
    X = stream(D=37, seed=5, far=0.02)
    for model in (se.KMeans(150, seeding=se.Seeding(rows=300, restarts=1)),):
        both_ways(model, X, np.ones(LAST), every=60)
    for covariance in COVARIANCES[:4]:
        model = se.GaussianMixture(9, covariance, seeding=se.Seeding(rows=200, restarts=1))
        both_ways(model, X[:300], np.ones(300), every=60)


def test_from_given_means_too():
    means = [[0.0, 0.0], [5.0, 5.0]]
    for model in (
        se.KMeans(2, initial_means=means),
        se.SoftKMeans(2, initial_means=means),
        se.GaussianMixture(2, se.Diagonal(), initial_means=means),
    ):
        both_ways(model, stream(120, D=2, seed=6), np.ones(120))


@settings(max_examples=12)
@given(
    which=st.integers(0, 6),
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
def test_batches_and_single_rows_may_alternate(which, sizes, seed):
    model = family()[which]
    X, at = stream(600, seed=seed), 0
    state, owned = se.init(model), Owned(model, se.init(model), refresh=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn, size in enumerate([45, *sizes]):
            rows, at = X[at : at + size], at + size
            if turn % 2 == 0:
                state, info = se.step(model, state, rows)
                assert differences(info, owned.step(rows)) == []
                continue
            for row in rows:
                state, _ = se.step(model, state, row[None])
                owned.learn(row)
    assert differences(state, owned.state) == []


@pytest.mark.parametrize("model", family(), ids=name)
def test_what_was_learned_is_conserved(model):
    X, weights = stream(seed=7), weights_of(LAST, seed=7)
    owned = Owned(model, se.init(model))
    for row, weight in zip(X, weights.tolist(), strict=True):
        owned.learn(row, weight)
    found = se.clusters(model, owned.state)
    assert found.counts.sum() + found.background == pytest.approx(weights.sum(), rel=1e-12)
    assert owned.state.total_events == LAST


@pytest.mark.parametrize("refresh", [0.0, 0.05])
@pytest.mark.parametrize("model", family(), ids=name)
def test_a_copy_goes_on_alike_and_shares_nothing(model, refresh):
    X = stream(seed=8)
    owned = Owned(model, se.init(model), refresh)
    for row in X[:300]:
        owned.learn(row)
    copies = [copy.deepcopy(owned), pickle.loads(pickle.dumps(owned))]
    before = copies[0].state
    for row in X[300:]:
        owned.learn(row)
    assert differences(before, copies[0].state) == []
    for other in copies:
        for row in X[300:]:
            other.learn(row)
        assert differences(owned.state, other.state) == []


@pytest.mark.parametrize("model", family(), ids=name)
def test_a_state_handed_out_stays_as_it_was(model):
    owned = Owned(model, se.init(model))
    for row in stream(seed=9)[:200]:
        owned.learn(row)
    state = owned.state
    kept = copy.deepcopy(state)
    for row in stream(seed=9)[200:]:
        owned.learn(row)
    assert differences(kept, state) == []


@pytest.mark.parametrize("model", family(), ids=name)
def test_reading_agrees_with_score_and_changes_nothing(model):
    X = stream(seed=10)
    owned = Owned(model, se.init(model), refresh=0.0)
    for i, row in enumerate(X):
        owned.learn(row)
        if i % 23:
            continue
        before, asked = pickle.dumps(owned.state), X[(7 * i) % LAST]
        scores = se.score(model, owned.state, asked[None])
        label = owned.label(asked)
        assert label == scores.labels[0]
        assert owned.slot(asked) == scores.slots[label]
        for found, wanted in (
            (owned.responsibilities(asked), scores.responsibilities[0]),
            (owned.log_likelihood(asked), scores.log_likelihood[0]),
            (owned.squared_distance(asked), scores.squared_distance[0]),
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-300)
        owned.learn(asked, 0.0)  # so that the state is taken from where rows are learned
        after = owned.state
        assert after.total_events == pickle.loads(before).total_events + 1
        assert differences(after.moments, pickle.loads(before).moments) == []


def test_before_any_row_there_is_one_answer():
    owned = Owned(se.KMeans(3), se.init(se.KMeans(3)))
    assert (owned.label(np.zeros(2)), owned.slot(np.zeros(2))) == (0, 0)
    assert owned.responsibilities(np.zeros(2)).tolist() == [1.0]


@pytest.mark.parametrize("model", family(), ids=name)
def test_rows_and_weights_of_no_use_are_refused_and_leave_no_trace(model):
    owned = Owned(model, se.init(model))
    for row in stream(seed=11)[:200]:
        owned.learn(row)
    before = copy.deepcopy(owned.state)
    for row, weight in (
        (np.array([0.0, np.nan, 1.0]), 1.0),
        (np.array([0.0, np.inf, 1.0]), 1.0),
        (np.zeros(2), 1.0),
        (np.zeros(3), -1.0),
        (np.zeros(3), np.nan),
    ):
        with pytest.raises(StreamEmError):
            owned.learn(row, weight)
    assert differences(before, owned.state) == []


def test_rows_with_missing_values_are_learned_as_by_steps():
    X = stream(seed=12)
    X[np.random.default_rng(0).random(X.shape) < 0.05] = np.nan
    for model in family(missing=se.Learn())[:4]:
        both_ways(model, X, np.ones(LAST), every=60)


@pytest.mark.parametrize("covariance", COVARIANCES[:4], ids=lambda shape: shape.kind)
def test_late_factors_cost_next_to_no_likelihood(covariance):
    """Factors refreshed at one per cent of their weight: less than a millinat an event."""
    model = se.GaussianMixture(4, covariance, seeding=FEW)
    draw = np.random.default_rng(13)
    X = 4 * draw.normal(size=(4, 3))[draw.integers(0, 4, 2500)] + draw.normal(size=(2500, 3))
    X, sums = X + np.arange(2500)[:, None] / 1000, []
    for refresh in (0.0, 0.01):
        owned = Owned(model, se.init(model, seed=1), refresh)
        owned.step(X[:300])
        total = 0.0
        for row in X[300:]:
            total += owned.log_likelihood(row)
            owned.learn(row)
        sums.append(total / 2200)
    assert sums[0] != sums[1]
    assert abs(sums[0] - sums[1]) < 1e-3
