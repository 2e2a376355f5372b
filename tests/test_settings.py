"""Settings: frozen values that compare, print and travel, and say what is wrong with them."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stream_em as se
from stream_em.errors import SettingsError
from stream_em.models.kinds import call, construct, describe

MEANS = [[0.0, 1.0], [2.0, 3.0]]
COVARIANCES = [se.Full(), se.Tied(), se.Diagonal(), se.Spherical(), se.Isotropic(0.5)]
POLICIES = [
    se.KeepAll(),
    se.KeepNothing(),
    se.PowerWindow(),
    se.PowerWindow(1.0, minimum_rows=10),
    se.HalfLife(events=100),
    se.EventTimeHalfLife(seconds=0.5),
    se.EventTimeHalfLife(seconds=60, max_ahead_seconds=3600),
]
PARTS = [se.Seeding(), se.Seeding(rows=7, restarts=1), se.Prior(), se.Prior(2, 0.5, 0)]
MODELS = [
    se.KMeans(2),
    se.KMeans(2, initial_means=MEANS, forgetting=se.HalfLife(10), scaling=se.Standardise()),
    se.SoftKMeans(2),
    se.SoftKMeans(2, beta=1.5, forgetting=se.KeepNothing(), seeding=se.Seeding(rows=3)),
    *(se.GaussianMixture(2, covariance=c) for c in COVARIANCES),
    *(se.GaussianMixture(2, forgetting=f, prior=None) for f in POLICIES),
    se.GaussianMixture(
        2,
        initial_means=np.array(MEANS),
        initial_covariances=np.array([np.eye(2), 2 * np.eye(2)]),
        initial_weights=np.array([0.25, 0.75]),
    ),
    se.GaussianMixture(2, se.Spherical(), initial_means=MEANS, initial_covariances=[1.0, 2]),
    se.KMeans(2, restructuring=None),
    se.KMeans(2, restructuring=se.Restructuring(capacity=10), missing=se.Learn()),
    se.SoftKMeans(2, annealing=se.Annealing(factor=1.5)),
    se.GaussianMixture(2, background=None),
    se.GaussianMixture(2, background=se.Background(0.001), restructuring=None),
    se.GaussianMixture(2, restructuring=se.Restructuring(variable=True), missing=se.Learn()),
]
EVERYTHING = [
    *(("covariance", c) for c in COVARIANCES),
    *(("forgetting", f) for f in POLICIES),
    *(("model", m) for m in MODELS),
    ("seeding", PARTS[0]),
    ("seeding", PARTS[1]),
    ("prior", PARTS[2]),
    ("prior", PARTS[3]),
    ("scaling", se.Standardise()),
    ("missing", se.Learn()),
    ("restructuring", se.Restructuring()),
    ("restructuring", se.Restructuring(2.0, 50, 100, 400, 1, 2, 3, 1e4, True)),
    ("background", se.Background()),
    ("background", se.Background(least_share=0.01)),
    ("annealing", se.Annealing()),
    ("annealing", se.Annealing(1.5, 1.1)),
]
every_setting = pytest.mark.parametrize(
    ("family", "value"), EVERYTHING, ids=lambda v: v if isinstance(v, str) else repr(v)[:40]
)


@every_setting
def test_settings_are_values(family, value):
    """Equal to their copies, hashable, frozen, and printed as the call that makes them."""
    for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert other == value
        assert hash(other) == hash(value)
    assert (
        eval(repr(value), {name: getattr(se, name) for name in se.__all__ if name[0].isupper()})
        == value
    )
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, getattr(value, field.name))


@every_setting
def test_construct_undoes_describe(family, value):
    """Also through JSON, and every keyword is spelled out."""
    table = describe(value)
    assert construct(family, table) == value
    assert construct(family, json.loads(json.dumps(table))) == value
    assert set(table) == {"kind", *(f.name for f in fields(value) if f.init)}
    assert describe(construct(family, table)) == table


def test_different_settings_differ():
    values = [value for _, value in EVERYTHING]
    for i, a in enumerate(values):
        assert [b for b in values[i + 1 :] if a == b] == []


def test_defaults_are_those_of_the_specification():
    assert se.KMeans(3).forgetting == se.PowerWindow(0.8)
    assert se.SoftKMeans(3).forgetting == se.GaussianMixture(3).forgetting == se.PowerWindow(0.6)
    assert se.GaussianMixture(3).covariance == se.Full()
    assert se.GaussianMixture(3).prior == se.Prior(rows=1, scale=0.1, weight=1)
    assert se.KMeans(3).prior is None
    assert se.SoftKMeans(3).beta is None
    assert se.GaussianMixture(3).scaling is None
    assert se.GaussianMixture(3).background == se.Background(least_share=1e-4)
    assert se.KMeans(3).background is se.SoftKMeans(3).background is None
    for model in (se.KMeans(3), se.SoftKMeans(3), se.GaussianMixture(3)):
        assert model.restructuring == se.Restructuring(4.0, 1000, 500, 10_000, 3, 4, 1, None, False)
        assert model.missing is None
    assert se.Seeding() == se.Seeding(rows=None, restarts=8, lloyd_steps=10, em_steps=10)


@given(
    st.integers(1, 10**6),
    st.one_of(st.none(), st.floats(1e-6, 1e6)),
    st.floats(0.01, 1.0),
    st.floats(1e-3, 1e9),
)
def test_any_table_survives_the_round_trip(K, beta, alpha, events):
    for policy in (se.PowerWindow(alpha), se.HalfLife(events)):
        model = se.SoftKMeans(K, beta=beta, forgetting=policy)
        assert construct("model", json.loads(json.dumps(describe(model)))) == model


def test_array_likes_of_any_kind_give_equal_settings():
    given_as = [MEANS, np.array(MEANS), tuple(map(tuple, MEANS)), [np.array(row) for row in MEANS]]
    assert len({se.KMeans(2, initial_means=means) for means in given_as}) == 1


REFUSED = [
    (lambda: se.KMeans(0), "n_clusters is 0.*at least 1"),
    (lambda: se.KMeans(-3), "n_clusters"),
    (lambda: se.KMeans(2.5), "n_clusters is 2.5.*whole"),
    (lambda: se.KMeans(3.0), "n_clusters is 3.0.*whole"),
    (lambda: se.KMeans("3"), "n_clusters is '3'"),
    (lambda: se.KMeans(True), "n_clusters is True"),
    (lambda: se.KMeans(None), "n_clusters is None"),
    (lambda: se.KMeans(float("nan")), "n_clusters is nan"),
    (lambda: se.GaussianMixture(float("inf")), "n_components is inf"),
    (lambda: se.KMeans(2, forgetting=None), r"KeepAll\(\).*KeepNothing\(\)"),
    (lambda: se.SoftKMeans(2, forgetting=None), "KeepAll.*KeepNothing"),
    (lambda: se.GaussianMixture(2, forgetting=None), "KeepAll.*KeepNothing"),
    (lambda: se.KMeans(2, forgetting=se.KeepAll), "forgetting"),
    (lambda: se.KMeans(2, forgetting="keep-all"), "forgetting is 'keep-all'"),
    (lambda: se.KMeans(2, seeding=None), "seeding is None"),
    (lambda: se.KMeans(2, scaling=True), "scaling is True.*Standardise"),
    (lambda: se.KMeans(2, prior=se.Prior()), "prior"),
    (lambda: se.GaussianMixture(2, prior=0.1), r"prior is 0.1.*Prior\(.*None"),
    (lambda: se.KMeans(2, restructuring=True), r"restructuring is True.*Restructuring\(.*None"),
    (lambda: se.KMeans(2, background=se.Background()), "background is Background"),
    (lambda: se.KMeans(2, missing="learn"), r"missing is 'learn'.*Learn\(.*None"),
    (lambda: se.GaussianMixture(2, background=0.1), r"background is 0.1.*Background\(.*None"),
    (lambda: se.SoftKMeans(2, annealing=1.2), r"annealing is 1.2.*Annealing\(.*None"),
    (lambda: se.Restructuring(threshold=-1), "threshold is -1"),
    (lambda: se.Restructuring(capacity=0), "capacity is 0"),
    (lambda: se.Restructuring(every_rows=2.5), "every_rows is 2.5.*whole"),
    (lambda: se.Restructuring(moves=-1), "moves is -1"),
    (lambda: se.Restructuring(max_ratio=-1), "max_ratio is -1"),
    (lambda: se.Restructuring(variable=1), "variable is 1.*true or false"),
    (lambda: se.Background(0), "least_share is 0"),
    (lambda: se.Background(1.0), "least_share is 1.0"),
    (lambda: se.Annealing(start=0.5), "start is 0.5"),
    (lambda: se.Annealing(factor=1), "factor is 1"),
    (lambda: se.GaussianMixture(2, covariance="full"), r"covariance is 'full'.*Full\(\)"),
    (lambda: se.GaussianMixture(2, covariance=se.Full), "covariance"),
    (lambda: se.GaussianMixture(2, covariance=None), "covariance is None"),
    (lambda: se.SoftKMeans(2, beta=0), "beta is 0"),
    (lambda: se.SoftKMeans(2, beta=-1.0), "beta is -1.0"),
    (lambda: se.SoftKMeans(2, beta=float("inf")), "beta is inf"),
    (lambda: se.SoftKMeans(2, beta="hot"), "beta is 'hot'"),
    (lambda: se.Isotropic(0), "variance is 0"),
    (lambda: se.Isotropic(-1.0), "variance"),
    (lambda: se.Isotropic(float("nan")), "variance is nan"),
    (lambda: se.PowerWindow(0), "alpha is 0"),
    (lambda: se.PowerWindow(1.5), "alpha is 1.5.*at most 1"),
    (lambda: se.PowerWindow("fast"), "alpha is 'fast'"),
    (lambda: se.PowerWindow(0.6, minimum_rows=0), "minimum_rows is 0"),
    (lambda: se.HalfLife(0), "events is 0"),
    (lambda: se.HalfLife(-5), "events is -5"),
    (lambda: se.HalfLife(float("inf")), "events is inf"),
    (lambda: se.HalfLife(True), "events is True"),
    (lambda: se.EventTimeHalfLife(0), "seconds is 0"),
    (lambda: se.EventTimeHalfLife(1, max_ahead_seconds=-1), "max_ahead_seconds is -1"),
    (lambda: se.Seeding(rows=0), "rows is 0"),
    (lambda: se.Seeding(rows=2.0), "rows is 2.0.*whole"),
    (lambda: se.Seeding(restarts=0), "restarts is 0"),
    (lambda: se.Seeding(lloyd_steps=-1), "lloyd_steps is -1"),
    (lambda: se.Prior(rows=-1), "rows is -1"),
    (lambda: se.Prior(scale=float("nan")), "scale is nan"),
    (lambda: se.init(se.KMeans(2), seed=-1), "seed is -1"),
    (lambda: se.init(se.KMeans(2), seed=0.5), "seed is 0.5"),
    (lambda: se.init(se.KMeans(2), seed=None), "seed is None"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_wrong_value_is_named_with_what_to_do(make, message):
    with pytest.raises(SettingsError, match=message) as caught:
        make()
    assert len(str(caught.value)) > 20


def mixture(**given):
    return se.GaussianMixture(2, **{"initial_means": MEANS, **given})


WRONG_STARTS = [
    (lambda: se.KMeans(3, initial_means=MEANS), r"initial_means came in shape \(2, 2\).*K = 3"),
    (lambda: se.KMeans(2, initial_means=[1.0, 2.0]), "initial_means came in shape"),
    (lambda: se.KMeans(2, initial_means="means"), "initial_means"),
    (lambda: se.KMeans(2, initial_means=[[1.0], [2.0, 3.0]]), "initial_means"),
    (lambda: se.KMeans(2, initial_means=[[], []]), "initial_means"),
    (lambda: se.KMeans(2, initial_means=[[1.0], [np.nan]]), "initial_means.*finite"),
    (lambda: se.KMeans(2, initial_means=[[1.0], [np.inf]]), "initial_means.*finite"),
    (lambda: se.KMeans(2, initial_means=[[1.0], [1e200]]), "initial_means"),
    (lambda: mixture(initial_means=None, initial_weights=[0.5, 0.5]), "go with initial_means"),
    (lambda: mixture(initial_means=None, initial_covariances=[1, 1]), "go with initial_means"),
    (lambda: mixture(initial_weights=[1.0]), "initial_weights"),
    (lambda: mixture(initial_weights=[0.0, 0.0]), "initial_weights.*positive sum"),
    (lambda: mixture(initial_weights=[-1.0, 2.0]), "initial_weights"),
    (lambda: mixture(initial_weights=[np.nan, 1.0]), "initial_weights"),
    (lambda: mixture(initial_weights=[np.inf, 1.0]), "initial_weights"),
    (lambda: mixture(initial_weights="equal"), "initial_weights"),
    (lambda: mixture(initial_covariances=np.eye(2)), "initial_covariances.*shape"),
    (lambda: mixture(initial_covariances=[np.eye(2), -np.eye(2)]), "positive definite"),
    (lambda: mixture(initial_covariances=np.full((2, 2, 2), np.nan)), "initial_covariances"),
    (lambda: mixture(initial_covariances=[[[1, 0.9], [0, 1]]] * 2), "initial_covariances.*symm"),
    (lambda: mixture(initial_covariances="wide"), "initial_covariances"),
    (
        lambda: mixture(covariance=se.Diagonal(), initial_covariances=[[1.0, 0.0], [1.0, 1.0]]),
        "initial_covariances",
    ),
    (
        lambda: mixture(covariance=se.Spherical(), initial_covariances=[1.0, np.inf]),
        "initial_covariances",
    ),
    (
        lambda: mixture(covariance=se.Isotropic(1.0), initial_covariances=[1.0, 1.0]),
        "initial_covariances.*Isotropic",
    ),
]


@pytest.mark.parametrize(
    ("make", "message"), WRONG_STARTS, ids=[f"{i}" for i in range(len(WRONG_STARTS))]
)
def test_wrong_starting_values(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


WRONG_TABLES = [
    ("model", {"kind": "kmean", "n_clusters": 2}, "model.kind is 'kmean'.*did you mean 'kmeans'"),
    ("model", {"kind": "kmeans", "n_cluster": 2}, "model.n_cluster is.*mean 'n_clusters'"),
    ("model", {"kind": "kmeans"}, "model.n_clusters is missing"),
    ("model", {"n_clusters": 2}, "model has no `kind`.*kmeans"),
    ("model", 7, "model is 7.*kmeans"),
    ("model", "tree", "known are: gaussian-mixture, kmeans, soft-kmeans"),
    ("model", {"kind": "kmeans", "n_clusters": "2"}, "model.n_clusters is '2'.*int"),
    ("model", {"kind": "kmeans", "n_clusters": True}, "model.n_clusters"),
    ("model", {"kind": "kmeans", "n_clusters": 0}, "model.*n_clusters is 0"),
    (
        "model",
        {"kind": "gaussian-mixture", "n_components": 2, "covariance": "diagnal"},
        "model.covariance.kind is 'diagnal'.*did you mean 'diagonal'",
    ),
    (
        "model",
        {"kind": "kmeans", "n_clusters": 2, "forgetting": {"kind": "half-life", "event": 3}},
        "model.forgetting.event is unknown.*did you mean 'events'",
    ),
    (
        "model",
        {"kind": "kmeans", "n_clusters": 2, "forgetting": {"kind": "half-life", "events": "3"}},
        "model.forgetting.events is '3'",
    ),
    ("forgetting", "half-live", "did you mean 'half-life'"),
    ("forgetting", "half-life", "forgetting.events is missing"),
    ("covariance", "isotropic", "covariance.variance is missing"),
    (
        "model",
        {"kind": "kmeans", "n_clusters": 2, "restructuring": {"kind": "restructuring", "move": 1}},
        "model.restructuring.move is unknown.*did you mean 'moves'",
    ),
]


@pytest.mark.parametrize(("family", "table", "message"), WRONG_TABLES)
def test_a_wrong_table_says_where_and_what_was_meant(family, table, message):
    with pytest.raises(SettingsError, match=message):
        construct(family, table)


def test_bare_names_and_whole_numbers_are_understood():
    table = {"kind": "gaussian-mixture", "n_components": 4, "covariance": "tied"}
    table["forgetting"] = {"kind": "half-life", "events": 100_000}
    assert construct("model", table) == se.GaussianMixture(
        4, covariance=se.Tied(), forgetting=se.HalfLife(100_000)
    )
    assert call(se.Seeding, {"rows": 9}, "seeding") == se.Seeding(rows=9)
    assert construct("forgetting", "keep-all") == se.KeepAll()
