"""What bad input gets: a clear error and an unchanged state; and frames of all kinds."""

import copy

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import stream_em as se
from stream_em.errors import RowsError, ShapeMismatch

FEW = se.Seeding(rows=20, restarts=2)
X = np.random.default_rng(0).normal(size=(40, 2))
MODELS = [
    se.KMeans(2, seeding=FEW),
    se.SoftKMeans(2, seeding=FEW),
    se.GaussianMixture(2, seeding=FEW),
    se.GaussianMixture(2, covariance=se.Diagonal(), initial_means=X[:2], prior=None),
]
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.kind)


def stages(model):
    """States before any rows, while rows are held, and with clusters."""
    empty = se.init(model)
    held, _ = se.step(model, empty, X[:5])
    return empty, held, se.step(model, held, X[5:])[0]


def assert_refused(model, error, match, rows=X[:3], **columns):
    """At every stage: the error, from step and from score alike where it concerns rows."""
    for state in stages(model):
        before = copy.deepcopy(state)
        with pytest.raises(error, match=match):
            se.step(model, state, rows, **columns)
        assert state == before
        if not columns:
            with pytest.raises(error, match=match):
                se.score(model, state, rows)


@each_model
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e308, -1e308, 1e101])
def test_values_that_are_no_usable_numbers(model, bad):
    rows = X[:3].copy()
    rows[1, 0] = bad
    assert_refused(model, RowsError, "row 1 .*column 0.*finite", rows)


@each_model
@pytest.mark.parametrize(
    "rows",
    [[["a", "b"]], [["1.0", "x"]], [[None, 1.0]], [[1.0, 2.0], [3.0]], [[object(), 1]], [[{}, 1]]],
    ids=["text", "text in a number", "None", "ragged", "object", "dict"],
)
def test_rows_that_are_no_matrix_of_numbers(model, rows):
    assert_refused(model, RowsError, "number", rows)


@pytest.mark.parametrize(
    "rows", [X[:3] + 1j, X[:3].astype("datetime64[s]")], ids=["complex", "datetime64"]
)
def test_what_converts_to_a_number_but_is_none(rows):
    for model in MODELS:
        assert_refused(model, RowsError, "number", rows)


def test_masked_values_are_missing():
    masked = np.ma.masked_array(X[:3], mask=[[0, 0], [1, 0], [0, 0]])
    for model in MODELS:
        assert_refused(model, RowsError, "row 1 .*column 0", masked)


@pytest.mark.parametrize("rows", [1.0, [1.0, 2.0], np.zeros((2, 2, 2))], ids=["0", "1", "3"])
def test_rows_of_another_shape(rows):
    for model in MODELS:
        assert_refused(model, ShapeMismatch, "shape", rows)


def test_rows_without_features():
    """(n, 0) is no data, and says so instead of failing later."""
    for model in MODELS[:3]:
        with pytest.raises(RowsError, match="feature"):
            se.step(model, se.init(model), np.zeros((3, 0)))


@each_model
@pytest.mark.parametrize("width", [1, 3])
def test_rows_of_another_width(model, width):
    for state in stages(model)[1:]:
        with pytest.raises(ShapeMismatch, match=f"{width} features.*with 2"):
            se.step(model, state, np.zeros((4, width)))
        with pytest.raises(ShapeMismatch):
            se.score(model, state, np.zeros((4, width)))


@each_model
@pytest.mark.parametrize(
    ("weights", "error", "match"),
    [
        ([1.0, -1.0, 1.0], RowsError, "weight -1.0 of row 1"),
        ([1.0, 1.0, np.nan], RowsError, "weight nan of row 2"),
        ([np.inf, 1.0, 1.0], RowsError, "weight inf of row 0"),
        ([1e308, 1.0, 1.0], RowsError, r"row 0.*from 0 to 1e\+100"),
        ([1.0, 1.0], ShapeMismatch, "weights"),
        (["a", "b", "c"], RowsError, "weights"),
        (2.0, ShapeMismatch, "weights"),
    ],
)
def test_weights_that_cannot_be_used(model, weights, error, match):
    assert_refused(model, error, match, weights=weights)


@each_model
@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"labels": [0, 1]}, "labels"),
        ({"labels": [0, 1, 2]}, "between -1"),
        ({"labels": [0, 1, -2]}, "between -1"),
        ({"labels": [0.0, 1.0, 0.5]}, "whole"),
        ({"labels": ["a", "b", "c"]}, "whole"),
        ({"responsibilities": np.full((3, 3), 1 / 3)}, "shape"),
        ({"responsibilities": np.full((3, 2), 0.6)}, "sum to 1"),
        ({"responsibilities": [[1.5, -0.5]] * 3}, ">= 0"),
        ({"responsibilities": [[np.inf, 0.0]] * 3}, "sum to 1"),
        ({"responsibilities": [["a", "b"]] * 3}, "responsibilities"),
        ({"labels": [0, 1, 0], "responsibilities": [[0.5, 0.5]] * 3}, "labels.*responsibilities"),
        ({"times": [0.0, 1.0]}, "times"),
        ({"times": ["a", "b", "c"]}, "times"),
    ],
)
def test_what_comes_beside_rows(model, columns, match):
    assert_refused(model, RowsError, match, **columns)


