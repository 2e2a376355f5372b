"""Features that come, go and return; mini-batches in data frames of any kind."""

import collections
import decimal
import fractions
import math
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import stream_em as se
from stream_em.arrays import altered
from stream_em.errors import RowsError, ShapeMismatch
from stream_em.river import GaussianMixture, GaussianMixtureDetector, KMeans, SoftKMeans
from stream_em.river.features import Features
from stream_em.river.widening import WATCHED_FEATURES, WATCHED_ROWS, Watch

FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}


@pytest.mark.parametrize("names", [("a",), ("a", "b"), (3, 1, 2), ("a", 1, None, (2, "b"))])
def test_an_event_becomes_a_row_by_name(names) -> None:
    known = Features().wider(names)
    assert set(known.names) == set(names)
    x = {name: number + 0.5 for number, name in enumerate(reversed(known.names))}
    wanted = [x[name] for name in known.names]
    assert known.row(x).tolist() == known.exact(x).tolist() == wanted
    assert known.row({**x, "more": 1.0}).tolist() == wanted
    assert known.exact({**x, "more": 1.0}) is None
    lacking = known.row({**x, names[0]: None})
    assert np.flatnonzero(np.isnan(lacking)).tolist() == [known.names.index(names[0])]


@pytest.mark.parametrize(
    "value",
    [
        2,
        True,
        np.float32(2),
        np.int64(2),
        np.bool_(True),
        decimal.Decimal(2),
        fractions.Fraction(2),
    ],
)
def test_numbers_of_any_kind(value) -> None:
    known = Features(("a", "b"))
    assert known.row({"a": value, "b": 0}).tolist() == [float(value), 0.0]


@pytest.mark.parametrize("kind", [collections.OrderedDict, collections.UserDict])
def test_mappings_other_than_dicts(kind) -> None:
    assert Features(("a", "b")).row(kind(b=1.0)).tolist()[1] == 1.0


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA])
def test_values_that_are_missing_in_any_way(missing) -> None:
    learner, other = KMeans(2, seed=1), KMeans(2, seed=1)
    for x in ({"a": 1.0, "b": 2.0}, {"a": missing, "b": 5.0, "c": missing}):
        learner.learn_one(x)
        other.learn_one({name: value for name, value in x.items() if value is not missing})
    assert learner.state == other.state
    assert learner.state.features == ("a", "b")
    assert learner.score_one({"a": missing, "b": 5.0}) == other.score_one({"b": 5.0})


def test_dicts_with_a_default_gain_no_keys_by_being_read() -> None:
    for x in (collections.defaultdict(float, a=1.0), collections.Counter(a=1)):
        assert math.isnan(Features(("a", "b")).row(x)[1])
        assert len(x) == 1


@pytest.mark.parametrize(
    "learner",
    [KMeans(3), SoftKMeans(3), GaussianMixture(3), GaussianMixture(3, "diag")],
    ids=lambda it: type(it).__name__,
)
def test_a_feature_that_appears_while_rows_are_held_lacks_in_those_before(learner) -> None:
    learner = learner.clone({"seeding_rows": 60, "refresh": 0.0})
    draw = np.random.default_rng(0)
    X = draw.normal(size=(100, 3)) + 5 * draw.integers(2, size=(100, 1))
    X[:20, 2] = np.nan
    X[:5, 0] = np.nan
    first, second, third = learner.clone({"seed": 1}), learner.clone({"seed": 1}), None
    for row in X.tolist():
        x = dict(zip("bac", row, strict=True))
        first.learn_one({name: value for name, value in x.items() if not math.isnan(value)})
        third = first.centers
        assert set(third[first.predict_one(x)]) <= set("abc")
    assert set(third[first.predict_one(x)]) == set("abc")
    state = se.init(second.model, seed=1)  # the same rows, all features known from the first on
    for row in X[:, [1, 0, 2]]:
        state, _ = se.step(second.model, state, row[None])
    named = altered(state, features=first.state.features, identity=first.state.identity)
    assert first.state.features == ("a", "b", "c")
    assert first.state == named


