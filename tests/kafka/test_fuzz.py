"""Records that are no rows: counted by reason, never the end of a run, unless they are too many.

Every record that was sent is learned or rejected, and is found once: as a row or as a dead
letter with the bytes that came.
"""

import base64
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import stream_em as se
from stream_em.cli import main
from stream_em.engine import Schedule, run
from stream_em.stores import DirectoryStore
from stream_em_connectors.kafka.sink import KafkaSink
from stream_em_connectors.kafka.source import KafkaSource

RECORDS, PARTITIONS = 100_000, 2
LARGEST_BYTES = 4096  # of a record
EPOCH = 1.76e9  # seconds, the time of the first record
pytestmark = pytest.mark.timeout(300)

Fields = dict[str, Any]
Made = Callable[[Fields], bytes | None]


def always(value: bytes | None) -> Made:
    return lambda fields: value


def having(**more: Any) -> Made:
    return lambda fields: json.dumps({**fields, **more}).encode()


def without(name: str) -> Made:
    return lambda fields: json.dumps({k: v for k, v in fields.items() if k != name}).encode()


def literal(old: str, new: bytes) -> Made:
    """The value of a text field is exchanged for bytes that JSON may not know."""
    return lambda fields: having(**{old: "@"})(fields).replace(b'"@"', new)


GOOD: tuple[Made, ...] = (
    having(),
    having(a=3),
    having(a=-0.0),
    having(a=1e-300),
    having(w=0),
    having(t="2025-10-09T08:53:20Z"),
    having(note="é € 😀", more={"a": None}),
    lambda fields: json.dumps(dict(reversed(fields.items())), indent=2).encode(),
    literal("a", b"1.5E+0"),
)
BROKEN: tuple[tuple[str, Made], ...] = (
    ("empty", always(None)),
    ("empty", always(b"")),
    ("empty", always(b" \r\n")),
    ("decode_error", always(b"1.5;2.5;1")),
    ("decode_error", always(b"[" * 3000)),
    ("decode_error", lambda fields: having()(fields)[:-2]),
    ("decode_error", lambda fields: having()(fields) + b"}"),
    ("decode_error", literal("note", b'"\xe9"')),
    ("decode_error", literal("a", b"01")),
    ("decode_error", having(a="1.5")),
    ("decode_error", having(a="1,5")),
    ("decode_error", having(a=True)),
    ("decode_error", having(a=[1.5])),
    ("decode_error", having(t="yesterday")),
    ("schema", always(b"[1.5, 2.5]")),
    ("schema", always(b"null")),
    ("schema", always(b'"text"')),
    ("schema", without("t")),
    ("missing_feature", without("a")),
    ("missing_feature", having(a=None)),
    ("missing_feature", having(at=3)),
    ("non_finite", having(a=math.nan)),
    ("non_finite", having(a=-math.inf)),
    ("too_large", having(a=1e200)),
    ("too_large", having(a=10**400)),
    ("too_large", literal("a", b"1e999")),
    ("too_large", having(note="x" * LARGEST_BYTES)),
    ("weight", having(w=-1)),
    ("weight", having(w="2")),
    ("weight", having(w=math.nan)),
    ("weight", without("w")),
    ("future", having(t=1e12)),
)
REBUILT = "event time"  # is at fault: found when the bytes are gone, so they are written anew


class Sent(NamedTuple):
    """A record, and what has to become of it."""

    value: bytes | None
    reason: str | None  # None: a row; "?": either, as long as it is counted


@pytest.fixture(scope="module")
def sent() -> list[Sent]:
    """A third is broken, and one in fifty is good but for one byte."""
    draw = random.Random("fuzz")
    made = []
    for number in range(RECORDS):
        fields = {
            "a": round(draw.gauss(10 * draw.randrange(2), 1), 4),
            "at": {"b": round(draw.gauss(0, 1), 4)},
            "w": draw.choice((0.5, 1, 2)),
            "t": EPOCH + number / 100,
            "note": "",
        }
        lot = draw.random() if number >= PARTITIONS else 1.0  # the first ones set the clock
        if lot < 1 / 3:
            reason, broken = draw.choice(BROKEN)
            made.append(Sent(broken(fields), reason))
        elif lot < 1 / 3 + 1 / 50:
            value = bytearray(having()(fields))
            value[draw.randrange(len(value))] = draw.randrange(256)
            made.append(Sent(bytes(value), "?"))
        else:
            made.append(Sent(draw.choice(GOOD)(fields), None))
    return made


def decoded(letter: dict[str, Any]) -> bytes:
    raw = letter["raw"]
    return base64.b64decode(raw) if letter["raw_encoding"] == "base64" else raw.encode()


def place(row: dict[str, Any]) -> int:
    """Which record a row or a dead letter speaks of."""
    return row["offset"] * PARTITIONS + row["partition"]


