"""TLS and passwords from end to end: an engine that proves who it is, and never tells how.

Every word that the command line says, and everything that a run leaves behind, is searched
for the password.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, final

import pytest

CLIENTS = ("kafka-python", "librdkafka")
ROWS = 600
pytestmark = pytest.mark.timeout(240)

CONFIG = """\
[engine]
name = "{source}"
[source]
kind = "kafka"
bootstrap_servers = "{at}"
topics = ["{source}"]
group_id = "{source}"
codec = "json"
features = ["a", "b"]
client = "{client}"
[source.security]
{keys}
[model]
kind = "kmeans"
n_clusters = 2
initial_means = [[0.0, 0.0], [10.0, 0.0]]
[[sinks]]
kind = "kafka"
bootstrap_servers = "{at}"
topic = "{output}"
client = "{client}"
[sinks.security]
{keys}
[dead_letters]
kind = "kafka"
bootstrap_servers = "{at}"
topic = "{dead}"
client = "{client}"
[dead_letters.security]
{keys}
[checkpoints]
directory = "saved"
every_events = 200
every_seconds = 1
[http]
address = "127.0.0.1:{port}"
"""
BY_FILE = 'password_file = "secret"'
BY_NAME = 'password = "${KAFKA_PASSWORD}"'


class Left(NamedTuple):
    code: int
    said: str  # on both streams


@final
class World:
    """A folder with a configuration for the secured listener, and the command line in it."""

    def __init__(self, folder: Path, broker: Any, topics: dict[str, str], client: str) -> None:
        self.folder, self.broker, self.topics, self.client = folder, broker, topics, client
        self.secured = broker.secured
        self.username, self.password = self.secured.username, self.secured.password
        self.ca_file = str(self.secured.ca_file)
        self.port = free_port()
        self.environment: dict[str, str] = {}

    def configure(self, password: str = BY_FILE) -> None:
        keys = [
            'protocol = "SASL_SSL"\nmechanism = "SCRAM-SHA-512"',
            f'username = "{self.username}"\nca_file = "{self.ca_file}"',
            password,
        ]
        facts = {"at": self.secured.bootstrap, "client": self.client, "port": self.port}
        text = CONFIG.format(keys="\n".join(keys), **facts, **self.topics)
        (self.folder / "c.toml").write_text(text)
        (self.folder / "secret").write_text(f"{self.password}\n")

    def start(self, *arguments: str, **pipes: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "stream_em", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def cli(self, *arguments: str) -> Left:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=120)
        return Left(process.returncode, said)

    def left_behind(self) -> dict[str, bytes]:
        """The bytes of every file in the folder but that of the secret itself."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in files if path.name != "secret"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(params=CLIENTS)
def world(
    request: pytest.FixtureRequest, secure_broker: Any, new_topic: Any, tmp_path: Path
) -> World:
    topics = {name: new_topic(secure_broker.bootstrap) for name in ("source", "output", "dead")}
    world = World(tmp_path, secure_broker, topics, request.param)
    world.configure()
    return world


