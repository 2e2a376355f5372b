"""`check --online` and `run --dry-run`: everything is tried, nothing is touched."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, final

import pytest

from stream_em.cli.online import Tried, folder_probe, tried
from stream_em.cli.rehearsal import rehearse
from stream_em.config import Plan, load
from stream_em.errors import SettingsError, Unreachable
from stream_em.memory import MemorySource
from stream_em.stores import DirectoryStore
from stream_em.streams import Json, Positions, Probe, Source, Stream
from stream_em_connectors.files import JsonLinesSink, ParquetSink, StdoutSink

PROBES = ("source", "source", "sinks.0", "checkpoints")


def lines(text: str) -> list[list[str]]:
    """Where, verdict and the rest of each line."""
    return [line.split(": ", 2) for line in text.splitlines()]


def changed(here: Path, old: str, new: str) -> str:
    """A configuration with another text in it; its name."""
    text = (here / "c.toml").read_text()
    assert old in text
    (here / "o.toml").write_text(text.replace(old, new))
    return "o.toml"


# -- files ----------------------------------------------------------------------------------


def test_all_is_well_and_stays_untouched(cli: Any, here: Path, files: Any) -> None:
    before = files()
    left = cli("check", "c.toml", "--online")
    assert left.code == 0
    assert left.out.splitlines() == [
        "source: ok: input in.csv: 1 file",
        "source: ok: features of in.csv: x, y",
        "sinks.0: ok: output out.jsonl: to be created",
        "checkpoints: ok: folder saved: to be created",
        "c.toml: no findings",
    ]
    assert files() == before


def test_without_online_nothing_is_tried(cli: Any, here: Path) -> None:
    os.remove("in.csv")
    assert cli("check", "c.toml").code == 0
    assert cli("check", "c.toml", "--online").code == 1
    assert "probes" not in json.loads(cli("check", "c.toml", "--json").out)


def test_after_a_run_it_tells_what_is_there(cli: Any, here: Path) -> None:
    assert cli("run", "c.toml").code == 0
    size = (here / "out.jsonl").stat().st_size
    left = cli("check", "c.toml", "--online")
    assert left.code == 0
    assert f"sinks.0: ok: output out.jsonl: holds {size:,} bytes" in left.out
    assert "checkpoints: ok: folder saved: writable" in left.out


def test_a_running_engine_is_not_disturbed(cli: Any, here: Path) -> None:
    store = DirectoryStore("saved")
    with store.lock():
        holder = (here / "saved" / "lock").read_bytes()
        assert cli("check", "c.toml", "--online").code == 0
        assert (here / "saved" / "lock").read_bytes() == holder


def test_every_problem_is_a_finding_and_names_its_part(cli: Any, here: Path) -> None:
    text = (here / "c.toml").read_text()
    text = text.replace('"x", "y"', '"x", "z"').replace('"out.jsonl"', '"no/out.jsonl"')
    (here / "o.toml").write_text(text.replace('"saved"', '"no/saved"'))
    left = cli("check", "o.toml", "--online")
    assert left.code == 1
    found = lines(left.out)
    assert [(where, verdict) for where, verdict, _ in found] == [
        ("source", "ok"),
        *((where, "error") for where in PROBES[1:]),
    ]
    assert "column 'z' is not in in.csv" in found[1][2]
    assert "folder no does not exist; create it" in found[2][2]
    assert "no does not exist; create it" in found[3][2]
    assert not (here / "no").exists()


def test_json_has_findings_and_probes(cli: Any, here: Path) -> None:
    left = cli("check", changed(here, '"in.csv"', '"none.csv"'), "--online", "--json")
    told = json.loads(left.out)
    assert left.code == 1
    (finding,) = told["findings"]
    assert (finding["severity"], finding["origin"]) == ("error", "source")
    assert "none.csv does not exist" in finding["message"]
    assert [probe["where"] for probe in told["probes"]] == ["source", "sinks.0", "checkpoints"]
    assert [probe["problem"] is None for probe in told["probes"]] == [False, True, True]


def test_static_errors_come_alone(cli: Any, here: Path) -> None:
    left = cli("check", changed(here, "n_clusters", "n_cluster"), "--online")
    assert left.code == 1
    assert "source: ok" not in left.out


def test_warnings_are_told_beside_the_probes(cli: Any, here: Path) -> None:
    unsaved = '[checkpoints]\ndirectory = "saved"\nevery_events = 500\n'
    name = changed(here, unsaved, "")
    left = cli("check", name, "--online")
    assert left.code == 0
    assert "warning: no [checkpoints]" in left.out
    assert "no findings" not in left.out
    assert cli("check", name, "--online", "--deny-warnings").code == 1


def test_dead_letters_and_changes_are_tried_too(cli: Any, here: Path) -> None:
    text = (here / "c.toml").read_text()
    extra = "[dead_letters]\nkind = 'jsonl'\npath = 'no/dead.jsonl'\n[changes]\nkind = 'stdout'\n"
    (here / "o.toml").write_text(text + extra)
    found = lines(cli("check", "o.toml", "--online").out)
    assert [(where, verdict) for where, verdict, _ in found[3:5]] == [
        ("dead_letters", "error"),
        ("changes", "ok"),
    ]


@pytest.mark.parametrize("make", [JsonLinesSink, ParquetSink], ids=["jsonl", "parquet"])
def test_outputs_of_files(make: Callable[[str], Any], tmp_path: Path) -> None:
    def problem(path: Path) -> str | None:
        (probe,) = make(str(path)).probes()
        assert str(path) in probe.what
        return probe.problem

    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert problem(tmp_path / "new") is None
    assert "does not exist; create it" in str(problem(tmp_path / "no" / "new"))
    assert "is no folder" in str(problem(tmp_path / "file" / "new"))
    of_kind, of_other = ("file", "folder") if make is JsonLinesSink else ("folder", "file")
    assert problem(tmp_path / of_kind) is None
    assert "give another path" in str(problem(tmp_path / of_other))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the system, for a superuser may do everything."""
    (tmp_path / "out").mkdir()
    (tmp_path / "in.csv").write_text("x\n1\n")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    for sink in (JsonLinesSink(tmp_path / "out" / "a.jsonl"), ParquetSink(tmp_path / "out")):
        (probe,) = sink.probes()
        assert "not writable; change its permissions" in str(probe.problem)
    store = folder_probe([tmp_path / "out"])
    assert "not writable; change its permissions" in str(store.problem)