def test_every_record_is_learned_or_rejected(
    broker: Any, topic: Any, produce: Any, read_topic: Any, tmp_path: Path, sent: list[Sent]
) -> None:
    source, output, dead = topic(PARTITIONS), topic(2), topic()
    for partition in range(PARTITIONS):
        produce(source, [one.value for one in sent[partition::PARTITIONS]], partition)
    at = broker.bootstrap
    reading = KafkaSource(
        at,
        [source],
        ["a", "at.b"],
        weight="w",
        time="t",
        max_record_bytes=LARGEST_BYTES,
        until_end=True,
        client="librdkafka",
    )
    forgetting = se.EventTimeHalfLife(seconds=3600.0)
    summary = run(
        reading,
        se.GaussianMixture(n_components=2, forgetting=forgetting),
        [KafkaSink(at, output, client="librdkafka")],
        DirectoryStore(str(tmp_path / "checkpoints")),
        dead_letters=KafkaSink(at, dead, client="librdkafka"),
        schedule=Schedule(every_events=20_000),
        name=source,
    )
    rows = [place(json.loads(one.value)) for one in read_topic(output)]
    letters = {place(letter): letter for letter in letters_of(read_topic(dead))}
    assert sorted([*rows, *letters]) == list(range(RECORDS))
    assert (summary.total_events, summary.total_rejected) == (len(rows), len(letters))
    counted(sent, letters)


def letters_of(records: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(one.value) for one in records]


def counted(sent: list[Sent], letters: dict[int, dict[str, Any]]) -> None:
    """Each record met its fate, by its own reason; and its bytes were kept."""
    known = {n: one.reason for n, one in enumerate(sent) if one.reason not in (None, "?")}
    told = {n: letter["reason"] for n, letter in letters.items() if sent[n].reason != "?"}
    wrong = [(sent[n], told.get(n)) for n in {*known, *told} if known.get(n) != told.get(n)]
    assert not wrong[:5], len(wrong)
    assert Counter(told.values()) == Counter(known.values())
    assert len(told) > RECORDS * 0.32
    for n, letter in letters.items():
        if not letter["detail"].startswith(REBUILT):
            assert decoded(letter) == (sent[n].value or b""), letter


# -- too many -------------------------------------------------------------------------------

CONFIG = """\
[engine]
name = "{source}"
[source]
kind = "kafka"
bootstrap_servers = "{at}"
topics = ["{source}"]
codec = "json"
features = {features}
client = "{client}"
batch_size = 100
max_reject_ratio = {ratio}
until_end = true
[model]
kind = "kmeans"
n_clusters = 2
initial_means = [[0.0, 0.0], [10.0, 0.0]]
[[sinks]]
kind = "kafka"
bootstrap_servers = "{at}"
topic = "{output}"
client = "{client}"
[dead_letters]
kind = "kafka"
bootstrap_servers = "{at}"
topic = "{dead}"
client = "{client}"
[checkpoints]
directory = "saved"
every_events = 500
every_seconds = 300
[http]
address = "off"
"""
ROWS = 2000


class Attempt(NamedTuple):
    """How a run ended, and what readers of its topics see by then."""

    code: int
    err: str
    rows: list[int]  # offsets of the source
    dead: list[int]


@pytest.fixture(params=["kafka-python", "librdkafka"])
def attempt(
    request: pytest.FixtureRequest,
    broker: Any,
    topic: Any,
    produce: Any,
    read_topic: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Attempt]:
    """`attempt(values, features=..., ratio=...)`: a run of the command line; once more without
    values goes on."""
    monkeypatch.chdir(tmp_path)
    topics = {"source": topic(), "output": topic(), "dead": topic()}

    def made(values: list[bytes] = (), features: str = '["a", "b"]', ratio: float = 0.2) -> Attempt:
        produce(topics["source"], values)
        facts = {"at": broker.bootstrap, "client": request.param, **topics}
        Path("c.toml").write_text(CONFIG.format(features=features, ratio=ratio, **facts))
        with pytest.raises(SystemExit) as left:
            main(["run", "c.toml", "--no-progress"])
        seen = [
            [json.loads(one.value)["offset"] for one in read_topic(topics[name])]
            for name in ("output", "dead")
        ]
        return Attempt(int(left.value.code or 0), capsys.readouterr().err, *seen)

    return made


def test_a_bad_stretch_stops_the_run_and_is_read_again(attempt: Callable[..., Attempt]) -> None:
    good, bad = [b'{"a":1.5,"b":0}'] * ROWS, [b'{"a":"1,5","b":0}'] * ROWS
    stopped = attempt([*good, *bad, *good])
    assert stopped.code == 1
    assert "more than max_reject_ratio = 0.2 allows" in stopped.err
    assert f"partition 0 offset {ROWS}: decode_error in field 'a'" in stopped.err
    assert "1,5" in stopped.err and "decimal" in stopped.err
    assert "correct the settings and start again" in stopped.err
    assert stopped.rows == list(range(len(stopped.rows)))  # as the last checkpoint has it
    assert len(stopped.rows) <= ROWS
    assert stopped.dead == []
    again = attempt()
    assert (again.code, again.dead) == (1, [])
    assert again.rows == list(range(len(again.rows)))
    assert len(stopped.rows) <= len(again.rows) <= ROWS
    after = attempt(ratio=1.0)
    assert after.code == 0, after.err
    assert after.rows == [*range(ROWS), *range(2 * ROWS, 3 * ROWS)]
    assert after.dead == list(range(ROWS, 2 * ROWS))


def test_wrong_names_stop_the_run_before_anything_is_written(
    attempt: Callable[..., Attempt],
) -> None:
    stopped = attempt([b'{"a":1.5,"b":0}'] * ROWS, features='["a", "c"]')
    assert stopped.code == 1
    assert "offset 0: missing_feature in field 'c'" in stopped.err
    assert "wrong names in `features`" in stopped.err
    assert (stopped.rows, stopped.dead) == ([], [])
    after = attempt()
    assert after.code == 0, after.err
    assert (after.rows, after.dead) == (list(range(ROWS)), [])
