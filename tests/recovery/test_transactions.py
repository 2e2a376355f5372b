"""Transactional outputs: what the marker names is true, whatever else lies in the folder."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stream_em as se
from stream_em.engine import Schedule, Summary, run
from stream_em.engine.saving import Draft, InStore
from stream_em.errors import Fenced, Locked, OutcomeUnknown, SavedStateError, SettingsError
from stream_em.memory import Crash, Crashed, MemorySink, MemorySource, Stop
from stream_em.stores import DirectoryStore
from stream_em.streams import Marker, Rejected

MODEL = se.GaussianMixture(n_components=2, seeding=se.Seeding(rows=90, restarts=1))
EVERY = Schedule(every_events=80, every_seconds=600, keep=2)
BATCH, ROWS = 40, 400
BAD = Rejected("memory", 0, 150, "schema", "x0", "'a', expected a number", b"a")


def blobs() -> np.ndarray:
    draw = np.random.default_rng(11)
    return draw.normal(size=(ROWS, 2)) + 10.0 * draw.integers(0, 2, size=(ROWS, 1))


X = blobs()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(str(tmp_path / "checkpoints"))


@pytest.fixture(autouse=True)
def lockstep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every checkpoint land before the next batch."""
    turn = InStore.turn

    def turned(self: InStore, draft: Draft) -> None:
        turn(self, draft)
        self._landed("the checkpoint just begun")

    monkeypatch.setattr(InStore, "turn", turned)


@pytest.fixture
def go(ledger, ledger_sink, store):
    """Run with a transactional output and dead letters of the same ledger."""

    def run_once(
        items: list[Any] | None = None, dies: str | None = None, at: int = 0, **options: Any
    ) -> Summary:
        source = MemorySource([X[:150], BAD, X[150:]] if items is None else items, BATCH)
        settings = {"schedule": EVERY, "name": "engine", **options}
        rows = ledger_sink(ledger, "out", dies, at)
        return run(
            source, MODEL, [rows], store, dead_letters=ledger_sink(ledger, "dead"), **settings
        )

    return run_once


def offsets(ledger, name: str = "out") -> list[int]:
    return [row["offset"] for row in ledger.rows.get(name, [])]


ACCEPTED = [n for n in range(ROWS + 1) if n != 150]


def whole(ledger, store: DirectoryStore) -> None:
    """Each input position once, and the marker names the checkpoint that knows all rows."""
    assert offsets(ledger) == ACCEPTED
    assert offsets(ledger, "dead") == [150]
    assert ledger.marker is not None
    assert store.load(ledger.marker.name).state.total_events == ROWS


def test_outputs_and_marker_become_visible_together(go, ledger, store) -> None:
    go()
    whole(ledger, store)
    assert [marker.number for marker in ledger.commits] == [0, 1, 2, 3, 4, 5]
    for marker in ledger.commits[-2:]:
        assert store.digest(marker.name).startswith(marker.digest)
        assert len(marker.digest) == 16


WINDOWS = [("open", 0), ("opened", 0), *((w, n) for w in ("commit", "committed") for n in range(5))]


@pytest.mark.parametrize(("window", "number"), WINDOWS)
def test_dying_in_any_window_of_the_transaction(go, ledger, store, died, window, number) -> None:
    with pytest.raises(died):
        go(dies=window, at=number)
    go()
    whole(ledger, store)


@pytest.mark.parametrize("place", [0, 1, 17, 133, 200, ROWS - 1])
def test_dying_while_reading(go, ledger, store, place: int) -> None:
    items = [X[:place], Crash(), X[place:]]
    with pytest.raises(Crashed):
        go(items)
    go(items)
    assert offsets(ledger) == list(range(ROWS))


def test_a_checkpoint_without_its_commit_is_not_true(go, ledger, store, died) -> None:
    with pytest.raises(died):
        go(dies="commit", at=2)
    assert ledger.marker.number < 2
    newest = store.load(store.names()[-1])
    assert newest.number >= 2
    summary = go()
    assert summary.resumed_from == ledger.commits[-2].name or summary.events > 0
    whole(ledger, store)


def test_an_unknown_outcome_stops_the_run_without_abort_and_a_restart_finds_the_truth(
    go, ledger, store
) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        go(dies="unknown", at=2)
    assert caught.value.exit_code == 1
    assert ledger.aborted == 0
    assert go().resumed_from == ledger.commits[2].name
    whole(ledger, store)


def test_too_many_rejects_abort_the_transaction(go, ledger, store) -> None:
    with pytest.raises(se.errors.TooManyRejects):
        go([X[:90], *[BAD] * 1400])
    assert ledger.aborted == 1
    held = store.load(ledger.marker.name)
    assert len(offsets(ledger)) == held.state.total_events - held.state.held_rows
    assert len(offsets(ledger, "dead")) == held.rejected


def test_the_file_named_by_the_marker_must_be_there(go, ledger, store) -> None:
    go()
    store.delete([ledger.marker.name])
    assert store.names()  # the one before it is never taken
    with pytest.raises(SavedStateError, match="not there"):
        go()


