"""River's parameters are numbers and words; what they stand for, and what is refused."""

import math

import numpy as np
import pytest

import stream_em as se
from stream_em.errors import SettingsError
from stream_em.river import GaussianMixture, GaussianMixtureDetector, KMeans, SoftKMeans


@pytest.mark.parametrize(
    ("word", "covariance"),
    [
        ("full", se.Full()),
        ("diag", se.Diagonal()),
        ("tied", se.Tied()),
        ("spherical", se.Spherical()),
    ],
)
def test_covariances_go_by_the_words_of_scikit_learn(word: str, covariance) -> None:
    assert GaussianMixture(covariance_type=word).model.covariance == covariance
    assert GaussianMixtureDetector(covariance_type=covariance).model.covariance == covariance


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        (None, se.PowerWindow(0.8)),
        (500, se.HalfLife(events=500)),
        (2.5, se.HalfLife(events=2.5)),
        ("keep-all", se.KeepAll()),
        ("keep-nothing", se.KeepNothing()),
        (se.PowerWindow(0.5), se.PowerWindow(0.5)),
    ],
)
def test_forgetting_as_number_word_or_policy(given, policy) -> None:
    learner = KMeans(forgetting=given)
    assert learner.model.forgetting == policy
    assert learner.forgetting is given
    assert learner.clone().model == learner.model


def test_defaults_are_those_of_the_models() -> None:
    learn = se.Learn()
    assert KMeans(4).model == se.KMeans(4, missing=learn)
    assert SoftKMeans(4, 0.5).model == se.SoftKMeans(4, 0.5, missing=learn)
    assert GaussianMixture(4).model == se.GaussianMixture(4, missing=learn)
    bare = se.GaussianMixture(1, background=None, restructuring=None, missing=learn)
    assert GaussianMixtureDetector().model == bare


def test_switches_and_settings() -> None:
    assert KMeans(restructuring=False).model.restructuring is None
    few = se.Restructuring(capacity=10)
    assert KMeans(restructuring=few).model.restructuring == few
    assert KMeans(standardise=True).model.scaling == se.Standardise()
    assert GaussianMixture(background=False).model.background is None
    assert KMeans(seeding_rows=30).model.seeding == se.Seeding(rows=30)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"n_clusters": 0}, "n_clusters is 0, expected a whole number of at least 1"),
        ({"n_clusters": 2.5}, "n_clusters is 2.5"),
        ({"n_clusters": True}, "n_clusters is True"),
        ({"forgetting": -1}, "forgetting is -1, expected a half-life in events"),
        ({"forgetting": 0.0}, "forgetting is 0.0"),
        ({"forgetting": math.nan}, "forgetting is nan"),
        ({"forgetting": True}, "forgetting is True"),
        ({"forgetting": "half-life"}, "forgetting is 'half-life', expected its number of events"),
        ({"forgetting": "keepall"}, "keep-all"),
        ({"forgetting": se.EventTimeHalfLife(seconds=60)}, "events of River have none"),
        ({"forgetting": [1]}, r"forgetting is \[1\]"),
        ({"seeding_rows": 0}, "seeding_rows is 0, expected a whole number of at least 1"),
        ({"seeding_rows": "many"}, "seeding_rows is 'many'"),
        ({"restructuring": 3}, r"restructuring is 3, expected True, False or Restructuring\("),
        ({"standardise": "yes"}, r"standardise is 'yes', expected True, False or Standardise\("),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0.5}, "seed is 0.5"),
    ],
    ids=str,
)
def test_bad_values_are_refused_by_their_names(params, told) -> None:
    with pytest.raises(SettingsError, match=told):
        KMeans(**params)


@pytest.mark.parametrize(
    "refresh", [-1, -0.01, 1.5, 2.0, math.nan, math.inf, None, True, "x"], ids=repr
)
def test_a_refresh_that_is_no_share_is_refused_at_once(refresh) -> None:
    for kind in (KMeans, SoftKMeans, GaussianMixture, GaussianMixtureDetector):
        with pytest.raises(SettingsError, match=r"refresh is .* share from 0 to 1"):
            kind(refresh=refresh)
        learner = kind(refresh=np.float64(0.5))
        with pytest.raises(SettingsError, match=r"refresh is .* share from 0 to 1"):
            learner.mutate({"refresh": refresh})
        assert learner.refresh == 0.5


def test_other_settings_of_mixtures_are_refused_by_their_names() -> None:
    with pytest.raises(SettingsError, match="n_components is 0"):
        GaussianMixture(0)
    with pytest.raises(SettingsError, match=r"background is 'no', expected .* Background\("):
        GaussianMixture(background="no")
    with pytest.raises(SettingsError, match="grace_period is 'x', expected a whole number"):
        GaussianMixtureDetector(grace_period="x")


def test_numbers_may_be_numpys() -> None:
    three, given = np.int64(3), {"seeding_rows": np.int32(30), "seed": np.int64(1)}
    assert KMeans(three, np.int64(50), **given).model == KMeans(3, 50, 30).model
    assert KMeans(forgetting=np.float32(2)).model.forgetting == se.HalfLife(events=2.0)
    assert SoftKMeans(three, **given).clone().model == SoftKMeans(3, seeding_rows=30).model
    assert GaussianMixture(three, **given).model == GaussianMixture(3, seeding_rows=30).model
    assert KMeans(standardise=np.True_).model == KMeans(standardise=True).model


def test_a_misspelt_word_gets_a_hint() -> None:
    with pytest.raises(SettingsError, match="did you mean 'diag'"):
        GaussianMixture(covariance_type="diagonal")
    with pytest.raises(SettingsError, match="did you mean 'keep-all'"):
        KMeans(forgetting="keepall")


def test_without_a_seed_two_learners_differ_and_with_one_they_do_not() -> None:
    assert KMeans().state.seed != KMeans().state.seed
    assert KMeans(seed=3).state == KMeans(seed=3).state
