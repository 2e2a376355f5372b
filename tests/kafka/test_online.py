"""`check --online` and `run --dry-run` before real brokers: all is tried, nothing disturbed."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import stream_em as se
from stream_em.cli import main
from stream_em.config import load
from stream_em.memory import MemorySink
from stream_em_connectors.kafka.settings import client_settings

pytestmark = pytest.mark.timeout(180)

CONFIG = """\
[engine]
name = "{name}"

[source]
kind = "kafka"
bootstrap_servers = "{at}"
topics = ["{topic}"]
codec = "json"
features = ["x", "y"]
client = "{client}"

[model]
kind = "kmeans"
n_clusters = 2
initial_means = [[0.0, 0.0], [9.0, 9.0]]

[[sinks]]
kind = "kafka"
bootstrap_servers = "{at}"
topic = "{output}"
client = "{client}"
timeout_seconds = {patience}

[checkpoints]
directory = "saved"
every_seconds = 0.3

[http]
address = "off"
"""
CLIENTS = ("kafka-python", "librdkafka")


class Left(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Left]:
    """Runs a command line in this process."""

    def invoke(*arguments: str) -> Left:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        code = left.value.code
        return Left(code if isinstance(code, int) else 0, *capsys.readouterr())

    return invoke


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, being the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """The name of a client whose package is there."""
    if request.param == "librdkafka":
        pytest.importorskip("confluent_kafka")
    return str(request.param)


def written(here: Path, **given: str) -> str:
    """A configuration, as text in the folder; its name."""
    name = f"n-{given['topic']}"
    filled = {"name": name, "client": CLIENTS[0], "output": "none", "patience": "30", **given}
    (here / "c.toml").write_text(CONFIG.format(**filled))
    return "c.toml"


def records(n: int = 40) -> list[bytes]:
    X = np.random.default_rng(3).normal(size=(n, 2))
    return [json.dumps({"x": x, "y": y}).encode() for x, y in X.tolist()]


@contextmanager
def closed_port() -> Iterator[str]:
    """An address that is ours and where nobody listens, so that no one else can, either."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def verdicts(out: str) -> list[tuple[str, str]]:
    """Where and what of each line but the last, which speaks of the file."""
    found = [line.split(": ", 2) for line in out.splitlines()]
    return [(where, verdict) for where, verdict, *_ in found if where != "c.toml"]


@pytest.fixture
def groups(broker: Any) -> Callable[[], set[str]]:
    """`groups()`: the ids of all groups that the broker knows of."""

    def listed() -> set[str]:
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        return {group.group_id for group in admin.list_consumer_groups().result(30).valid}

    return listed


# -- nobody there ---------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source gives up after two seconds instead of ten."""

    def hurried(*arguments: Any) -> Any:
        return client_settings(*arguments)._replace(patience_seconds=2.0)

    monkeypatch.setattr("stream_em_connectors.kafka.source.client_settings", hurried)


@pytest.mark.usefixtures("impatient")
def test_nobody_listens_for_the_source(cli: Any, here: Path, client: str) -> None:
    sink = ["--set", 'sinks=[{kind="jsonl", path="out.jsonl"}]']
    with closed_port() as at:
        name = written(here, at=at, topic="readings", client=client)
        for command in (["run", name], ["run", name, "--dry-run"], ["check", name, "--online"]):
            left = cli(*command, *sink)
            told = left.err + left.out
            assert left.code == 3, (command, told)
            assert at in told
            assert "check bootstrap_servers" in told
    assert not (here / "out.jsonl").exists()


def test_nobody_listens_for_the_sink(cli: Any, here: Path, client: str) -> None:
    (here / "in.csv").write_text("x,y\n1,2\n")
    source = ["--set", 'source={kind="csv", path="in.csv"}']
    with closed_port() as at:
        name = written(here, at=at, topic="readings", client=client, patience="2")
        for command in (["run", name], ["check", name, "--online"]):
            left = cli(*command, *source)
            told = left.err + left.out
            assert left.code == 3, (command, told)
            assert at in told
            assert "check bootstrap_servers" in told
    assert ("source", "ok") in verdicts(left.out)
    assert ("checkpoints", "ok") in verdicts(left.out)