def test_the_file_named_by_the_marker_must_be_whole(go, ledger, store, tmp_path) -> None:
    go()
    path = tmp_path / "checkpoints" / ledger.marker.name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(SavedStateError, match="cannot be read"):
        go()


def test_the_file_named_by_the_marker_must_have_its_digest(go, ledger, store) -> None:
    go()
    ledger.marker = ledger.marker._replace(digest="0" * 16)
    with pytest.raises(SavedStateError, match="another one"):
        go()


def test_a_marker_without_a_folder_needs_a_fresh_start(go, ledger, store) -> None:
    go()
    store.delete(store.names())
    with pytest.raises(SavedStateError, match="--fresh"):
        go()
    go(fresh=True)
    assert offsets(ledger) == [*ACCEPTED, *ACCEPTED]  # a topic cannot be cut


def test_a_fresh_start_commits_marker_0_before_the_old_checkpoints_go(
    go, ledger, store, died
) -> None:
    go()
    before, committed = set(store.names()), len(ledger.commits)
    with pytest.raises(died):
        go(fresh=True, dies="commit")
    assert before < set(store.names())
    assert go().events == 0  # the marker still names the old run
    with pytest.raises(died):
        go(fresh=True, dies="committed")
    assert go().total_events == ROWS
    assert ledger.commits[committed].number == 0
    assert not before & set(store.names())


def test_later_checkpoints_without_a_marker_are_not_trusted_unless_told(go, ledger, store) -> None:
    items = [X[:200], Stop(), X[200:]]
    go(items)
    ledger.marker = None
    with pytest.raises(SavedStateError, match="--trust-checkpoint"):
        go(items)
    assert go(items, trust_checkpoint=True).total_events == ROWS


def test_nothing_but_checkpoint_0_needs_no_marker(go, ledger, store, died) -> None:
    with pytest.raises(died):
        go(dies="commit", at=0)
    assert ledger.marker is None
    assert [store.load(name).number for name in store.names()] == [0]
    go()
    assert ledger.commits[0].number == 0
    whole(ledger, store)


def test_adding_a_transactional_output_starts_with_a_marker_for_the_newest_checkpoint(
    go, ledger, store
) -> None:
    items = [X[:200], Stop(), X[200:]]
    run(MemorySource(items, BATCH), MODEL, (), store, schedule=EVERY)
    known = store.names()[-1]
    go(items)
    assert ledger.commits[0].name == known
    assert offsets(ledger) == list(range(200, ROWS))


def test_taking_the_transactional_output_away_needs_trust(go, ledger, store) -> None:
    items = [X[:200], Stop(), X[200:]]
    go(items)
    with pytest.raises(SavedStateError, match="--trust-checkpoint"):
        run(MemorySource(items, BATCH), MODEL, (), store, schedule=EVERY)
    trusting = {"schedule": EVERY, "trust_checkpoint": True}
    assert run(MemorySource(items, BATCH), MODEL, (), store, **trusting).total_events == ROWS


def test_a_marker_of_outputs_left_out_meanwhile_is_no_judge(ledger, ledger_sink, store) -> None:
    """Each output has its own: that of one that was not written for a while is stale."""
    one, other = ledger_sink(ledger, "one"), ledger_sink(ledger, "other")

    def go_on(sinks: list[Any], until: int, trust: bool = False) -> Summary:
        source = MemorySource([X[:until], Stop(), X[until:]], BATCH)
        settings = {"schedule": EVERY, "trust_checkpoint": trust, "name": "engine"}
        return run(source, MODEL, sinks, store, **settings)

    go_on([one, other], 100)
    stale = ledger.marker
    go_on([other], 200)
    latest, ledger.marker = ledger.marker, stale
    with pytest.raises(SavedStateError, match=r"later .* beside other outputs \(other\)"):
        go_on([one], 300)
    assert go_on([one], 300, trust=True).resumed_from == latest.name
    assert offsets(ledger, "one") == [*range(100), *range(200, 300)]


def test_beginning_anew_beside_other_outputs_holds_though_old_files_are_left(
    ledger, ledger_sink, store, monkeypatch
) -> None:
    """A death between the marker of checkpoint 0 and the end of what was there before."""

    def go_on(name: str, fresh: bool = False) -> Summary:
        sinks, source = [ledger_sink(ledger, name)], MemorySource([X], BATCH)
        return run(source, MODEL, sinks, store, schedule=EVERY, name="engine", fresh=fresh)

    go_on("one")
    delete = DirectoryStore.delete

    def full(self: DirectoryStore, names: Any) -> None:
        doomed = list(names)
        if any(store.load(name).number >= 2 for name in doomed if name in store.names()):
            raise OSError(5, "Input/output error")
        delete(self, doomed)

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "delete", full)
        source = MemorySource([X[:100], Crash(), X[100:]], BATCH)
        with pytest.raises(Crashed):
            run(
                *(source, MODEL, [ledger_sink(ledger, "other")], store),
                schedule=Schedule(every_events=10_000),
                name="engine",
                fresh=True,
            )
    assert ledger.marker.number == 0
    assert go_on("other").total_events == ROWS
    assert offsets(ledger, "other") == list(range(ROWS))