@pytest.mark.parametrize(
    "learner",
    [
        KMeans(3),
        KMeans(3, standardise=True),
        SoftKMeans(3),
        *(GaussianMixture(3, word) for word in ("full", "tied", "diag", "spherical")),
        GaussianMixture(3, se.Isotropic(2.0)),
    ],
    ids=lambda it: type(it).__name__,
)
def test_provisional_clusters_widen_and_are_found_anew_at_twice_the_rows(learner) -> None:
    learner, draw = learner.clone({"seed": 1}), np.random.default_rng(0)
    for _ in range(16):
        learner.learn_one({"a": draw.normal(), "b": 9.0 * draw.integers(2)})
    before, found = learner.centers, learner.state.identity
    for name in "cde":
        x = {"a": draw.normal(), "b": 9.0 * draw.integers(2), name: draw.normal()}
        learner.learn_one(x)
        assert learner.state.identity == found
        for slot, mean in learner.centers.items():
            assert [mean[old] for old in "ab"] == pytest.approx(list(before[slot].values()))
            assert mean[name] == 0.0
        assert sum(learner.predict_proba_one(x).values()) == pytest.approx(1)
        assert math.isfinite(learner.score_one(x))
        assert learner.score_one({**x, name: 500.0}) > learner.score_one(x)
    for _ in range(13):
        learner.learn_one({"a": draw.normal(), "b": 9.0 * draw.integers(2), "c": draw.normal()})
    assert learner.state.identity != found
    assert any(mean["c"] != 0 for mean in learner.centers.values())


@pytest.mark.parametrize("split", [0, 10, 60])
@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_events_whose_weight_is_refused_leave_no_names(learner, phishing, split, weight) -> None:
    for x in phishing[:split]:
        learner.learn_one(x)
    before = pickle.dumps(learner)
    for _ in range(WATCHED_ROWS + 1):
        with pytest.raises(RowsError, match="weight"):
            learner.learn_one({"typo": 1.0}, w=weight)
    with pytest.raises(RowsError, match="weight"):
        learner.learn_many(pd.DataFrame({"typo": [1.0, 2.0]}), w=[1.0, weight])
    assert pickle.dumps(learner) == before


def test_events_of_weight_zero_leave_no_names(learner, phishing) -> None:
    learner, frame = learner.clone({"seeding_rows": 20}), pd.DataFrame({"typo": [1.0, 2.0]})
    learner.learn_one({"typo": 1.0}, w=0.0)
    learner.learn_many(frame, w=0.0)
    assert learner.state.total_events == 0
    names = tuple(sorted(phishing[0]))
    for x in phishing:
        learner.learn_one(x)
        learner.learn_one({"typo": 1.0}, w=0.0)
        learner.learn_many(frame, w=[0.0, 0.0])
        assert learner.state.features == names
    for _ in range(WATCHED_ROWS + 1):
        learner.learn_one({**x, "typo": 1.0}, w=0.0)
    assert learner.state.features == names


def test_in_a_batch_only_rows_with_weight_tell_names() -> None:
    learner = KMeans(2, seeding_rows=20, seed=1)
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [math.nan, 5.0]})
    learner.learn_many(frame, w=[1.0, 0.0])
    assert learner.state.features == ("a",)
    learner.learn_many(frame, w=2.0)
    assert learner.state.features == ("a", "b")


