"""Engines share a topic: a second and a third join and leave under load, each row learned once."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import pytest

from stream_em.stores import DirectoryStore

PARTITIONS, TURN = 6, 6_000
pytestmark = pytest.mark.timeout(420)

CONFIGURATION = """
[engine]
name = {name}

[source]
kind = "kafka"
bootstrap_servers = {bootstrap}
topics = [{source}]
group_id = {name}
features = ["x"]
client = {client}
sharing = "group"
session_timeout_seconds = 6
batch_size = 500

[model]
kind = "kmeans"
n_clusters = 2
initial_means = [[0.0], [50.0]]

[[sinks]]
kind = "kafka"
bootstrap_servers = {bootstrap}
topic = {output}
client = {client}

[checkpoints]
directory = "checkpoints"
every_seconds = 0.5

[http]
address = "off"
"""


@final
class Party:
    """The engines of one group, each in a process of its own."""

    def __init__(self, folder: Path, **texts: str) -> None:
        self.folder, self.source, self.output = folder, texts["source"], texts["output"]
        self.name = texts["name"]
        quoted = {key: json.dumps(text) for key, text in texts.items()}
        (folder / "run.toml").write_text(CONFIGURATION.format(**quoted))
        self.engines: dict[str, subprocess.Popen[bytes]] = {}

    def join(self, name: str) -> None:
        command = [sys.executable, "-m", "stream_em", "run", "-c", "run.toml", "--no-progress"]
        command += ["--set", f"engine.instance_id={name}"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.engines[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            )

    def leave(self, name: str) -> None:
        engine = self.engines.pop(name)
        engine.send_signal(signal.SIGTERM)
        try:
            code: int | str = engine.wait(90)
        except subprocess.TimeoutExpired:
            engine.send_signal(signal.SIGABRT)  # its log then tells where it hangs
            engine.wait(30)
            code = "does not end"
        assert code == 0, self.log(name)

    def learned(self, name: str) -> int:
        """Rows that the newest whole checkpoint of an engine knows."""
        store = DirectoryStore(str(self.folder / "checkpoints"), name)
        for found in reversed(store.names()):
            try:
                return store.load(found).state.total_events
            except Exception:  # just being pruned
                continue
        return 0

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-5000:]

    def check(self) -> None:
        for name, engine in self.engines.items():
            assert engine.poll() is None, f"{name} ended:\n{self.log(name)}"


@pytest.fixture(params=["kafka-python", "librdkafka"])
def party(
    request: pytest.FixtureRequest, broker: Any, topic: Callable[..., str], tmp_path: Path
) -> Iterator[Party]:
    source, output = topic(PARTITIONS), topic(2)
    texts = {"bootstrap": broker.bootstrap, "client": request.param}
    party = Party(tmp_path, name=f"party-{source}", source=source, output=output, **texts)
    yield party
    for engine in party.engines.values():
        engine.kill()


def test_every_row_is_learned_by_exactly_one_engine(
    party: Party,
    produce: Callable[..., None],
    read_topic: Any,
    committed_offsets: Any,
) -> None:
    numbers, sent = itertools.count(), 0

    def feed() -> None:
        nonlocal sent
        for place in range(PARTITIONS):
            values = [b'{"x":%d}' % (next(numbers) % 100) for _ in range(TURN // PARTITIONS)]
            produce(party.source, values, place)
        sent += TURN

    def feed_until(reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 120
        while not reached():
            party.check()
            assert time.monotonic() < deadline, f"{what}:\n{party.log('one')}"
            feed()
            time.sleep(0.2)

    party.join("one")
    feed_until(lambda: party.learned("one") > 0, "one learns nothing")
    party.join("two")
    feed_until(lambda: party.learned("two") > 0, "two learns nothing")
    party.join("three")
    feed_until(lambda: party.learned("three") > 0, "three learns nothing")
    party.leave("two")
    ended = party.learned("two")
    before = party.learned("one") + party.learned("three")
    feed_until(lambda: party.learned("one") + party.learned("three") > before, "nobody goes on")

    def all_learned() -> bool:
        party.check()
        return sum(party.learned(name) for name in ("one", "two", "three")) >= sent

    deadline = time.monotonic() + 120
    while not all_learned():
        assert time.monotonic() < deadline, f"{sent} sent:\n{party.log('one')}{party.log('three')}"
        time.sleep(0.2)
    party.leave("one")
    party.leave("three")
    assert party.learned("two") == ended
    assert sum(party.learned(name) for name in ("one", "two", "three")) == sent
    rows = [json.loads(record.value) for record in read_topic(party.output)]
    places = Counter((row["partition"], row["offset"]) for row in rows)
    assert len(places) == sent
    assert set(places.values()) == {1}
    offsets = committed_offsets(party.name, party.source)
    assert sum(offset for offset, _ in offsets.values()) == sent