def test_another_name_decides_by_another_marker(go, ledger, store) -> None:
    go([X[:200], Stop(), X[200:]])
    ledger.marker = None  # of the other transactional id
    with pytest.raises(SavedStateError, match="ledger engine"):
        go([X], name="other")


def test_a_rival_is_fenced_when_it_wakes(go, ledger, store, ledger_sink, tmp_path) -> None:
    """An engine freezes in its commit; its replacement takes over and finishes the stream."""
    frozen, woken, fates = threading.Event(), threading.Event(), []
    save = DirectoryStore.save

    def saving(self, checkpoint):
        if threading.current_thread() not in replacement and checkpoint.number == 2:
            frozen.set()
            assert woken.wait(60)
        return save(self, checkpoint)

    replacement: set[threading.Thread] = set()
    patched = pytest.MonkeyPatch()
    patched.setattr(DirectoryStore, "save", saving)

    def zombie() -> None:
        try:
            go()
        except BaseException as error:
            fates.append(error)

    first = threading.Thread(target=zombie)
    first.start()
    assert frozen.wait(60)
    patched.undo()
    with pytest.raises(Locked):
        go()
    assert go(take_over=True).total_events == ROWS
    true = ledger.marker
    woken.set()
    first.join(60)
    assert [type(fate) for fate in fates] == [Fenced]
    assert ledger.marker == true
    whole(ledger, store)
    assert go(take_over=True).resumed_from == true.name


def test_taking_over_needs_outputs_that_are_all_transactional(ledger, ledger_sink, store) -> None:
    source = MemorySource([X], BATCH)
    for sinks in ([], [MemorySink()], [ledger_sink(ledger), MemorySink()]):
        with pytest.raises(SettingsError, match="--take-over"):
            run(source, MODEL, sinks, store, schedule=EVERY, name="engine", take_over=True)


def test_transactional_outputs_need_a_name_a_store_and_an_interval(go, ledger, ledger_sink) -> None:
    with pytest.raises(SettingsError, match=r"engine\.name"):
        go(name=None)
    with pytest.raises(SettingsError, match="every_seconds"):
        go(schedule=Schedule(every_seconds=0))
    with pytest.raises(SettingsError, match="checkpoints"):
        run(MemorySource([X]), MODEL, [ledger_sink(ledger)], name="engine")


def test_outputs_on_two_clusters_are_refused(ledger, ledger_sink, store) -> None:
    other = ledger_sink(ledger, "other")
    other.cluster = "elsewhere"
    with pytest.raises(SettingsError, match="clusters"):
        run(MemorySource([X]), MODEL, [ledger_sink(ledger), other], store, name="engine")


def test_a_file_output_follows_the_marker(go, ledger, ledger_sink, store, died) -> None:
    """With a file and a topic the marker decides for both."""
    file = MemorySink("file")
    rows = ledger_sink(ledger, "out", "commit", 3)
    with pytest.raises(died):
        run(MemorySource([X], BATCH), MODEL, [rows, file], store, schedule=EVERY, name="engine")
    again = ledger_sink(ledger, "out")
    run(MemorySource([X], BATCH), MODEL, [again, file], store, schedule=EVERY, name="engine")
    assert [row["offset"] for row in file.rows] == offsets(ledger) == list(range(ROWS))


def test_a_failed_checkpoint_goes_on_in_the_same_transaction(
    go, ledger, store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_em.engine.schedule.RETRY_SECONDS", 0.01)
    save, calls = DirectoryStore.save, []

    def saving(self, checkpoint):
        calls.append(checkpoint.number)
        if len(calls) in (3, 4):
            raise OSError(28, "No space left on device")
        return save(self, checkpoint)

    monkeypatch.setattr(DirectoryStore, "save", saving)
    go()
    assert ledger.aborted == 0
    whole(ledger, store)


def test_checkpoints_that_fail_for_half_the_timeout_stop_the_run(
    go, ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_em.engine.authority.Marked.patience_seconds", 0.0, raising=False)
    save = DirectoryStore.save

    def saving(self, checkpoint):
        if checkpoint.number:
            raise OSError(28, "No space left on device")
        return save(self, checkpoint)

    monkeypatch.setattr(DirectoryStore, "save", saving)
    with pytest.raises(se.errors.CheckpointFailed):
        go()
    assert ledger.marker == ledger.commits[0] == Marker(0, *ledger.marker[1:])


def test_the_checkpoint_before_the_true_one_stays_whatever_a_rival_left(
    go, ledger, store, tmp_path
) -> None:
    items = [X[:200], Stop(), X[200:]]
    go(items)
    true = ledger.marker
    stray = tmp_path / "checkpoints" / f"{true.number + 1:08d}-000zombie.ckpt"
    for number in (1, 2):
        stray.with_name(f"{true.number + number:08d}-000zombie{number}.ckpt").write_bytes(b"torn")
    go(items)
    numbers = [int(name.split("-")[0]) for name in store.names()]
    assert ledger.marker.number in numbers
    assert ledger.marker.number - 1 in numbers
    assert not list(stray.parent.glob("*zombie*"))