@pytest.mark.parametrize(
    "learner",
    [
        KMeans(2, seeding_rows=40, seed=1),
        KMeans(2, 200.0, seeding_rows=40, standardise=True, seed=1),
        SoftKMeans(2, 0.3, seeding_rows=40, seed=1),
        *(
            GaussianMixture(2, word, seeding_rows=60, seed=1)
            for word in ("full", "tied", "diag", "spherical")
        ),
        GaussianMixture(2, seeding_rows=60, standardise=True, background=False, seed=1),
        GaussianMixtureDetector(2, background=True, restructuring=True, seeding_rows=60, seed=1),
    ],
    ids=lambda it: type(it).__name__,
)
def test_a_feature_that_appears_later_joins_with_what_was_seen_of_it(learner) -> None:
    learner, draw = learner.clone(), np.random.default_rng(5)

    def drawn(number: int, new: bool) -> dict[str, float]:
        side = number % 2
        x = {"a": 8.0 * side + draw.normal(), "b": draw.normal()}
        return {**x, "c": 100 - 6.0 * side + draw.normal()} if new else x

    for number in range(150):
        learner.learn_one(drawn(number, new=False))
    for number in range(WATCHED_ROWS - 1):
        learner.learn_one(drawn(number, new=True))
    assert set(learner.centers[0]) == {"a", "b"}
    learner.learn_one(drawn(0, new=True))
    assert set(learner.centers[0]) == {"a", "b", "c"}
    for _ in range(2):
        sides = [learner.predict_one({"a": 8.0 * side, "b": 0.0}) for side in (0, 1)]
        assert sides[0] != sides[1]
        for side in (0, 1):
            assert learner.centers[sides[side]]["c"] == pytest.approx(100 - 6 * side, abs=0.6)
            assert learner.predict_one({"c": 100 - 6.0 * side}) == sides[side]
        odd, usual = {"a": 0.0, "b": 0.0, "c": 60.0}, {"a": 0.0, "b": 0.0, "c": 100.0}
        assert learner.score_one(odd) > learner.score_one(usual)
        for number in range(300):  # and goes on from there, past a tick
            learner.learn_one(drawn(number, new=number % 3 > 0))
    assert learner.state.total_events == 150 + WATCHED_ROWS + 600


def test_the_watch_is_bounded() -> None:
    watch = Watch()
    for name in range(WATCHED_FEATURES + 5):
        for _ in range(2):
            watch.see(name, 0, 1.0)
    for _ in range(2 * WATCHED_ROWS):
        watch.see(0, 0, 1.0)
        watch.see("late", 0, 1.0)
    ready = watch.ready()
    assert list(ready) == [0]
    assert len(ready[0]) == WATCHED_ROWS
    assert watch.ready() == {}


@pytest.mark.parametrize("kind", FRAMES.values(), ids=FRAMES.keys())
def test_mini_batches_of_any_frame_match_by_name(learner, phishing, kind) -> None:
    learner = learner.clone({"seed": 1})
    other = learner.clone()
    columns = {name: [x[name] for x in phishing] for name in phishing[0]}
    turned = dict(reversed(columns.items()))
    learner.learn_many(kind(columns))
    other.learn_many(kind(turned))
    assert learner.state == other.state
    X = kind({**turned, "unknown": [1.0] * len(phishing)})
    labels, scores = learner.predict_many(X), learner.score_many(X)
    assert type(labels).__module__.split(".")[0] in ("pandas", "polars", "pyarrow")
    assert np.asarray(labels).tolist() == [learner.predict_one(x) for x in phishing]
    singles = [learner.score_one(x) for x in phishing]
    np.testing.assert_allclose(np.asarray(scores), singles, rtol=1e-9, atol=1e-9)
    shares = learner.predict_proba_many(X)
    assert type(shares).__name__ == ("Table" if kind is pa.table else "DataFrame")
    one = learner.predict_proba_one(phishing[7])
    many = dict(zip(one, np.asarray(shares)[7], strict=True))
    assert many == pytest.approx(one, abs=1e-9)


def test_a_pandas_index_and_integer_columns_are_kept() -> None:
    learner = KMeans(2, seeding_rows=5, seed=1)
    X = pd.DataFrame(np.arange(20.0).reshape(10, 2), index=range(100, 110))
    learner.learn_many(X)
    assert learner.predict_many(X).index.tolist() == list(range(100, 110))
    assert learner.predict_proba_many(X).columns.tolist() == [0, 1]
    assert learner.predict_many(X).tolist() == [
        learner.predict_one({0: a, 1: b}) for a, b in X.to_numpy().tolist()
    ]


def test_frames_with_missing_values_of_every_kind() -> None:
    whole = [[1.0, 2.0], [math.nan, 4.0], [5.0, math.nan], [7.0, 8.0], [2.0, 1.0]]
    nulls = {"a": [1, None, 5, 7, 2], "b": [2.0, 4.0, None, 8.0, 1.0]}
    states = []
    for X in (
        pd.DataFrame(whole, columns=["a", "b"]),
        pd.DataFrame(nulls).convert_dtypes(),
        pl.DataFrame(nulls),
        pa.table(nulls),
    ):
        learner = KMeans(2, seeding_rows=4, seed=1)
        learner.learn_many(X)
        states.append(learner.state)
    assert all(state == states[0] for state in states)


