"""Restructuring: exact accounting, names that keep their meaning, and moves that pay."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans

import stream_em as se
from stream_em import moments
from stream_em.kernels import plain
from stream_em.moments import DiagonalScatter, Retentions
from stream_em.quarantine import bounded, rescored
from stream_em.relocations import House, relocated
from stream_em.state import Frame, Identity, Quarantine

FEW = se.Seeding(rows=600, restarts=2)
CENTRES = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
FAR = np.array([[90.0, 0.0], [0.0, -80.0], [70.0, 70.0]])


def far_groups(n=4000, seed=0, calm=1000, share=0.02):
    """Four groups, and after `calm` rows a few rows of three groups far away."""
    draw = np.random.default_rng(seed)
    X = CENTRES[draw.integers(0, 4, n)] + draw.normal(size=(n, 2))
    far = np.flatnonzero((np.arange(n) >= calm) & (draw.random(n) < share))
    X[far] = FAR[draw.integers(0, 3, len(far))] + draw.normal(size=(len(far), 2))
    return X


def models(**options):
    options = {"seeding": FEW, **options}
    return [
        se.KMeans(8, **options),
        se.SoftKMeans(8, beta=0.5, **options),
        se.GaussianMixture(8, **options),
        se.GaussianMixture(8, se.Tied(), **options),
        se.GaussianMixture(8, se.Diagonal(), **options),
    ]


each_model = pytest.mark.parametrize("model", models(), ids=lambda m: m.kind)


def steps(model, X, size, seed=0, **columns):
    """The state and info after each batch."""
    state = se.init(model, seed=seed)
    for start in range(0, len(X), size):
        part = slice(start, start + size)
        beside = {name: values[part] for name, values in columns.items()}
        state, info = se.step(model, state, X[part], **beside)
        yield state, info


def last(model, X, size, seed=0):
    *_, (state, _) = steps(model, X, size, seed=seed)
    return state


def kinds(infos):
    return [change.kind for info in infos for change in info.changes]


@each_model
@pytest.mark.parametrize("size", [1, 130, 2500])
def test_every_row_is_in_a_cluster_in_the_background_or_waits(model, size):
    """Σ N_obj + N_0 + w(Q) = Σ w learned after every step, through all moves."""
    X = far_groups(4000 if size > 1 else 1300, calm=700, share=0.05)
    w = np.random.default_rng(1).uniform(0.2, 2, len(X))
    seen, waited, at, found = np.cumsum(w), 0.0, 0, []
    for state, info in steps(model, X, size, weights=w):
        at = min(at + size, len(X))
        found.append(info)
        if state.moments is None:
            continue
        counted = state.moments.objective.sum()
        if state.background is not None:
            counted += state.background.objective
            settled = counted
        else:
            waits = state.quarantine.weights.sum()
            waited, settled = max(waited, waits), counted + waits
        assert settled == pytest.approx(seen[at - 1], rel=1e-12)
        read = se.clusters(model, state).counts.sum()
        assert read == pytest.approx(settled - getattr(state.background, "objective", 0.0))
        assert state.learned == at
    if model.background is None:
        assert waited > 0
        assert "relocation" in kinds(found)


@each_model
def test_the_end_of_a_stream_absorbs_what_waits_for_good(model):
    X = far_groups(1700, calm=1600, share=0.2)
    state = last(model, X, 100)
    before = se.clusters(model, state)
    assert len(state.quarantine) > 0
    done, _ = se.finish(model, state)
    after = se.clusters(model, done)
    np.testing.assert_array_equal(after.counts, before.counts)
    np.testing.assert_array_equal(after.means, before.means)
    if model.background is None:
        assert len(done.quarantine) == 0
        assert done.moments.objective.sum() == pytest.approx(1700, rel=1e-12)


@each_model
def test_names_change_by_announcement_only(model):
    """The live slots and uids follow from the changes; uids are never used again."""
    live, used, found = {}, set(), []
    for state, info in steps(model, far_groups(6000, share=0.1), 250):
        if len(info.scores.labels) and info.first > 0:
            assert live == dict(
                zip(info.scores.slots.tolist(), info.scores.uids.tolist(), strict=True)
            )
        for change in info.changes:
            found.append(change)
            assert change.reason
            assert len(change.position) == 2
            assert change.row <= state.total_events
            if change.kind == "merge":
                assert live.pop(change.slot) == change.old_uid
                assert change.new_uid in live.values()
            elif change.kind == "death":
                assert live.pop(change.slot) == change.old_uid
            else:
                assert change.slot not in live
                assert change.new_uid not in used
                live[change.slot] = change.new_uid
                used.add(change.new_uid)
        names = se.clusters(model, state)
        assert live == dict(zip(names.slots.tolist(), names.uids.tolist(), strict=True))
        assert set(live) <= set(range(8))
    told = [c.kind for c in found]
    assert told.count("merge") == told.count("relocation") > 0
    for i, change in enumerate(found):
        if change.kind == "relocation":  # its slot was freed by the merge told just before
            assert (found[i - 1].kind, found[i - 1].slot) == ("merge", change.slot)
            assert found[i - 1].old_uid == change.old_uid


def test_a_cluster_that_nothing_is_announced_of_stays_where_it_is():
    """Between two steps a uid's mean moves by its own rows only, within their share."""
    model = se.KMeans(8, seeding=FEW)
    before = {}
    X = far_groups(6000, share=0.1)
    for i, (state, info) in enumerate(steps(model, X, 250)):
        places = (
            dict(zip(state.identity.uids.tolist(), state.moments.mean, strict=True))
            if (state.moments is not None)
            else {}
        )
        touched = {c.old_uid for c in info.changes} | {c.new_uid for c in info.changes}
        Z = None if state.frame is None else state.frame.inward(X[250 * i : 250 * (i + 1)])
        for uid in before.keys() & places.keys() - touched:
            reach = np.linalg.norm(Z - before[uid], axis=1).max()
            assert np.linalg.norm(places[uid] - before[uid]) <= reach / 2
        before = places