def test_an_input_without_permission(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    (probe,) = load("c.toml").source.probes()
    assert "in.csv may not be read" in str(probe.problem)


def test_standard_streams_are_there(here: Path) -> None:
    plan = load("c.toml", ["source.path=-"])
    (probe,) = plan.source.probes()
    assert (probe.what, probe.problem) == ("standard input", None)
    (probe,) = StdoutSink().probes()
    assert probe.problem is None


@pytest.mark.parametrize(
    ("folders", "problem"),
    [
        (["saved"], None),
        (["saved/one", "saved", "."], None),
        (["no/saved", "no"], "no does not exist"),
        (["in.csv/one", "in.csv", "."], "in.csv is no folder"),
    ],
)
def test_the_folder_of_checkpoints(here: Path, folders: list[str], problem: str | None) -> None:
    (here / "saved").mkdir()
    found = folder_probe([Path(folder) for folder in folders])
    assert (found.problem is None) == (problem is None)
    assert (problem or "") in (found.problem or "")


# -- servers --------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class AskedSource(Source):
    """A source whose probes do as they are told."""

    kind: ClassVar[str] = "asked"
    answer: Callable[[], Iterator[Probe]]
    name: str = ""

    def opened_at(self, positions: Positions | None) -> Stream:
        """Not by a check."""
        raise AssertionError("a check opens nothing")

    def identity(self) -> dict[str, Json]:
        """None."""
        return {}

    def named(self, name: str, instance_id: str | None) -> Source:
        """Under the engine's name."""
        if name == "nobody":
            raise SettingsError("group needs an instance_id; set [engine] instance_id")
        return replace(self, name=name)

    def probes(self) -> Iterator[Probe]:
        """What was told, and the name."""
        yield Probe("name", None, self.name)
        yield from self.answer()


@pytest.fixture
def plan(here: Path) -> Plan:
    return load("c.toml", ["engine.name=readings"])


def asked(plan: Plan, answer: Callable[[], Iterator[Probe]]) -> list[Tried]:
    return list(tried(replace(plan, source=AskedSource(answer))))


def away() -> Iterator[Probe]:
    yield Probe("settings", None)
    raise Unreachable("broker 127.0.0.1:1 does not answer; start it")


def forbidden() -> Iterator[Probe]:
    yield Probe("broker", None)
    raise SettingsError("topic readings may not be read; grant READ")


def test_a_source_is_asked_under_the_engines_name(plan: Plan) -> None:
    first, *rest = asked(plan, lambda: iter(()))
    assert first == Tried("source", "name", None, "readings")
    assert [one.where for one in rest] == ["sinks.0", "checkpoints"]


def test_nobody_there_is_told_and_the_others_are_tried_still(plan: Plan) -> None:
    _, settings, connection, *rest = asked(plan, away)
    assert (settings.problem, connection.reached) == (None, False)
    assert connection.problem == "broker 127.0.0.1:1 does not answer; start it"
    assert [(one.where, one.reached) for one in rest] == [("sinks.0", True), ("checkpoints", True)]


def test_what_may_not_be_done_is_a_problem(plan: Plan) -> None:
    found = asked(plan, forbidden)
    assert (found[2].problem, found[2].reached) == (
        "topic readings may not be read; grant READ",
        True,
    )
    nobody = replace(plan, engine=replace(plan.engine, name="nobody"))
    assert "instance_id" in str(asked(nobody, forbidden)[0].problem)


def test_an_output_that_nobody_answers_for_is_exit_code_3(
    cli: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JsonLinesSink, "probes", lambda self: away())
    left = cli("check", changed(here, '"in.csv"', '"none.csv"'), "--online")
    assert left.code == 3
    assert "sinks.0: error: connection: broker 127.0.0.1:1 does not answer; start it" in left.out
    assert "none.csv does not exist" in left.out
    assert "checkpoints: ok" in left.out
    told = json.loads(cli("check", "c.toml", "--online", "--json").out)
    assert [probe["reached"] for probe in told["probes"]] == [True, True, True, False, True]


def test_secrets_are_not_shown(cli: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(self: Any) -> Iterator[Probe]:
        yield Probe("login", "password 'hush' is refused; give another")

    monkeypatch.setattr(JsonLinesSink, "probes", told)
    monkeypatch.setattr("stream_em.config.masks.is_secret", lambda key: key == "path")
    left = cli("check", changed(here, '"out.jsonl"', '"hush"'), "--online")
    assert left.code == 1
    assert "hush" not in left.out


# -- the dry run ----------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class SharedSource(Source):
    """Remembers how it was opened."""

    kind: ClassVar[str] = "shared"
    opened: list["SharedSource"]
    sharing: str = "group"
    group_id: str = "ours"
    known_as: tuple[str, str | None] | None = field(default=None, init=False)

    def opened_at(self, positions: Positions | None) -> Stream:
        """A few rows."""
        self.opened.append(self)
        return MemorySource([[[1.0, 2.0], [3.0, 4.0]]]).opened_at(None)

    def identity(self) -> dict[str, Json]:
        """None."""
        return {}

    def named(self, name: str, instance_id: str | None) -> Source:
        """Under the engine's name."""
        named = replace(self)
        object.__setattr__(named, "known_as", (name, instance_id))
        return named


def test_a_dry_run_joins_no_group(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[SharedSource] = []
    engine = replace(plan.engine, instance_id="one")
    rehearse(replace(plan, source=SharedSource(opened), engine=engine), False, False)
    (used,) = opened
    assert (used.sharing, used.known_as) == ("none", ("readings", "one"))
    assert "2 rows accepted" in capsys.readouterr().out


def test_a_dry_run_that_reaches_nobody_is_exit_code_3(
    cli: Any, here: Path, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(self: Any, positions: Positions | None) -> Stream:
        raise Unreachable("no broker answers at 127.0.0.1:1; start it, or correct the address")

    monkeypatch.setattr("stream_em_connectors.files.CsvSource.opened_at", nobody)
    before = files()
    for arguments in (["--dry-run"], []):
        left = cli("run", "c.toml", *arguments)
        assert left.code == 3
        assert "start it, or correct the address" in left.err
    assert cli("run", "c.toml", "--dry-run").out == ""
    assert set(files()) - set(before) <= {"saved", "saved/lock"}