# -- check ----------------------------------------------------------------------------------


def test_all_is_well(
    cli: Any, here: Path, broker: Any, topic: Any, produce: Any, groups: Any, client: str
) -> None:
    source, output = topic(2), topic()
    produce(source, records(), partition=1)
    before = groups()
    at = broker.bootstrap
    left = cli(
        "check", written(here, at=at, topic=source, output=output, client=client), "--online"
    )
    assert left.code == 0, left.out
    assert {verdict for _, verdict in verdicts(left.out)} == {"ok"}
    assert f"source: ok: topic {source}: 2 partitions" in left.out
    assert f"sinks.0: ok: topic {output}: 1 partition" in left.out
    assert left.out.endswith("c.toml: no findings\n")
    assert groups() == before
    assert not (here / "saved").exists()


def test_topics_that_are_not_there(cli: Any, here: Path, broker: Any, client: str) -> None:
    name = written(here, at=broker.bootstrap, topic="no-in", output="no-out", client=client)
    left = cli("check", name, "--online", "--json")
    assert left.code == 1, left.out
    findings = {found["origin"]: found["message"] for found in json.loads(left.out)["findings"]}
    assert "topic no-in does not exist" in findings["source"]
    assert "topic no-out does not exist" in findings["sinks.0"]
    assert "create it" in findings["source"] and "create it" in findings["sinks.0"]


def test_records_that_do_not_decode(
    cli: Any, here: Path, broker: Any, topic: Any, produce: Any
) -> None:
    source, output = topic(), topic()
    produce(source, [b"x;y", b"1;2"])
    left = cli("check", written(here, at=broker.bootstrap, topic=source, output=output), "--online")
    assert left.code == 1
    (line,) = [line for line in left.out.splitlines() if ": error: " in line]
    assert line.startswith(f"source: error: a record of {source}")
    assert "decode_error" in line and "correct codec" in line


def test_a_topic_that_may_not_be_written(
    cli: Any, here: Path, secure_broker: Any, new_topic: Any, client: str
) -> None:
    """A topic without any rights is not even seen."""
    source, output = new_topic(secure_broker.bootstrap), new_topic(secure_broker.bootstrap)
    at = secure_broker.secured
    _allow(secure_broker.bootstrap, at.reader, source)
    (here / "password").write_text(at.reader_password)
    security = (
        'security = { protocol = "SASL_SSL", mechanism = "SCRAM-SHA-512", password_file = '
        f'"password", username = "{at.reader}", ca_file = "{at.ca_file}" }}\n'
    )
    written(here, at=at.bootstrap, topic=source, output=output, client=client)
    text = (here / "c.toml").read_text()
    address = f'bootstrap_servers = "{at.bootstrap}"\n'
    (here / "c.toml").write_text(text.replace(address, address + security))
    left = cli("check", "c.toml", "--online")
    assert left.code == 1, left.out
    found = [line for line in left.out.splitlines() if ": error: " in line]
    assert [line.split(": ")[0] for line in found] == ["sinks.0"], left.out
    assert output in found[0]
    assert at.reader_password not in left.out + left.err


def _allow(bootstrap: str, user: str, topic: str) -> None:
    """Grant a user to read a topic, and with any group."""
    from confluent_kafka.admin import (
        AclBinding,
        AclOperation,
        AclPermissionType,
        AdminClient,
        ResourcePatternType,
        ResourceType,
    )

    def rule(kind: Any, name: str, operation: Any) -> Any:
        pattern, principal = ResourcePatternType.LITERAL, f"User:{user}"
        allow = AclPermissionType.ALLOW
        return AclBinding(kind, name, pattern, principal, "*", operation, allow)

    rules = [
        rule(ResourceType.TOPIC, topic, AclOperation.READ),
        rule(ResourceType.GROUP, "*", AclOperation.READ),
    ]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_acls(rules).values():
        future.result(30)