def random_house(seed):
    """Clusters of random rows, and rows aside, with everything in plain sight."""
    draw = np.random.default_rng(seed)
    K, D = int(draw.integers(2, 7)), int(draw.integers(1, 4))
    means = draw.normal(size=(K, D)) * 3
    Z = draw.normal(size=(200, D)) * 3
    labels, _ = plain.nearest(Z, means)
    w = draw.uniform(0.2, 2, 200)
    held = moments.hard_tally(plain, Z, w, labels, means)
    n = int(draw.integers(1, 40))
    rows = draw.normal(size=(n, D)) * draw.choice([0.3, 4.0]) + draw.normal(size=D) * 8
    weights = draw.uniform(0.2, 2, n)
    aside = Quarantine(rows, weights, np.zeros(n), np.arange(n))
    names = Identity(np.arange(K), np.arange(K), K)
    house = House(held, names, rescored(aside, held.mean), held, Retentions(1.0, 1.0))
    return se.KMeans(K), house, Frame(np.zeros(D), np.ones(D))


def objective(house):
    """J of all rows in the house: those tallied about their means, those aside to the nearest."""
    aside = rescored(house.aside, house.moments.mean)
    return house.moments.scatter.values.sum() + aside.weights @ aside.scores


def test_no_move_raises_the_objective():
    """J of tally and waiting rows falls in every move, by Ward's identity and recounting."""
    moved = refused = 0
    for seed in range(300):
        model, house, frame = random_house(seed)
        found = relocated(model, model.restructuring, house, frame, 1.0, 0.0, (seed, 1, 0), 5)
        if found is None:
            refused += 1
            continue
        moved += 1
        assert objective(found.house) < objective(house) * (1 + 1e-12)
        weights = (house.moments.objective.sum(), house.aside.weights.sum())
        after = (found.house.moments.objective.sum(), found.house.aside.weights.sum())
        assert sum(after) == pytest.approx(sum(weights), rel=1e-12)
        assert len(found.house.identity.slots) == model.n_clusters
    assert moved > 50
    assert refused > 50