def test_columns_that_come_and_go_between_batches() -> None:
    draw, learner = np.random.default_rng(0), KMeans(2, seeding_rows=50, seed=1)
    frame = pl.DataFrame(draw.normal(size=(400, 3)), schema=["a", "b", "c"])
    learner.learn_many(frame[:100, ["a"]])
    learner.learn_many(frame[100:200, ["b", "a"]])
    assert set(learner.centers[0]) == {"a"}
    learner.learn_many(frame[200:300, ["b"]])
    assert set(learner.centers[0]) == {"a", "b"}
    learner.learn_many(frame[300:])
    assert learner.predict_many(frame[:, ["c", "b"]]).len() == 400
    assert learner.state.total_events == 400


def test_an_empty_batch_changes_nothing(learner, phishing) -> None:
    learner.learn_many(pd.DataFrame({"a": []}, dtype=float))
    learner.learn_many(np.zeros((0, 3)))
    assert learner.centers == {}
    for x in phishing[:50]:
        learner.learn_one(x)
    before = learner.state
    learner.learn_many(pd.DataFrame(phishing[:0], columns=list(phishing[0]), dtype=float))
    assert learner.state == before
    assert len(learner.predict_many(pl.DataFrame(phishing)[:0])) == 0


def test_batches_before_any_event(learner, phishing) -> None:
    X = pd.DataFrame(phishing)
    assert learner.predict_many(X).tolist() == [0] * len(X)
    assert learner.predict_proba_many(X)[0].tolist() == [1.0] * len(X)
    assert learner.score_many(X).tolist() == [0.0] * len(X)


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"a": ["red", "blue"]}),
        pl.DataFrame({"a": [1.0, math.inf]}),
        pl.LazyFrame({"a": [1.0]}),
        [[1.0, "x"]],
        {"a": [1.0]},
        3,
    ],
    ids=lambda it: type(it).__name__,
)
def test_batches_that_hold_no_numbers_are_refused(X) -> None:
    learner = KMeans(2, seed=1)
    with pytest.raises(RowsError):
        learner.learn_many(X)
    assert learner == learner
    assert learner.state == KMeans(2, seed=1).state


@pytest.mark.parametrize("kind", FRAMES.values(), ids=FRAMES.keys())
def test_columns_that_are_not_known_may_hold_anything(learner, phishing, kind) -> None:
    columns = {name: [x[name] for x in phishing] for name in phishing[0]}
    odd = kind({"text": ["a"] * len(phishing), **columns, "more": [math.inf] * len(phishing)})
    unknown = learner.predict_many(odd)
    assert np.asarray(unknown).tolist() == [0] * len(phishing)
    learner.learn_many(kind(columns))
    assert np.array_equal(learner.predict_many(odd), learner.predict_many(kind(columns)))
    assert np.array_equal(learner.score_many(odd), learner.score_many(kind(columns)))
    shares = learner.predict_proba_many(kind({"text": ["a"] * 3}))
    assert np.asarray(shares).shape[0] == 3
    with pytest.raises(RowsError, match="numeric"):
        learner.learn_many(odd)
    with pytest.raises(RowsError, match="not all numeric"):
        learner.predict_many(kind({next(iter(columns)): ["a"]}))


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]),
        pa.table([[1.0], [2.0]], names=["a", "a"]),
    ],
    ids=lambda it: type(it).__name__,
)
def test_columns_of_one_name_are_refused(X) -> None:
    for verb in (KMeans(2).learn_many, KMeans(2).predict_many):
        with pytest.raises(RowsError, match=r"columns of the same name .*'a'.* name of its own"):
            verb(X)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]])
def test_another_number_of_weights_than_rows_is_refused(weights) -> None:
    with pytest.raises(ShapeMismatch, match=r"weights came in shape .*, expected \(2,\)"):
        KMeans(2).learn_many([[1.0], [2.0]], w=weights)


def test_a_flat_array_is_refused() -> None:
    with pytest.raises(ShapeMismatch):
        KMeans(2).learn_many(np.zeros(4))
