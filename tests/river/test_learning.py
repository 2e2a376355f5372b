"""What learning means: n events are n steps of one row, and what that law leaves free."""

import copy
import math
import pickle

import numpy as np
import pytest

import stream_em as se
from stream_em.arrays import altered
from stream_em.errors import RowsError, SettingsError
from stream_em.river import GaussianMixture, GaussianMixtureDetector, KMeans, SoftKMeans

CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return CENTRES[draw.integers(3, size=n)] + draw.normal(size=(n, 2))


def event(row) -> dict[str, float]:
    return dict(zip("ab", np.asarray(row).tolist(), strict=True))


EXACT = [
    KMeans(3, seeding_rows=40, refresh=0.0, seed=5),
    KMeans(3, forgetting=100.0, seeding_rows=40, restructuring=False, refresh=0.0, seed=5),
    KMeans(3, "keep-all", 40, standardise=True, refresh=0.0, seed=5),
    SoftKMeans(3, seeding_rows=40, refresh=0.0, seed=5),
    *(
        GaussianMixture(3, word, seeding_rows=40, refresh=0.0, seed=5)
        for word in ("full", "tied", "diag", "spherical")
    ),
    GaussianMixtureDetector(2, background=True, restructuring=True, refresh=0.0, seed=5),
]


@pytest.mark.parametrize("learner", EXACT, ids=lambda it: f"{type(it).__name__}")
@pytest.mark.parametrize("lacking", [0.0, 0.2])
def test_n_events_are_n_steps_of_one_row_bit_for_bit(learner, lacking: float) -> None:
    learner, draw = learner.clone(), np.random.default_rng(1)
    X = rows_of(120)
    X[draw.random(X.shape) < lacking] = np.nan
    weights = draw.choice([0.0, 0.5, 1.0, 3.0], size=len(X))
    X[0], weights[0] = [1.0, 2.0], 1.0  # names come with the first values
    state = se.init(learner.model, seed=5)
    for row, weight in zip(X, weights.tolist(), strict=True):
        state, _ = se.step(learner.model, state, row[None], weights=[weight])
        learner.learn_one(event(row), w=weight)
    assert learner.state == altered(state, features=("a", "b"))


def test_events_far_beyond_the_first_tick(learner) -> None:
    """Restructuring ticks every 500 rows; a learner passes them and answers on."""
    learner = learner.clone({"seeding_rows": 40})
    for row in rows_of(560):
        learner.learn_one(event(row))
    assert learner.state.total_events == 560
    assert math.isfinite(learner.score_one(event(CENTRES[0])))
    assert learner.score_one({"a": 500.0, "b": 0.0}) > learner.score_one(event(CENTRES[0]))


@pytest.mark.parametrize("kind", [KMeans, SoftKMeans, GaussianMixture])
def test_clusters_are_found_and_named(kind) -> None:
    learner = kind(3, seeding_rows=60, seed=2)
    for row in rows_of(300):
        learner.learn_one(event(row))
    labels = [learner.predict_one(event(centre)) for centre in CENTRES]
    assert sorted(labels) == [0, 1, 2]
    for label, centre in zip(labels, CENTRES, strict=True):
        found = [learner.centers[label][name] for name in "ab"]
        assert found == pytest.approx(centre.tolist(), abs=0.5)


def test_a_mini_batch_is_one_step() -> None:
    for learner in EXACT:
        learner, X = learner.clone(), rows_of(150).astype(np.float64)
        state = se.init(learner.model, seed=5)
        for rows in (X[:20], X[20:90], X[90:]):
            state, _ = se.step(learner.model, state, rows, weights=np.full(len(rows), 2.0))
            learner.learn_many(rows, w=2.0)
        assert learner.state == altered(state, features=("0", "1"))


def test_a_weight_counts_like_rows_within_a_step() -> None:
    """At fixed clusters, without forgetting: weight 2 is the row twice."""
    learner = KMeans(3, "keep-all", 40, restructuring=False, seed=3)
    learner.learn_many(rows_of(100))
    twice = copy.deepcopy(learner)
    X = rows_of(60, seed=9)
    learner.learn_many(X, w=np.full(60, 2.0))
    twice.learn_many(np.vstack([X, X]))
    left, right = se.clusters(learner.model, learner.state), se.clusters(twice.model, twice.state)
    np.testing.assert_allclose(left.means, right.means, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(left.counts, right.counts)


def test_weight_zero_teaches_nothing(learner, phishing) -> None:
    for x in phishing[:60]:
        learner.learn_one(x)
    before = learner.centers
    learner.learn_one(dict.fromkeys(phishing[0], 77.0), w=0.0)
    assert learner.centers == before


@pytest.mark.parametrize("split", [0, 10, 60])
def test_what_is_no_number_is_refused_and_changes_nothing(learner, phishing, split) -> None:
    for x in phishing[:split]:
        learner.learn_one(x)
    before = pickle.dumps(learner)
    for bad in (math.inf, -math.inf, 1e200, "red", [1.0], object()):
        for x in ({**phishing[0], next(iter(phishing[0])): bad}, {**phishing[0], "new": bad}):
            with pytest.raises(RowsError, match=r"finite|number"):
                learner.learn_one(x)
            assert pickle.dumps(learner) == before


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, 1e200])
def test_a_weight_that_is_none_is_refused(learner, phishing, weight: float) -> None:
    for x in phishing[:50]:
        learner.learn_one(x)
    before = learner.state
    with pytest.raises(RowsError, match=r"weight .* expected a number from 0 to 1e\+100"):
        learner.learn_one(phishing[0], w=weight)
    assert learner.state == before