def test_a_move_that_does_not_pay_is_refused():
    """Negative control: forced through, refused moves would raise J."""
    worse = refused = 0
    for seed in range(80):
        model, house, frame = random_house(seed)
        if relocated(model, model.restructuring, house, frame, 1.0, 0.0, (seed, 1, 0), 5):
            continue
        costs = model.merge_costs(house.moments, np.ones(house.moments.mean.shape[1]))
        p, q = np.unravel_index(costs.argmin(), costs.shape)
        held = moments.fold(house.moments, int(p), int(q))
        one = moments.of_rows(house.aside.rows[:1], house.aside.weights[:1])
        forced = house._replace(moments=moments.join(held, one))
        worse += objective(forced) > objective(house)
        refused += 1
    assert worse > refused / 2 > 10


def test_min_rows_and_max_ratio_refuse_lonely_and_absurd_rows():
    X = far_groups(3000, share=0.0)
    X[[1500, 2200]] = [[4e3, 0.0], [0.0, 9e4]]
    plain_model = se.KMeans(5, seeding=FEW)
    needs_two = replace(plain_model, restructuring=se.Restructuring(min_rows=2))
    not_absurd = replace(plain_model, restructuring=se.Restructuring(max_ratio=1e4))
    moved = {
        name: kinds(info for _, info in steps(model, X, 100)).count("relocation")
        for name, model in (("all", plain_model), ("two", needs_two), ("near", not_absurd))
    }
    assert moved == {"all": 2, "two": 0, "near": 0}


@pytest.fixture(scope="module")
def ratios():
    """J/J_batch after one pass, by batch size, a mean over seeds."""
    found = {1: [], 10: [], 100: [], 500: []}
    for seed in range(3):
        X = far_groups(2600, seed)
        batch = SklearnKMeans(7, n_init=5, random_state=0).fit(X).inertia_
        for size, losses in found.items():
            model = se.KMeans(7, seeding=FEW)  # exactly as many as there are groups
            state = last(model, X, size, seed=seed)
            losses.append(se.score(model, state, X).squared_distance.sum() / batch)
    return {size: np.mean(losses) for size, losses in found.items()}


def test_the_cut_into_batches_does_not_matter(ratios):
    """P22 in a small form: clocks and draws count rows, so means over seeds agree to .02."""
    assert max(ratios.values()) - min(ratios.values()) <= 0.02
    assert max(ratios.values()) <= 1.12


def test_without_moves_the_far_groups_are_lost():
    X = far_groups(2600)
    batch = SklearnKMeans(8, n_init=5, random_state=0).fit(X).inertia_
    model = se.KMeans(8, seeding=FEW, restructuring=None)
    assert se.score(model, last(model, X, 100), X).squared_distance.sum() > 1.5 * batch


