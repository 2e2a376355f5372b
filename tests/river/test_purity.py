"""Predicting changes nothing, works before any event, and copies share nothing."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest

from stream_em.models.settings import Restructuring
from stream_em.river import GaussianMixture, KMeans

UNSEEN = {"never": 1.0, "seen": -2.0}


def test_answers_leave_every_byte_as_it_was(learner, events, answers) -> None:
    for number, (x, _) in enumerate(events):
        learner.learn_one(x)
        if number in (0, 1, 5, 38, 39, 40, 41, 69):
            first = next(iter(x))
            questions = (x, {}, UNSEEN, {**x, **UNSEEN}, {first: x[first]}, {first: None})
            before, state = pickle.dumps(learner), learner.state
            for question in questions:
                asked = dict(question)
                answers(learner, question)
                assert question == asked
            learner.centers  # noqa: B018
            assert pickle.dumps(learner) == before
            assert learner.state == state


def test_answers_before_any_event(learner) -> None:
    for x in ({}, {"a": 1.0}, {"a": None, "b": math.nan}):
        assert learner.predict_one(x) == 0
        assert learner.predict_proba_one(x) == {0: 1.0}
        assert learner.score_one(x) == 0.0
    assert learner.centers == {}


def test_answers_from_the_first_event_on(learner, phishing, answers) -> None:
    for x in phishing[:50]:
        learner.learn_one(x)
        slot, shares, score = answers(learner, x)
        assert type(slot) is int
        assert slot in learner.centers
        assert set(shares) == set(learner.centers)
        assert sum(shares.values()) == pytest.approx(1.0)
        assert shares[slot] == max(shares.values())
        assert type(score) is float
        assert math.isfinite(score)


def test_an_event_without_any_value_learns_nothing_it_could_not_know(learner, answers) -> None:
    learner.learn_one({})
    learner.learn_one({"a": None})
    assert answers(learner, {"a": 1.0}) == (0, {0: 1.0}, 0.0)
    learner.learn_one({"a": 1.0})
    learner.learn_one({})
    assert learner.centers[0] == {"a": 1.0}


def test_a_learner_keeps_no_hold_of_its_events(learner, phishing, answers) -> None:
    for x in phishing:
        event = dict(x)
        learner.learn_one(event)
        before = pickle.dumps(learner)
        event.update(dict.fromkeys(event, 1e9))
        event.popitem()
        assert pickle.dumps(learner) == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
@pytest.mark.parametrize("split", [0, 7, 40, 70])
def test_a_copy_has_the_same_state_and_the_same_future(
    learner, phishing, answers, copied, split
) -> None:
    for x in phishing[:split]:
        learner.learn_one(x)
    twin = copied(learner)
    assert twin.state == learner.state
    assert repr(twin) == repr(learner)
    for number, x in enumerate(phishing[split:]):
        if number % 10 == 0:
            assert answers(twin, x) == answers(learner, x)
        learner.learn_one(x)
        twin.learn_one(x)
    assert twin.state == learner.state
    assert twin.centers == learner.centers


def test_what_a_copy_learns_the_original_does_not(learner, phishing) -> None:
    for x in phishing[:60]:
        learner.learn_one(x)
    before, twin = learner.state, copy.deepcopy(learner)
    for x in phishing[60:]:
        twin.learn_one(x)
    assert learner.state == before
    assert twin.state != before


def test_a_state_handed_out_does_not_change(learner, phishing) -> None:
    for x in phishing[:60]:
        learner.learn_one(x)
    handed = learner.state
    before = copy.deepcopy(handed)
    for x in phishing[60:]:
        learner.learn_one(x)
    assert handed == before


def test_a_clone_is_as_it_was_born(learner, phishing, answers) -> None:
    for x in phishing[:60]:
        learner.learn_one(x)
    clone = learner.clone()
    assert clone._get_params() == learner._get_params()
    assert clone.centers == {}
    for x in phishing[:60]:
        clone.learn_one(x)
    if learner.seed is not None:
        assert clone.state == learner.state
    whole = learner.clone(include_attributes=True)
    assert whole.state == learner.state
    assert answers(whole, phishing[0]) == answers(learner, phishing[0])


def test_memory_does_not_grow_with_the_stream() -> None:
    draw = np.random.default_rng(0)
    few = Restructuring(capacity=20)
    for learner in (
        KMeans(3, seeding_rows=50, restructuring=few, seed=1),
        GaussianMixture(3, seeding_rows=50, restructuring=few, seed=1),
    ):
        sizes = []
        for number, row in enumerate(draw.normal(size=(900, 4)).tolist()):
            learner.learn_one(dict(zip("abcd", row, strict=True)))
            if number in (299, 599, 899):
                sizes.append(len(pickle.dumps(learner)))
        assert sizes[2] - sizes[0] < 2000


def test_shuffled_keys_have_no_effect(learner, phishing) -> None:
    other = copy.deepcopy(learner)
    orders = itertools.cycle(itertools.islice(itertools.permutations(phishing[0]), 0, 5000, 37))
    for x, order in zip(phishing, orders, strict=False):
        learner.learn_one(x)
        other.learn_one({name: x[name] for name in order})
    assert other.state == learner.state
