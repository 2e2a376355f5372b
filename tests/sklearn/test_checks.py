"""scikit-learn's own checks of estimators, without a single expected failure.

One check is skipped by scikit-learn itself: that of array API input, unless the variable
SCIPY_ARRAY_API is set.
"""

import numpy as np
import pytest
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import stream_em as se
from stream_em.sklearn import GaussianMixture, KMeans, SoftKMeans

ESTIMATORS = [
    KMeans(),
    KMeans(n_clusters=np.int64(3), n_init=4, tol=0, restructuring=False),
    KMeans(n_clusters=2, forgetting=se.HalfLife(events=100), init_size=5),
    SoftKMeans(),
    SoftKMeans(n_clusters=3, beta=2.0, max_iter=20, tol=1e-8),
    SoftKMeans(n_clusters=4, forgetting=se.KeepAll(), restructuring=False),
    GaussianMixture(),
    GaussianMixture(n_components=np.int32(3), background=False),
    GaussianMixture(n_components=2, covariance_type="tied", n_init=3),
    GaussianMixture(n_components=3, covariance_type="diag", restructuring=False),
    GaussianMixture(n_components=4, covariance_type="spherical", prior=se.Prior(rows=2.0)),
    GaussianMixture(n_components=3, covariance_type="diag", prior=False, tol=1e-6),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::stream_em.StreamEmWarning")
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


def _names(estimator):
    return {
        getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(estimator)
    }


@pytest.mark.parametrize("estimator", ESTIMATORS[::3], ids=str)
def test_weights_are_among_what_is_checked(estimator):
    """scikit-learn excuses its own k-means from the first of these."""
    assert _names(estimator) >= {
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weights_not_overwritten",
        "check_all_zero_sample_weights_error",
    }


def test_tags_say_what_they_are():
    for estimator, kind in (
        (KMeans(), "clusterer"),
        (SoftKMeans(), "clusterer"),
        (GaussianMixture(), "density_estimator"),
    ):
        tags = get_tags(estimator)
        assert tags.estimator_type == kind
        assert tags.requires_fit
        assert not (tags.input_tags.sparse or tags.input_tags.allow_nan)
        assert (tags.transformer_tags is None) is (kind == "density_estimator")


def test_transformers_are_checked_as_such():
    assert "check_transformer_general" in _names(KMeans())
    assert "check_clustering" in _names(SoftKMeans())
    assert "check_estimators_partial_fit_n_features" in _names(KMeans())
    assert "check_clustering" not in _names(GaussianMixture())
