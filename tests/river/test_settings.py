"""River's parameters are numbers and words; what they stand for, and what is refused."""

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
    "params",
    [
        {"n_clusters": 0},
        {"n_clusters": 2.5},
        {"forgetting": -1},
        {"forgetting": True},
        {"forgetting": "half-life"},
        {"forgetting": "keepall"},
        {"forgetting": se.EventTimeHalfLife(seconds=60)},
        {"forgetting": [1]},
        {"seeding_rows": 0},
        {"restructuring": 3},
        {"standardise": "yes"},
        {"seed": -1},
        {"seed": 0.5},
    ],
    ids=str,
)
def test_bad_values_are_refused(params) -> None:
    with pytest.raises(SettingsError):
        KMeans(**params)


def test_a_misspelt_word_gets_a_hint() -> None:
    with pytest.raises(SettingsError, match="did you mean 'diag'"):
        GaussianMixture(covariance_type="diagonal")
    with pytest.raises(SettingsError, match="did you mean 'keep-all'"):
        KMeans(forgetting="keepall")


def test_without_a_seed_two_learners_differ_and_with_one_they_do_not() -> None:
    assert KMeans().state.seed != KMeans().state.seed
    assert KMeans(seed=3).state == KMeans(seed=3).state
