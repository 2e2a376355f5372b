"""In scikit-learn's company: frames, pipelines, searches, pickles, routing, topics of texts."""

import importlib
import io
import pickle
import sys

import joblib
import numpy as np
import pytest
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.random_projection import GaussianRandomProjection

from stream_em.sklearn import GaussianMixture, KMeans, SoftKMeans

ALL = (KMeans, SoftKMeans, GaussianMixture)


@pytest.fixture(params=["pandas", "polars"])
def framed(request):
    """A maker of data frames from rows (n, 2)."""
    library = pytest.importorskip(request.param)
    return lambda X: library.DataFrame({"x": X[:, 0], "y": X[:, 1]})


@pytest.mark.parametrize("kind", ALL)
def test_no_arguments_are_needed(blobs, kind):
    X, _ = blobs
    assert len(kind().fit(X).predict(X[:5])) == 5
    assert len(kind().partial_fit(X).predict(X[:5])) == 5


@pytest.mark.parametrize("kind", ALL)
def test_data_frames(blobs, framed, kind):
    X, _ = blobs
    of_frame, of_array = kind(3, random_state=0).fit(framed(X)), kind(3, random_state=0).fit(X)
    assert of_frame.feature_names_in_.tolist() == ["x", "y"]
    assert np.array_equal(of_frame.predict(framed(X)), of_array.predict(X))
    of_frame.partial_fit(framed(X))
    with pytest.raises(ValueError, match="feature names"):
        of_frame.partial_fit(framed(X).rename(**renamed(framed(X))))


def renamed(frame):
    mapping = {"x": "z"}
    return {"columns": mapping} if type(frame).__module__.startswith("pandas") else {
        "mapping": mapping
    }  # fmt: skip


@pytest.mark.parametrize("kind", [KMeans, SoftKMeans])
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(blobs, library, kind):
    pytest.importorskip(library)
    X, _ = blobs
    found = kind(3, random_state=0).set_output(transform=library)
    table = found.fit_transform(X)
    prefix = kind.__name__.lower()
    assert list(table.columns) == [f"{prefix}{k}" for k in range(3)]
    assert type(table).__module__.startswith(library)
    np.testing.assert_array_equal(np.asarray(table).argmin(axis=1), found.labels_)


@pytest.mark.parametrize("kind", ALL)
def test_other_kinds_of_rows(blobs, kind):
    X, _ = blobs
    X = np.round(X[:300])
    expected = kind(3, random_state=0).fit_predict(X)
    for rows in (X.astype(np.float32), X.astype(np.int64), X.tolist(), np.asfortranarray(X)):
        found = kind(3, random_state=0)
        assert np.array_equal(found.fit_predict(rows), expected)
        assert np.array_equal(found.predict(rows), expected)
    sealed = X.copy()
    kind(3, random_state=0).fit(sealed).partial_fit(sealed, sample_weight=np.ones(300))
    assert sealed.flags.writeable
    assert np.array_equal(sealed, X)


@pytest.mark.parametrize("kind", ALL)
def test_sparse_rows_are_refused_in_scikit_learns_words(blobs, kind):
    rows = scipy.sparse.csr_matrix(blobs[0])
    for learn in (kind().fit, kind().partial_fit, kind(2).fit(blobs[0]).predict):
        with pytest.raises(TypeError, match="Sparse data was passed"):
            learn(rows)


@pytest.mark.parametrize("kind", ALL)
def test_clones_are_unfitted_and_equal(blobs, kind):
    original = kind(3, random_state=7, forgetting=None).fit(blobs[0])
    twin = clone(original)
    assert twin.get_params() == original.get_params()
    assert not twin.__sklearn_is_fitted__()
    assert twin.fit(blobs[0]).state_ == original.state_


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("streamed", [False, True])
def test_pickles_go_on_as_if_nothing_had_been(blobs, kind, streamed):
    X, _ = blobs
    original = kind(3, random_state=0)
    original = original.partial_fit(X[:1000]) if streamed else original.fit(X[:1000])
    stored = io.BytesIO()
    joblib.dump(original, stored)
    stored.seek(0)
    copies = [pickle.loads(pickle.dumps(original)), joblib.load(stored)]
    original.partial_fit(X[1000:])
    for copy in copies:
        copy.partial_fit(X[1000:])
        assert copy.state_ == original.state_
        assert np.array_equal(copy.predict(X), original.predict(X))