@each_model
def test_draws_are_keyed_by_seed_and_tick(model):
    X = far_groups(3000)
    a, b = (last(model, X, 170, seed=4) for _ in range(2))
    assert a == b
    for stop in (900, 1700):  # a state carries all its randomness
        state = se.init(model, seed=4)
        for start in range(0, stop, 170):
            state, _ = se.step(model, state, X[start : start + 170])
        for start in range(-(-stop // 170) * 170, 3000, 170):
            state, _ = se.step(model, state, X[start : start + 170])
        assert state == a


def test_rows_wait_only_as_the_rules_say():
    """Far from all, learned before by no cluster, with weight, and not labelled."""
    model = se.KMeans(4, seeding=FEW, restructuring=se.Restructuring(moves=0))
    state = last(model, far_groups(700, share=0.0), 700)
    mean = state.typical.mean
    far = np.array([[60.0, 60.0]] * 4)
    w, labels = np.array([1.0, 0.0, 2.0, 1.0]), np.array([-1, -1, -1, 2])
    after, _ = se.step(model, state, far, weights=w, labels=labels)
    new = after.quarantine.arrivals >= 700
    assert after.quarantine.weights[new].tolist() == [1.0, 2.0]
    assert after.quarantine.arrivals[new].tolist() == [700, 701]
    means = state.frame.outward(state.moments.mean)
    distances = np.square(far[0] - means).sum(axis=1).min()
    np.testing.assert_allclose(after.quarantine.scores[new], distances, rtol=1e-12)
    lowest = means[means.sum(axis=1).argmin()]
    for times, waits in ((3.9, False), (4.1, True)):
        row = lowest - np.sqrt(times * mean / 2)
        at, _ = se.step(model, state, row[None])
        assert (len(at.quarantine) > len(state.quarantine)) is waits


def test_rows_that_waited_too_long_are_absorbed():
    settings = se.Restructuring(moves=0, max_age_rows=600, every_rows=200)
    model = se.KMeans(4, seeding=FEW, restructuring=settings)
    X = far_groups(3000, share=0.0)
    X[1000] = [60.0, 60.0]
    waits = {
        state.learned: 1000 in state.quarantine.arrivals
        for state, _ in steps(model, X, 50)
        if state.quarantine is not None
    }
    assert [n for n, still in waits.items() if still] == list(range(1050, 1800, 50))


@pytest.mark.parametrize("model", models(restructuring=se.Restructuring(capacity=40, moves=0)))
def test_no_more_rows_wait_than_there_is_room_for(model):
    X = far_groups(3000, share=0.3)
    sizes = [len(s.quarantine) for s, _ in steps(model, X, 100) if s.quarantine is not None]
    assert max(sizes) == 40


def test_the_farthest_rows_stay_when_room_is_short():
    draw = np.random.default_rng(0)
    scores = draw.permutation(30).astype(float)
    aside = Quarantine(draw.normal(size=(30, 2)), np.ones(30), scores, np.arange(30))
    kept, dropped = bounded(aside, 10)
    assert sorted(kept.scores.tolist()) == list(range(20, 30))
    assert (np.diff(kept.arrivals) > 0).all()
    assert sorted([*kept.arrivals, *dropped.arrivals]) == list(range(30))


def test_glitches_do_not_blind_the_quarantine():
    """A squared distance counts up to 16 d̄² for what is typical: a far group is still seen."""
    X = far_groups(4000, share=0.0)
    X[np.arange(1100, 1105)] = 1e5
    late = np.arange(2000, 4000, 50)
    X[late] = np.array([60.0, 60.0]) + np.random.default_rng(2).normal(size=(len(late), 2))
    model = se.KMeans(6, seeding=FEW)
    means, typical = [], []
    for state, _ in steps(model, X, 100):
        if state.learned >= 600:
            typical.append(state.typical.mean)
    assert max(typical) < 2 * typical[0]
    means = se.clusters(model, state).means
    assert np.linalg.norm(means - [60.0, 60.0], axis=1).min() < 1.0
    assert np.linalg.norm(means - 1e5, axis=1).min() < 1.0


@pytest.mark.parametrize("forgetting", [se.PowerWindow(0.8), se.KeepAll(), se.HalfLife(1e9)])
def test_the_first_step_from_given_means_is_one_lloyd_iteration(forgetting):
    """Of any size: nothing is held back, clipped, or moved."""
    X = far_groups(3000, calm=0, share=0.1)
    means = CENTRES + 1.0
    model = se.KMeans(4, initial_means=means, forgetting=forgetting)
    state, info = se.step(model, se.init(model), X)
    w = forgetting.row_weights(np.ones(3000), None, None)
    labels = np.square(X[:, None] - means).sum(axis=2).argmin(axis=1)
    exact = [np.average(X[labels == k], axis=0, weights=w[labels == k]) for k in range(4)]
    np.testing.assert_allclose(se.clusters(model, state).means, exact, rtol=1e-9)
    assert len(state.quarantine) == 0
    assert info.changes == ()
    mean = np.square(X - means[labels]).sum(axis=1).mean()
    assert state.typical.mean == pytest.approx(mean, rel=1e-9)


def test_nothing_waits_and_nothing_moves_under_keep_nothing():
    for model in models(forgetting=se.KeepNothing()):
        for state, info in steps(model, far_groups(3000, share=0.1), 600):
            assert state.quarantine is None
            assert state.averaged is None
            assert not info.changes or info.first == 0


def test_slots_that_seeding_left_empty_are_filled_later():
    """As moves of cost 0, announced as births, until K are live."""
    model = se.KMeans(6, seeding=se.Seeding(rows=10))
    X = far_groups(4000)
    X[:10] = [[0.0, 0.0], [9.0, 9.0]] * 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", se.StreamEmWarning)
        (state, _), *rest = steps(model, X, 10)
    assert len(state.identity.slots) == 2
    births = [c for _, info in rest for c in info.changes if c.kind == "birth"]
    assert sorted(c.slot for c in births) == [2, 3, 4, 5]
    assert all(c.old_uid is None for c in births)
    state = rest[-1][0]
    assert state.identity.slots.tolist() == list(range(6))
    for centre in FAR:
        means = se.clusters(model, state).means
        assert np.linalg.norm(means - centre, axis=1).min() < 2.0


def test_a_half_life_fades_rows_that_wait():
    """Like those in the tally: Σ N_obj + w(Q) = Σ w 2^(-age/H), for any cut."""
    settings = se.Restructuring(moves=0)
    model = se.KMeans(4, se.HalfLife(300), seeding=FEW, restructuring=settings)
    X = far_groups(1900, calm=700, share=0.1)
    waits = []
    for size in (1, 37, 450):
        at = 0
        for state, _ in steps(model, X, size):
            at = min(at + size, len(X))
            if state.moments is None:
                continue
            exact = np.exp2(-np.arange(at) / 300).sum()
            total = state.moments.objective.sum() + state.quarantine.weights.sum()
            assert total == pytest.approx(exact, rel=1e-9)
            ages = state.learned - 1 - state.quarantine.arrivals
            np.testing.assert_allclose(state.quarantine.weights, np.exp2(-ages / 300), rtol=1e-9)
        waits.append(len(state.quarantine))
    assert min(waits) > 10


def test_moves_keep_the_scatter_of_diagonal_forms_exact():
    """After a relocation the new cluster is the exact tally of the rows it took."""
    model, house, frame = next(
        (m, h, f)
        for m, h, f in map(random_house, range(50))
        if relocated(m, m.restructuring, h, f, 1.0, 0.0, (1, 1, 0), 5)
    )
    found = relocated(model, model.restructuring, house, frame, 1.0, 0.0, (1, 1, 0), 5)
    place = int(np.flatnonzero(found.house.identity.uids == model.n_clusters)[0])
    left = {tuple(row) for row in found.house.aside.rows}
    taken = np.array([tuple(row) not in left for row in house.aside.rows])
    w, rows = house.aside.weights[taken], house.aside.rows[taken]
    mean = np.average(rows, axis=0, weights=w)
    born = moments.take(found.house.moments, np.array([place]))
    assert born.step == born.objective == pytest.approx(w.sum())
    np.testing.assert_allclose(born.mean[0], mean, rtol=1e-12)
    assert isinstance(born.scatter, DiagonalScatter)
    np.testing.assert_allclose(born.scatter.values[0], w @ np.square(rows - mean), atol=1e-9)