@each_model
def test_columns_beside_an_empty_batch_may_be_empty_lists(model):
    for state in stages(model):
        for columns in ({"labels": []}, {"weights": []}, {"times": []}):
            after, _ = se.step(model, state, np.zeros((0, 2)), **columns)
            assert after == state


@each_model
def test_numbers_of_every_kind_are_rows(model):
    whole = np.arange(80).reshape(40, 2)
    kinds = [
        whole.astype(np.float64),
        whole.astype(np.float32),
        whole.astype(np.int8),
        np.asfortranarray(whole),
        whole[::-1][::-1],
        whole.tolist(),
        [tuple(row) for row in whole.tolist()],
        whole.astype(object),
    ]
    states = [se.step(model, se.init(model), rows)[0] for rows in kinds]
    assert all(state == states[0] for state in states)


@each_model
def test_the_largest_values_that_are_taken_poison_nothing(model):
    """Rows of 1e100 beside ordinary ones: everything stays finite."""
    state = stages(model)[-1]
    rows = np.concatenate([X, [[1e100, -1e100]], -X])
    for weights in (None, np.full(81, 1e50)):
        after, info = se.step(model, state, rows, weights=weights)
        for part in (X, X + 1):
            after, _ = se.step(model, after, part)
        found, scores = se.clusters(model, after), se.score(model, after, X)
        for values in (found.means, found.covariances, found.weights, scores.squared_distance):
            assert np.isfinite(values).all()
        assert np.isfinite(info.objective)
        assert np.isfinite(scores.responsibilities).all()
        assert found.weights.sum() == pytest.approx(1)


FRAMES = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}
each_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


def columns(rows, *names):
    return {name: rows[:, "ab".index(name)] for name in names}


@each_frame
@each_model
def test_columns_are_taken_by_name(model, frame):
    plain, named = se.init(model), se.init(model)
    for rows in (X[:5], X[5:30], X[30:]):
        plain, info = se.step(model, plain, rows)
        order = "ab" if len(rows) == 5 else "ba"
        named, other = se.step(model, named, frame(columns(rows, *order)))
        assert other == info
    assert named.features == ("a", "b")
    assert named.moments == plain.moments
    assert se.score(model, named, frame(columns(X, *"ba"))) == se.score(model, plain, X)


@each_frame
def test_new_columns_are_ignored_and_counted(frame):
    model = MODELS[0]
    state, info = se.step(model, se.init(model), frame(columns(X, *"ab")))
    assert info.ignored_columns == 0
    more = {"c": ["text"] * 40, **columns(X, *"ba"), "d": np.full(40, np.nan)}
    after, info = se.step(model, state, frame(more))
    assert info.ignored_columns == 2
    assert after == se.step(model, state, X)[0]


@each_frame
def test_absent_columns_count_as_missing(frame):
    model = MODELS[0]
    state, _ = se.step(model, se.init(model), frame(columns(X, *"ab")))
    with pytest.raises(RowsError, match="'b'"):
        se.step(model, state, frame(columns(X, "a")))


@each_frame
def test_missing_and_text_cells_are_named(frame):
    model = MODELS[0]
    state, _ = se.step(model, se.init(model), frame(columns(X, *"ab")))
    with pytest.raises(RowsError, match=r"row 1 .*'a'"):
        se.step(model, state, frame({"a": [1.0, None, 2.0], "b": [1.0, 2.0, 3.0]}))
    when = pd.to_datetime(["2026-01-01", "2026-01-02"])
    with pytest.raises(RowsError, match="'b' is not numeric"):
        se.step(model, state, frame({"a": [1.0, 2.0], "b": when}))
    with pytest.raises(RowsError, match="'b' is not numeric"):
        se.step(model, state, frame({"a": [1.0, 2.0], "b": ["x", "y"]}))


def test_a_frame_of_another_library_may_follow():
    model = MODELS[2]
    state = se.init(model)
    for frame in (*FRAMES.values(), *FRAMES.values()):
        state, _ = se.step(model, state, frame(columns(X[:15], *"ba")))
    assert state.features == ("b", "a")
    assert state.total_events == 90
    counts = se.clusters(model, state).counts.sum()
    assert counts + state.background.objective == pytest.approx(90)


def test_an_array_follows_a_frame_in_the_order_of_its_names():
    model = MODELS[0]
    state, _ = se.step(model, se.init(model), pd.DataFrame({"b": X[:, 1], "a": X[:, 0]}))
    after, _ = se.step(model, state, X[:, ::-1])
    assert after.features == ("b", "a")
    assert after == se.step(model, state, pd.DataFrame(X, columns=["a", "b"]))[0]