def test_a_grid_search_finds_the_number_of_components(blobs):
    X, _ = blobs
    sizes = np.arange(1, 5)
    search = GridSearchCV(
        GaussianMixture(covariance_type="spherical", random_state=0),
        {"n_components": sizes},
        cv=3,
    ).fit(np.random.default_rng(0).permutation(X)[:600])
    assert search.best_params_["n_components"] >= 3
    scores = search.cv_results_["mean_test_score"]
    assert scores[2] > scores[1] > scores[0]
    bic = [GaussianMixture(K, random_state=0).fit(X).bic(X) for K in sizes]
    assert sizes[int(np.argmin(bic))] == 3


@pytest.mark.parametrize("kind", ALL)
def test_pipelines(blobs, kind):
    X, centres = blobs
    pipeline = make_pipeline(StandardScaler(), kind(3, random_state=0)).fit(X * [1, 1000])
    truth = np.linalg.norm(X[:, None] - centres, axis=2).argmin(axis=1)
    assert adjusted_rand_score(pipeline.predict(X * [1, 1000]), truth) > 0.99
    assert np.isfinite(pipeline.score(X * [1, 1000]))


@pytest.mark.parametrize("kind", ALL)
def test_weights_are_routed(blobs, kind):
    """A pipeline hands weights to the step that asked for them."""
    X, _ = blobs
    weights = (X[:, 0] > 6).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        last = kind(1, random_state=0)
        for request in (last.set_fit_request, last.set_score_request, last.set_partial_fit_request):
            request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, last).fit(X, sample_weight=weights)
        pipeline.score(X, sample_weight=weights)
    alone = kind(1, random_state=0).fit(StandardScaler().fit_transform(X)[weights > 0])
    rows = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(
        *(vars(e).get("means_", vars(e).get("cluster_centers_")) for e in (last, alone)), atol=1e-9
    )
    assert np.array_equal(last.predict(rows), alone.predict(rows))


def test_without_scikit_learn_the_door_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("stream_em.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'pip install "stream-em\[sklearn\]"'):
        importlib.import_module("stream_em.sklearn")


WORDS = {
    "space": "rocket orbit launch moon satellite astronaut gravity shuttle planet telescope",
    "kitchen": "oven butter flour recipe garlic simmer roast whisk pepper dough",
    "court": "judge jury verdict appeal lawyer statute trial evidence plaintiff ruling",
    "ocean": "whale tide reef current salt harbour wave shark plankton island",
}


@pytest.fixture(scope="module")
def embedded():
    """Texts of four topics as 384-dimensional rows on the sphere, and their topics."""
    draw = np.random.default_rng(0)
    topics = draw.integers(len(WORDS), size=1200)
    words = [text.split() for text in WORDS.values()]
    filler = ["the", "a", "of", "and", "with", "for", "near", "under", "today", "often"]
    texts = [
        " ".join([*draw.choice(words[topic], 12), *draw.choice(filler, 6)]) for topic in topics
    ]
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    rows = pieces.fit_transform(texts)
    assert rows.shape[1] > 384
    rows = GaussianRandomProjection(384, random_state=0).fit_transform(rows)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), topics


CLUSTERERS = [
    KMeans(n_clusters=4, random_state=0, init_size=200),
    GaussianMixture(n_components=4, covariance_type="diag", random_state=0, init_size=200),
    GaussianMixture(n_components=4, covariance_type="spherical", random_state=0, init_size=200),
]


@pytest.mark.parametrize("clusterer", CLUSTERERS, ids=str)
def test_topics_of_texts_all_at_once(embedded, clusterer):
    """The calls of a topic model: fit(embeddings), then labels_, later predict."""
    rows, topics = embedded
    found = clone(clusterer)
    found.fit(rows[:1000])
    assert found.labels_.tolist() == found.predict(rows[:1000]).tolist()
    assert adjusted_rand_score(topics[:1000], found.labels_) > 0.95
    assert adjusted_rand_score(topics[1000:], found.predict(rows[1000:])) > 0.95


@pytest.mark.parametrize("clusterer", CLUSTERERS, ids=str)
def test_topics_of_texts_as_they_come(embedded, clusterer):
    """partial_fit(embeddings), then labels_ of this batch, which the topics are updated by."""
    rows, topics = embedded
    found, labels = clone(clusterer), []
    for batch in np.split(rows, 12):
        found = found.partial_fit(batch)
        labels.append(found.labels_)
    assert all(len(batch) == 100 for batch in labels)
    assert adjusted_rand_score(topics[-600:], np.concatenate(labels[-6:])) > 0.95
    assert adjusted_rand_score(topics, found.predict(rows)) > 0.95
