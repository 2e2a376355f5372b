"""River's own checks: those it runs on these learners, and those it has but does not run.

`river.checks.yield_checks` gives no dataset for a clusterer (`checks/__init__.py`,
`_yield_datasets`), so its dataset checks are called here as functions. For an anomaly
detector it gives `datasets.CreditCard`, a download of 150 MB; the same checks run here on
bundled streams. `check_predict_one_pure` and `check_predict_one_before_any_learn` look at
no method of a clusterer (`checks/common.py`, `_inference_methods`); `test_purity.py` does.
"""

import functools

import pytest
from river import base
from river.checks import anomaly, common, yield_checks
from river.datasets import Shuttle

from stream_em.river import GaussianMixture, GaussianMixtureDetector, KMeans, SoftKMeans

CLASSES = (KMeans, SoftKMeans, GaussianMixture, GaussianMixtureDetector)
MODELS = [kind(**params) for kind in CLASSES for params in kind._unit_test_params()]
YIELDED = [
    pytest.param(model, check, id=f"{type(model).__name__}-{number}-{check.__name__}")
    for number, model in enumerate(MODELS)
    for check in yield_checks(model)
    if not isinstance(check, functools.partial)  # those hold a dataset that is not there
]
ON_EVENTS = (
    common.check_learn_one,
    common.check_pickling,
    common.check_shuffle_features_no_impact,
    common.check_emerging_features,
    common.check_disappearing_features,
    common.check_radically_disappearing_features,
    common.check_predict_one_pure,
    common.check_predict_one_before_any_learn,
    common.check_no_state_aliasing_with_input,
    common.check_clone_is_independent,
)


@pytest.mark.parametrize(("model", "check"), YIELDED)
def test_a_check_that_river_yields(model, check) -> None:
    assert check.__name__ not in model._unit_test_skips()
    check(model.clone())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_nothing_is_skipped(model) -> None:
    assert model._unit_test_skips() == set()
    assert len(list(yield_checks(model))) >= 15


@pytest.mark.parametrize("check", ON_EVENTS, ids=lambda check: check.__name__)
def test_a_check_on_events(learner, check, events) -> None:
    check(learner.clone(), events[:48])


def test_memory_grows_no_more_once_clusters_are_seeded(learner, events) -> None:
    common.check_bounded_memory_growth(learner.clone({"seeding_rows": 20}), events)


def test_seeding_is_idempotent(learner, phishing) -> None:
    events = [(x, None) for x in phishing]
    common.check_seeding_is_idempotent(learner.clone({"seed": None}), events)


def test_mini_batches_match_events(learner, events) -> None:
    """Rows of a batch are learned as one step: the same until clusters are seeded."""
    held = learner.clone({"seeding_rows": 1000})
    common.check_learn_many_matches_learn_one(held, events)


@pytest.mark.parametrize("components", [1, 3])
def test_anomalies_of_shuttle_rank_above_the_rest(components: int) -> None:
    detector = GaussianMixtureDetector(
        components, "diag", seeding_rows=300, standardise=True, seed=1
    )
    anomaly.check_roc_auc(detector, Shuttle().take(1500))


def test_what_river_takes_them_for() -> None:
    assert all(isinstance(kind(), base.Clusterer) for kind in CLASSES[:3])
    assert isinstance(GaussianMixtureDetector(), base.AnomalyDetector)
    assert not isinstance(GaussianMixtureDetector(), base.Clusterer)
    assert all(
        kind(seed=None)._is_stochastic and not kind(seed=1)._is_stochastic for kind in CLASSES
    )