# -- beside a running engine ----------------------------------------------------------------


class Stop:
    """A request to stop."""

    def __init__(self) -> None:
        self.requested = threading.Event()


@contextmanager
def running(name: str, settings: list[str]) -> Iterator[list[Any]]:
    """An engine that runs as the configuration says; yields what it has learned so far."""
    plan, stop, seen = load(name, settings), Stop(), []
    ended: list[BaseException | None] = []
    learning = threading.Event()

    def observe(snapshot: Any) -> None:
        seen.append(snapshot.throughput.events)
        if seen[-1]:
            learning.set()

    def work() -> None:
        try:
            arguments = (plan.source, plan.model, plan.sinks, plan.store)
            facts: dict[str, Any] = {"name": plan.name, "instance_id": plan.engine.instance_id}
            se.run(*arguments, schedule=plan.schedule, stop=stop, observe=observe, **facts)
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert learning.wait(60), ended
        yield seen
    finally:
        stop.requested.set()
        thread.join(60)
    assert ended == [None]


@pytest.mark.parametrize("sharing", ["none", "group"])
def test_a_running_engine_goes_on(
    cli: Any,
    here: Path,
    broker: Any,
    topic: Any,
    produce: Any,
    committed_offsets: Any,
    client: str,
    sharing: str,
) -> None:
    """Neither its lock, its transactions nor its place in the group are taken from it."""
    source, output = topic(2), topic()
    produce(source, records())
    name = written(here, at=broker.bootstrap, topic=source, output=output, client=client)
    group = f"g-{source}"
    shared = [f"source.group_id={group}", f"source.sharing={sharing}", "engine.instance_id=one"]
    options = [word for setting in shared for word in ("--set", setting)]
    with running(name, shared) as seen:
        checked = cli("check", name, "--online", *options)
        dry = cli("run", name, "--dry-run", *options)
        learned = seen[-1]
        produce(source, records())
        assert _soon(lambda: seen[-1] >= learned + 40), seen[-1]
    assert checked.code == 0, checked.out
    assert dry.code == 0, dry.err
    assert "40 rows accepted" in dry.out or "none came" in dry.out
    assert committed_offsets(group, source)[0][0] == 80


def _soon(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true within a minute."""
    waiting = threading.Event()
    for _ in range(600):
        if condition():
            return True
        waiting.wait(0.1)
    return False


# -- the dry run ----------------------------------------------------------------------------


def test_a_dry_run_reads_and_leaves_no_trace(
    cli: Any,
    here: Path,
    broker: Any,
    topic: Any,
    produce: Any,
    read_topic: Any,
    groups: Any,
    client: str,
) -> None:
    source, output = topic(), topic()
    produce(source, [*records(30), b"no json"])
    name = written(here, at=broker.bootstrap, topic=source, output=output, client=client)
    options = ("--set", "source.group_id=dry", "--set", "engine.instance_id=one")
    for sharing in ("none", "group"):
        left = cli("run", name, "--dry-run", *options, "--set", f"source.sharing={sharing}")
        assert left.code == 0, left.err
        assert "30 rows accepted, 1 rejected" in left.out
    assert "dry" not in groups()
    assert read_topic(output) == []
    assert not (here / "saved").exists()


def test_a_dry_run_begins_where_the_group_stands(
    cli: Any, here: Path, broker: Any, topic: Any, produce: Any, client: str
) -> None:
    source = topic()
    produce(source, records(30))
    name = written(here, at=broker.bootstrap, topic=source, client=client)
    group = f"g-{source}"
    plan = load(name, [f"source.group_id={group}", "source.until_end=true"])
    se.run(plan.source, plan.model, [MemorySink()], plan.store)
    produce(source, records(7))
    options = ("--set", f"source.group_id={group}", "--set", "source.start=committed", "--fresh")
    left = cli("run", name, "--dry-run", *options)
    assert left.code == 0, left.err
    assert "7 rows accepted" in left.out
