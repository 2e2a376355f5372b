"""partial_fit is the engine's step; fit and partial_fit go on from each other."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score

import stream_em as se
from stream_em.sklearn import GaussianMixture, KMeans, SoftKMeans

ALL = (KMeans, SoftKMeans, GaussianMixture)
PAIRS = [
    (KMeans(3, random_state=1), se.KMeans(3)),
    (KMeans(3, random_state=1, forgetting=se.HalfLife(900)), se.KMeans(3, se.HalfLife(900))),
    (SoftKMeans(3, beta=0.5, random_state=1), se.SoftKMeans(3, 0.5)),
    (GaussianMixture(3, random_state=1), se.GaussianMixture(3)),
    (
        GaussianMixture(3, covariance_type="diag", prior=False, background=False, init_size=400),
        se.GaussianMixture(
            3, se.Diagonal(), seeding=se.Seeding(rows=400), prior=None, background=None
        ),
    ),
]


def batches(X, rows=150):
    return [X[start : start + rows] for start in range(0, len(X), rows)]


def nearest(found, centres):
    """The distance of each true centre to the nearest found one."""
    return np.linalg.norm(found[:, None] - centres, axis=2).min(axis=0)


def recovered(means, centres):
    return bool((nearest(np.asarray(means), centres) < 0.5).all())


@pytest.mark.parametrize(("estimator", "model"), PAIRS, ids=lambda value: str(value)[:40])
def test_partial_fit_is_step(blobs, estimator, model):
    """Same model, same seed, same batches: the same state, bit for bit."""
    X, _ = blobs
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    state = None
    for rows, w in zip(batches(X), batches(weights), strict=True):
        estimator.partial_fit(rows, sample_weight=w)
        assert estimator.model_ == model
        state = se.init(model, estimator.state_.seed) if state is None else state
        state, _ = se.step(model, state, rows, weights=w)
        assert estimator.state_ == state
    assert estimator.n_steps_ == len(batches(X))
    found = se.clusters(estimator.model_, estimator.state_)
    means = vars(estimator).get("means_", vars(estimator).get("cluster_centers_"))
    assert np.array_equal(means, found.means)


@pytest.mark.parametrize("kind", ALL)
def test_a_stream_finds_the_clusters(blobs, kind):
    X, centres = blobs
    estimator = kind(3, random_state=0)
    for rows in batches(X):
        assert estimator.partial_fit(rows) is estimator
        assert estimator.labels_.shape == (len(rows),)
    means = vars(estimator).get("means_", vars(estimator).get("cluster_centers_"))
    assert recovered(means, centres)
    assert np.array_equal(estimator.predict(rows), estimator.labels_)


@pytest.mark.parametrize("kind", ALL)
def test_a_stream_of_single_rows_answers_from_the_first(blobs, kind):
    X, _ = blobs
    estimator = kind(3, random_state=0, init_size=20)
    for row in X[:30]:
        estimator.partial_fit(row[None])
        assert 0 <= estimator.labels_[0] < 3
    assert len(np.unique(estimator.predict(X))) == 3


@pytest.mark.parametrize("kind", ALL)
def test_a_stream_goes_on_from_a_fit(blobs, kind):
    X, centres = blobs
    half_life = se.HalfLife(events=200)
    estimator = kind(3, random_state=0, forgetting=half_life).fit(X)
    means = vars(estimator).get("means_", vars(estimator).get("cluster_centers_"))
    shift = np.array([0.0, 3.0])
    for rows in batches(X + shift):
        estimator.partial_fit(rows)
    later = vars(estimator).get("means_", vars(estimator).get("cluster_centers_"))
    assert recovered(later, centres + shift)
    assert np.abs(later - means - shift).max() < 0.5  # labels keep their meaning
    assert estimator.state_.total_events == 2 * len(X)


@pytest.mark.parametrize("kind", ALL)
def test_fit_forgets_what_was_streamed(blobs, kind):
    X, _ = blobs
    streamed = kind(3, random_state=0)
    for rows in batches(X + 100):
        streamed.partial_fit(rows)
    streamed.fit(X[:200])
    assert streamed.state_ == kind(3, random_state=0).fit(X[:200]).state_


@pytest.mark.parametrize("kind", ALL)
def test_a_stream_can_begin_from_given_means(blobs, kind):
    X, centres = blobs
    given = {"means_init": centres} if kind is GaussianMixture else {"init": centres}
    estimator = kind(3, random_state=0, **given).partial_fit(X[:50])
    assert adjusted_rand_score(estimator.predict(X), nearest_label(X, centres)) == 1.0
    assert np.array_equal(estimator.predict(centres), [0, 1, 2])


def nearest_label(X, centres):
    return np.linalg.norm(X[:, None] - centres, axis=2).argmin(axis=1)


def test_outliers_do_not_move_a_streamed_mixture(blobs):
    """The background takes them; what is described and scored are the components alone."""
    X, centres = blobs
    draw = np.random.default_rng(0)
    outliers = draw.random(len(X)) < 0.05
    X = np.where(outliers[:, None], draw.uniform(-200, 200, X.shape), X)
    estimator = GaussianMixture(3, random_state=0)
    for rows in batches(X):
        estimator.partial_fit(rows)
    assert recovered(estimator.means_, centres)
    assert estimator.state_.background is not None
    np.testing.assert_allclose(estimator.weights_.sum(), 1.0)
    np.testing.assert_allclose(estimator.predict_proba(X).sum(axis=1), 1.0)
    logs = [
        np.log(w) - 0.5 * np.einsum("nd,de,ne->n", X - m, P, X - m)
        + 0.5 * np.linalg.slogdet(P)[1] - np.log(2 * np.pi)
        for w, m, P in zip(
            estimator.weights_, estimator.means_, estimator.precisions_, strict=True
        )
    ]  # fmt: skip
    expected = np.logaddexp.reduce(logs)
    np.testing.assert_allclose(estimator.score_samples(X), expected, rtol=1e-8)


def test_a_component_is_born_where_a_stream_after_a_fit_goes(blobs):
    """The engine that follows a fit has a background of its own to give births from."""
    X, centres = blobs
    draw = np.random.default_rng(0)
    estimator = GaussianMixture(4, random_state=0).fit(X)
    for _ in range(20):
        here = draw.random(150) < 0.5
        new = draw.normal(size=(150, 2)) + 40.0
        estimator.partial_fit(np.where(here[:, None], X[draw.integers(len(X), size=150)], new))
    assert recovered(estimator.means_, np.vstack([centres, [40.0, 40.0]]))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_weight_of_two_is_a_row_twice_beyond_the_seeding_sample(kind):
    """With more rows than are seeded from, in any order, where every start ends elsewhere."""
    draw = np.random.default_rng(0)
    X = draw.normal(size=(9000, 2))
    weights = draw.integers(0, 3, size=len(X))
    weighted = kind(7, random_state=0, max_iter=1).fit(X, sample_weight=weights)
    repeated = kind(7, random_state=0, max_iter=1).fit(draw.permutation(X.repeat(weights, axis=0)))
    assert np.array_equal(weighted.predict(X), repeated.predict(X))
    a = vars(weighted).get("means_", vars(weighted).get("cluster_centers_"))
    b = vars(repeated).get("means_", vars(repeated).get("cluster_centers_"))
    np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


def test_starts_are_found_where_the_weight_is():
    draw = np.random.default_rng(0)
    heavy = np.repeat([[0.0, 0.0], [3.0, 0.0]], 20, axis=0) + 0.1 * draw.normal(size=(40, 2))
    light = draw.uniform([0.0, 50.0], [10.0, 60.0], size=(500, 2))
    weights = np.repeat([1.0, 1e-6], [40, 500])
    found = KMeans(2, random_state=0, max_iter=1)
    found.fit(np.vstack([heavy, light]), sample_weight=weights)
    np.testing.assert_allclose(np.sort(found.cluster_centers_[:, 0]), [0, 3], atol=0.1)


@pytest.mark.parametrize("kind", ALL)
def test_a_fit_leaves_the_window_of_its_policy(kind):
    """What a stream holds on to is no more after a fit than after as many streamed rows."""
    X = np.random.default_rng(0).normal(size=(4000, 2))
    found = kind(2, random_state=0).fit(X, sample_weight=np.full(4000, 2.0))
    model, state = found.model_, found.state_
    window = model.forgetting.window(8000, model.smallest_window(2))
    assert window < 5000
    np.testing.assert_allclose(state.window.weight, window)
    np.testing.assert_allclose(state.moments.step.sum(), window)
    np.testing.assert_allclose(state.moments.objective.sum(), 8000)
    assert (state.learned, state.total_events, state.window.clock) == (4000, 4000, 8000)


@pytest.mark.parametrize("kind", ALL)
def test_wrong_rows_leave_the_state_as_it_was(blobs, kind):
    X, _ = blobs
    estimator = kind(3, random_state=0).partial_fit(X[:500])
    before = estimator.state_
    with pytest.raises(ValueError, match=r"3 features, but .* is expecting 2"):
        estimator.partial_fit(np.ones((2, 3)))
    with pytest.raises(ValueError, match="NaN"):
        estimator.partial_fit([[np.nan, 0.0]])
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        estimator.partial_fit(X[:2], sample_weight=[1.0, -1.0])
    assert estimator.state_ is before


@pytest.mark.parametrize("kind", ALL)
def test_a_failed_fit_is_no_fit(kind):
    estimator = kind(3)
    with pytest.raises(ValueError, match="n_samples=2 should be >= 3"):
        estimator.fit([[0.0], [1.0]])
    with pytest.raises(NotFittedError):
        estimator.predict([[0.0]])


@pytest.mark.parametrize(
    ("kind", "wrong", "told"),
    [
        (KMeans, {"n_clusters": 0}, "n_clusters is 0, expected a whole number"),
        (KMeans, {"n_clusters": 2.5}, "n_clusters is 2.5"),
        (KMeans, {"init": "best"}, r"init is 'best', expected 'k-means\+\+', 'random', an array"),
        (KMeans, {"init": lambda X, K, random_state: X}, r"what init answers came in shape"),
        (KMeans, {"init": [[1.0]]}, r"init came in shape \(1, 1\), expected \(8, 2\)"),
        (KMeans, {"forgetting": 0.5}, r"forgetting is 0.5, .* HalfLife\(events=...\)"),
        (KMeans, {"forgetting": se.EventTimeHalfLife(9)}, "rows have no event times"),
        (KMeans, {"restructuring": "yes"}, "restructuring is 'yes', expected True, False"),
        (KMeans, {"n_init": "many"}, "n_init is 'many'"),
        (SoftKMeans, {"beta": -1.0}, "beta is -1.0"),
        (SoftKMeans, {"tol": -1}, "tol is -1"),
        (GaussianMixture, {"covariance_type": "round"}, "expected one of 'full', 'tied'"),
        (GaussianMixture, {"max_iter": 0}, "max_iter is 0"),
        (GaussianMixture, {"prior": 1.0}, r"prior is 1.0, expected True, False or Prior"),
        (GaussianMixture, {"weights_init": [-1.0]}, "weights_init are"),
        (GaussianMixture, {"weights_init": [5.0]}, "weights_init are .* divide them by their sum"),
        (GaussianMixture, {"means_init": [[np.nan, 0]]}, "means_init holds values"),
        (GaussianMixture, {"precisions_init": [[[1, 0], [0, -1]]]}, "no full precisions"),
        (GaussianMixture, {"precisions_init": [[[0, 0], [0, 0]]]}, "no full precisions"),
    ],
)
def test_what_is_wrong_is_told_by_its_name(blobs, kind, wrong, told):
    with pytest.raises(se.StreamEmError, match=told) as raised:
        kind(**wrong).fit(blobs[0])
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("kind", [KMeans, SoftKMeans])
def test_centres_from_random_rows_or_a_function(blobs, kind):
    X, _ = blobs
    seen = []

    def last_rows(X, n_clusters, random_state):
        seen.append((X.shape, random_state.randint(2**31 - 1)))
        return X[-n_clusters:]

    given = kind(3, init=X[-3:], max_iter=5).fit(X)
    called = kind(3, init=last_rows, max_iter=5, n_init=2, random_state=0).fit(X)
    assert np.array_equal(called.cluster_centers_, given.cluster_centers_)
    assert [shape for shape, _ in seen] == [X.shape] * 2
    assert len(set(seen)) == 2
    kind(3, init=last_rows, max_iter=5, random_state=0).fit(X)
    assert len(seen) == 2 + 10  # as in scikit-learn
    one, two = (kind(3, init="random", random_state=0).fit(X) for _ in range(2))
    assert np.array_equal(one.cluster_centers_, two.cluster_centers_)
    assert one.inertia_ == pytest.approx(kind(3, random_state=0).fit(X).inertia_, rel=1e-3)
    weights = np.repeat([0.0, 1.0], [2990, 10])
    few = kind(10, init="random", n_init=1, max_iter=1, tol=1e9, random_state=0)
    found = few.fit(X, sample_weight=weights).cluster_centers_
    if kind is KMeans:
        np.testing.assert_allclose(np.sort(found, axis=0), np.sort(X[-10:], axis=0))


@pytest.mark.parametrize("kind", [KMeans, SoftKMeans])
def test_a_stream_chooses_among_its_first_rows(blobs, kind):
    X, _ = blobs
    found = kind(3, init="random", random_state=0).partial_fit(X[:3])
    np.testing.assert_allclose(np.sort(found.cluster_centers_, axis=0), np.sort(X[:3], axis=0))
    with pytest.raises(ValueError, match="'random' came with 3 rows with weight, expected at leas"):
        kind(4, init="random").partial_fit(X[:3])


def test_a_stream_takes_all_starting_values_or_none(blobs):
    estimator = GaussianMixture(3, weights_init=[0.2, 0.3, 0.5])
    assert estimator.fit(blobs[0]).converged_
    with pytest.raises(ValueError, match="give means_init too"):
        GaussianMixture(3, weights_init=[0.2, 0.3, 0.5]).partial_fit(blobs[0])


@pytest.mark.parametrize("kind", ALL)
def test_fewer_distinct_rows_than_clusters(kind):
    rows = [[0.0], [0.0], [5.0], [5.0]]
    with pytest.warns(se.StreamEmWarning, match="found 2 clusters, asked for 3"):
        found = kind(3, random_state=0).fit(rows)
    assert found.labels_[0] == found.labels_[1] != found.labels_[2] == found.labels_[3]
    means = vars(found).get("means_", vars(found).get("cluster_centers_"))
    np.testing.assert_allclose(np.sort(means.ravel()), [0.0, 5.0], atol=0.1)
    starts = GaussianMixture(3, weights_init=[0.2, 0.3, 0.5])
    with (
        pytest.warns(se.StreamEmWarning),
        pytest.raises(ValueError, match="for 3 components, but the rows have only 2 distinct"),
    ):
        starts.fit(rows)


def test_parameters_set_later_wait_for_the_next_fit(blobs):
    X, _ = blobs
    found = GaussianMixture(3, covariance_type="tied", random_state=0).fit(X)
    found.set_params(covariance_type="diag", n_components=2)
    assert found.partial_fit(X).covariances_.shape == (2, 2)
    assert found.sample(7)[0].shape == (7, 2)
    assert found.fit(X).covariances_.shape == (2, 2)
    assert found.means_.shape == (2, 2)


@pytest.mark.parametrize("kind", ALL)
def test_more_starts_are_never_worse_and_sometimes_better(kind):
    X, gains = np.random.default_rng(5).normal(size=(400, 5)), []
    for seed in range(4):
        one = kind(12, random_state=seed).fit(X)
        many = kind(12, random_state=seed, n_init=5).fit(X)
        gains.append(many.score(X) - one.score(X))
    assert min(gains) >= -1e-3
    assert max(gains) > 1e-3


@pytest.mark.parametrize("shape", ["full", "tied", "diag", "spherical"])
def test_samples_have_the_moments_of_the_mixture(blobs, shape):
    X, _ = blobs
    found = GaussianMixture(3, covariance_type=shape, random_state=0).fit(X @ [[1, 0.5], [0, 2]])
    rows, labels = found.sample(20_000)
    assert rows.shape == (20_000, 2)
    np.testing.assert_allclose(np.bincount(labels) / 20_000, found.weights_, atol=0.02)
    again = GaussianMixture(
        3, covariance_type=shape, means_init=found.means_, random_state=0
    ).fit(rows)  # fmt: skip
    np.testing.assert_allclose(again.means_, found.means_, atol=0.15)
    np.testing.assert_allclose(again.covariances_, found.covariances_, atol=0.2)


def test_soft_k_means_samples_about_its_centres(blobs):
    found = SoftKMeans(3, beta=2.0, random_state=0).fit(blobs[0])
    rows, labels = found.sample(6000)
    moved = rows - found.cluster_centers_[labels]
    np.testing.assert_allclose(moved.var(axis=0), [0.25, 0.25], rtol=0.1)
    assert np.array_equal(found.predict(rows), labels)