def test_what_cannot_be_predicted_says_nothing_of_learning(learner, phishing) -> None:
    for x in phishing[:50]:
        learner.learn_one(x)
    with pytest.raises(RowsError, match=r"expected a finite number .* impute such rows$"):
        learner.predict_one({**x, next(iter(x)): math.inf})


def test_missing_values_never_poison(learner, phishing) -> None:
    """However a value is missing, the learner is the same, and all it says is finite."""
    draw, none, absent = np.random.default_rng(4), copy.deepcopy(learner), copy.deepcopy(learner)
    may_lack = list(phishing[0])[:3]
    for x in phishing[:70]:
        lost = {name for name in may_lack if draw.random() < 0.4}
        learner.learn_one({name: math.nan if name in lost else x[name] for name in x})
        none.learn_one({name: None if name in lost else x[name] for name in x})
        absent.learn_one({name: x[name] for name in x if name not in lost})
    assert none.state == absent.state == learner.state
    assert all(math.isfinite(v) for mean in learner.centers.values() for v in mean.values())
    assert math.isfinite(learner.score_one(x))


@pytest.mark.parametrize("word", ["full", "tied", "diag", "spherical"])
def test_missing_values_are_expected_from_those_seen(word: str) -> None:
    """Half of the cells of one feature lack; the means are found as if they did not."""
    learner, draw = GaussianMixture(3, word, seeding_rows=100, seed=1), np.random.default_rng(2)
    for row in rows_of(600):
        x = event(row)
        if draw.random() < 0.3:
            x.pop("b" if draw.random() < 0.5 else "a")
        learner.learn_one(x)
    slots = [learner.predict_one(event(centre)) for centre in CENTRES]
    assert sorted(slots) == [0, 1, 2]
    for slot, centre in zip(slots, CENTRES, strict=True):
        assert list(learner.centers[slot].values()) == pytest.approx(centre.tolist(), abs=0.8)
    assert learner.predict_one({"a": 9.0}) == slots[1]


def test_a_short_half_life_follows_a_drift_that_a_long_one_does_not() -> None:
    quick = KMeans(2, forgetting=30, seeding_rows=40, seed=1)
    slow = KMeans(2, forgetting="keep-all", seeding_rows=40, seed=1)
    draw = np.random.default_rng(3)
    for number in range(400):
        value = draw.normal() + 20 * (number % 2) + (5.0 if number > 200 else 0.0)
        quick.learn_one({"a": value})
        slow.learn_one({"a": value})
    least = min(mean["a"] for mean in quick.centers.values())
    assert abs(least - 5) < 1
    assert min(mean["a"] for mean in slow.centers.values()) < 4


def test_what_mutate_may_change_takes_effect(phishing) -> None:
    learner = GaussianMixture(2, seeding_rows=40, seed=1)
    for x in phishing:
        learner.learn_one(x)
    before = learner.state
    learner.mutate({})
    assert learner.state == before
    learner.mutate({"forgetting": 25.0, "refresh": 0.0})
    assert learner.model.forgetting == se.HalfLife(events=25.0)
    assert learner.state == before
    state, _ = se.step(learner.model, before, [list(dict(sorted(x.items())).values())])
    learner.learn_one(x)
    assert learner.state == state
    with pytest.raises(SettingsError, match="forgetting"):
        learner.mutate({"forgetting": "keep-most"})
    assert learner.forgetting == 25.0
    with pytest.raises(ValueError, match="n_components"):
        learner.mutate({"n_components": 4})


def test_a_state_leads_back_to_the_rest_of_the_house(tmp_path) -> None:
    learner = GaussianMixture(3, seeding_rows=40, seed=1)
    learner.learn_many(rows_of(300))
    se.save(tmp_path / "saved", learner.model, learner.state)
    model, state = se.load(tmp_path / "saved")
    assert (model, state) == (learner.model, learner.state)
    X = rows_of(50, seed=8)
    scores = se.score(model, state, X)
    np.testing.assert_array_equal(scores.slots[scores.labels], learner.predict_many(X))