@pytest.fixture
def fill(produce: Any) -> Callable[[World], None]:
    """`fill(world)`: rows and one broken record for its source."""

    def filled(world: World) -> None:
        values = [b'{"a":%d,"b":0.5}' % (n % 2 * 10) for n in range(ROWS)]
        values[ROWS // 2] = b"broken"
        produce(world.topics["source"], values, bootstrap=world.broker.bootstrap)

    return filled


@pytest.fixture
def seen(read_topic: Any) -> Callable[[World], dict[str, list[Any]]]:
    """`seen(world)`: the records of its output topics."""

    def found(world: World) -> dict[str, list[Any]]:
        return {
            name: read_topic(world.topics[name], bootstrap=world.broker.bootstrap)
            for name in ("output", "dead")
        }

    return found


def offsets(records: list[Any]) -> list[int]:
    return [json.loads(one.value)["offset"] for one in records]


def test_a_run_over_tls_is_exact_and_tells_no_secret(world: World, fill: Any, seen: Any) -> None:
    fill(world)
    metrics, engine = watched(world)
    said, _ = engine.communicate(timeout=60)
    assert engine.returncode == 0, said
    fill(world)
    left = world.cli("run", "c.toml", "-vv", "--until-end", "--summary-json", "summary.json")
    assert left.code == 0, left.said
    records = seen(world)
    broken = [ROWS // 2, ROWS + ROWS // 2]
    assert offsets(records["dead"]) == broken
    assert offsets(records["output"]) == [n for n in range(2 * ROWS) if n not in broken]
    summary = json.loads((world.folder / "summary.json").read_text())
    assert (summary["total_events"], summary["rejected"]) == (2 * ROWS - 2, 1)
    shown = [world.cli("config", "show", *more, "c.toml") for more in ((), ("--resolved",))]
    assert [one.code for one in shown] == [0, 0], shown
    told = {
        "metrics": metrics,
        "first": said,
        "second": left.said,
        "shown": shown[0].said,
        "resolved": shown[1].said,
        **world.left_behind(),
        **{name: repr(found) for name, found in records.items()},
    }
    secret = world.password
    assert [name for name, text in told.items() if secret in str(text)] == []


def watched(world: World) -> tuple[str, subprocess.Popen[str]]:
    """The metrics of an engine that has learned all that was there, and was told to stop."""
    engine = world.start("run", "c.toml", "-vv", "--no-progress")
    deadline = time.monotonic() + 60
    metrics = ""
    while f"stream_em_events_total {ROWS - 1}.0" not in metrics:
        if engine.poll() is not None or time.monotonic() > deadline:
            engine.kill()
            pytest.fail(f"the engine does not learn: {engine.communicate()[0]}\n{metrics}")
        time.sleep(0.1)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{world.port}/metrics", timeout=5) as got:
                metrics = got.read().decode()
        except OSError:
            continue
    engine.send_signal(signal.SIGTERM)
    return metrics, engine


def test_a_password_from_the_environment(world: World, fill: Any, seen: Any) -> None:
    fill(world)
    world.configure(BY_NAME)
    world.environment["KAFKA_PASSWORD"] = world.password
    left = world.cli("run", "c.toml", "-vv", "--until-end")
    assert left.code == 0, left.said
    assert len(seen(world)["output"]) == ROWS - 1
    shown = world.cli("config", "show", "--resolved", "c.toml").said
    assert world.password not in left.said + shown


def test_a_password_that_overrides_by_a_variable_of_its_place(world: World, fill: Any) -> None:
    """`STREAM_EM_SOURCE__SECURITY__PASSWORD` goes before the file; outputs have no such place."""
    fill(world)
    world.configure("")
    world.environment["STREAM_EM_SOURCE__SECURITY__PASSWORD"] = world.password
    outputs = ("--set", 'sinks=[{kind="jsonl", path="out.jsonl"}]')
    files = (*outputs, "--set", 'dead_letters={kind="jsonl", path="dead.jsonl"}')
    left = world.cli("run", "c.toml", "-vv", "--until-end", *files)
    assert left.code == 0, left.said
    assert len((world.folder / "out.jsonl").read_bytes().splitlines()) == ROWS - 1
    shown = world.cli("config", "show", "--resolved", "c.toml", *files).said
    assert "STREAM_EM_SOURCE__SECURITY__PASSWORD" in shown
    assert world.password not in left.said + shown


def test_a_wrong_password(world: World) -> None:
    world.password = "not-the-password"
    world.configure()
    for command in (("run", "c.toml", "-vv"), ("check", "c.toml", "--online")):
        left = world.cli(*command)
        assert left.code == 3, left.said
        assert "the user 'engine'" in left.said
        assert "check username, password" in left.said
        assert "not-the-password" not in left.said


def test_a_wrong_authority(world: World) -> None:
    """A certificate that signs nothing here: a client's own of another broker."""
    subprocess.run(
        [
            *("keytool", "-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1"),
            *("-alias", "other", "-dname", "CN=127.0.0.1", "-ext", "bc:critical=ca:true"),
            *("-keystore", "other.p12", "-storetype", "PKCS12", "-storepass", "irrelevant"),
        ],
        cwd=world.folder,
        check=True,
        capture_output=True,
    )
    exported = ("keytool", "-exportcert", "-rfc", "-alias", "other", "-file", "other.pem")
    store = ("-keystore", "other.p12", "-storepass", "irrelevant")
    subprocess.run([*exported, *store], cwd=world.folder, check=True, capture_output=True)
    world.ca_file = "other.pem"
    world.configure()
    left = world.cli("run", "c.toml", "-vv")
    assert left.code == 3, left.said
    assert "certificate" in left.said and "check ca_file" in left.said
    assert world.password not in left.said


# -- a user who may not do everything --------------------------------------------------------


@pytest.fixture
def guest(world: World) -> World:
    """The world of a user who may read the source, use its groups, and describe the outputs."""
    world.username, world.password = world.secured.reader, world.secured.reader_password
    world.configure()
    allow(world, "TOPIC", world.topics["source"], "READ")
    for group in (world.topics["source"], f"{world.topics['source']}.marker"):
        allow(world, "GROUP", group, "READ")
    for name in ("output", "dead"):
        allow(world, "TOPIC", world.topics[name], "DESCRIBE")
    return world


def allow(world: World, kind: str, name: str, operation: str) -> None:
    from confluent_kafka.admin import (
        AclBinding,
        AclOperation,
        AclPermissionType,
        AdminClient,
        ResourcePatternType,
        ResourceType,
    )

    rule = AclBinding(
        ResourceType[kind],
        name,
        ResourcePatternType.LITERAL,
        f"User:{world.secured.reader}",
        "*",
        AclOperation[operation],
        AclPermissionType.ALLOW,
    )
    admin = AdminClient({"bootstrap.servers": world.broker.bootstrap})
    for future in admin.create_acls([rule]).values():
        future.result(30)


def test_a_user_who_may_not_write(guest: World, fill: Any, seen: Any) -> None:
    """Refused wherever it is met: at the transactions, at the marker, and at the records."""
    fill(guest)
    name, outputs = guest.topics["source"], (guest.topics["output"], guest.topics["dead"])
    said = refusal(guest)
    assert f"transactional id '{name}'" in said and "grant it WRITE" in said
    allow(guest, "TRANSACTIONAL_ID", name, "WRITE")
    said = refusal(guest)  # the marker is an offset of the topics
    assert f"group {name}.marker" in said and "READ" in said
    assert f"the topic '{', '.join(sorted(outputs))}'" in said
    for topic in outputs:
        allow(guest, "TOPIC", topic, "READ")
    said = refusal(guest)
    assert any(topic in said for topic in outputs)
    assert "WRITE to write it" in said
    assert seen(guest) == {"output": [], "dead": []}
    for topic in outputs:
        allow(guest, "TOPIC", topic, "WRITE")
    left = guest.cli("run", "c.toml", "--until-end")
    assert left.code == 0, left.said
    assert len(seen(guest)["output"]) == ROWS - 1


def refusal(guest: World) -> str:
    """What a run says that may not do what it has to."""
    left = guest.cli("run", "c.toml", "--until-end")
    assert left.code == 2, left.said
    assert "the user 'reader' is not permitted to use" in left.said
    assert guest.password not in left.said
    return left.said.splitlines()[-1]


def test_check_tells_of_topics_that_may_not_be_written(guest: World, fill: Any) -> None:
    fill(guest)
    left = guest.cli("check", "c.toml", "--online")
    assert left.code == 1, left.said
    found = dict(line.split(": error: ") for line in left.said.splitlines() if ": error: " in line)
    assert sorted(found) == ["dead_letters", "sinks.0"], left.said
    assert f"topic {guest.topics['output']}" in found["sinks.0"]
    assert "grant it READ and WRITE" in found["sinks.0"]
    for name in ("output", "dead"):
        allow(guest, "TOPIC", guest.topics[name], "WRITE")
        allow(guest, "TOPIC", guest.topics[name], "READ")
    left = guest.cli("check", "c.toml", "--online")
    assert left.code == 0, left.said
    assert guest.password not in left.said


# -- what is refused before anybody is asked ---------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., Left]:
    """`refused(options, without="name")`: a command line for brokers that need not be there."""

    def command(*options: str, without: str = "") -> Left:
        lines = [line for line in UNSECURED.splitlines() if not (without and without in line)]
        (tmp_path / "c.toml").write_text("\n".join(lines))
        left = subprocess.run(
            [sys.executable, "-m", "stream_em", "run", "c.toml", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Left(left.returncode, left.stderr)

    return command


UNSECURED = """\
engine.name = "readings"
source = { kind = "csv", path = "in.csv", features = ["a"] }
model = { kind = "kmeans", n_clusters = 2 }
sinks = [{ kind = "kafka", bootstrap_servers = "127.0.0.1:9", topic = "out" }]
checkpoints.directory = "saved"
http.address = "off"
"""
FILE = '{kind="jsonl", path="out.jsonl"}'
HERE = '{kind="kafka", bootstrap_servers="127.0.0.1:9", topic="out"}'
THERE = '{kind="kafka", bootstrap_servers="127.0.0.1:10", topic="there"}'


@pytest.mark.parametrize(
    ("options", "without", "told"),
    [
        ((), "checkpoints", "add [checkpoints]"),
        ((), "engine", "engine.name is missing"),
        (("--set", "checkpoints.every_seconds=0"), "", "every_seconds is 0"),
        (("--set", "checkpoints.every_seconds=400"), "", "every_seconds = 300 or less"),
        (("--set", f"sinks=[{HERE}, {THERE}]"), "", "several clusters"),
        (("--take-over", "--set", f"sinks=[{HERE}, {FILE}]"), "", "out.jsonl"),
        (("--take-over", "--set", f"sinks=[{FILE}]"), "", "--take-over"),
    ],
    ids=["checkpoints", "name", "never", "seldom", "clusters", "take-over", "no-transactions"],
)
def test_settings_that_transactions_cannot_have(
    refused: Callable[..., Left], options: tuple[str, ...], without: str, told: str
) -> None:
    left = refused(*options, without=without)
    assert left.code == 2, left.said
    assert told in left.said
