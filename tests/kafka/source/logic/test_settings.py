"""Settings of a source: refusals, identity, its table in TOML, and late imports."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_em.config import load
from stream_em.errors import SettingsError
from stream_em_connectors.kafka import KafkaSource
from stream_em_connectors.kafka.codecs import Csv, Floats32


@pytest.mark.parametrize(
    "wrong",
    [
        {"bootstrap_servers": "localhost"},
        {"bootstrap_servers": ""},
        {"topics": []},
        {"topics": ["a b"]},
        {"features": []},
        {"codec": "xml"},
        {"batch_size": 0},
        {"missing": "maybe"},
        {"sharing": "some"},
        {"on_gap": "ignore"},
        {"on_recreated": "skip"},
        {"client": "java"},
        {"weight": ""},
        {"group_id": ""},
        {"start": "yesterday"},
        {"start": "yesterday", "group_id": "g"},
        {"max_reject_ratio": 2},
        {"features": ["a", "a.b"]},
        {"security": {"protocol": "NONSENSE"}},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    given = {"bootstrap_servers": "localhost:9092", "topics": ["t"], "features": ["x"], **wrong}
    with pytest.raises(SettingsError):
        KafkaSource(**given)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"topics": []}, r"topics is \[\], expected a list of names$"),
        ({"features": []}, r"features is \[\], expected a list of names$"),
        ({"topics": ["t", "t"]}, "topics names 't' twice; name every topic once"),
        ({"features": ["x", "x"]}, "name every feature once"),
        ({"features": ["", "y"]}, "features name an empty text"),
        ({"features": ["", "y"], "codec": "floats64"}, "features name an empty text"),
        ({"features": ["x.", "y"]}, "field 'x.' has an empty part"),
        ({"key": "a..b"}, "field 'a..b' has an empty part"),
    ],
)
def test_what_is_wrong_with_names_is_said(kafka: Any, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        kafka(**wrong)


def test_dots_of_columns_are_nothing_but_text(kafka: Any) -> None:
    assert kafka(features=["x."], codec="csv").features == ("x.",)


def test_identity_is_plain_and_leaves_out_what_is_free(kafka: Any) -> None:
    identity = kafka(codec={"kind": "csv", "delimiter": ";"}).identity()
    assert json.loads(json.dumps(identity)) == identity
    free = kafka(
        codec={"kind": "csv", "delimiter": ";"}, batch_size=5, client="librdkafka", group_id="g"
    )
    assert free.identity() == identity
    assert kafka(codec="csv").identity() != identity


TOML = """
[model]
kind = "kmeans"
n_clusters = 3

[source]
kind = "kafka"
bootstrap_servers = "127.0.0.1:9092"
topics = ["readings"]
group_id = "stream-em-readings"
features = ["temperature", "engine.pressure"]
start = "earliest"
batch_size = 1000
max_wait_ms = 100
client = "kafka-python"
sharing = "none"
"""


class TestConfiguration:
    @pytest.fixture
    def planned(self, tmp_path: Path) -> Callable[[str], KafkaSource]:
        def made(more: str) -> KafkaSource:
            path = tmp_path / "clusters.toml"
            path.write_text(TOML + more)
            source = load(path).source
            assert isinstance(source, KafkaSource)
            return source

        return made

    def test_the_plain_table(self, planned: Any) -> None:
        given = {"topics": ["readings"], "features": ["temperature", "engine.pressure"]}
        expected = KafkaSource("127.0.0.1:9092", group_id="stream-em-readings", **given)
        assert planned("") == expected

    def test_a_codec_as_a_word_or_a_table(self, planned: Any) -> None:
        assert planned('codec = "floats32"').codec == Floats32()
        assert planned('codec = { kind = "csv", delimiter = ";" }').codec == Csv(delimiter=";")

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ('codec = { kind = "csv", delimeter = ";" }', r"source.codec.delimeter.*'delimiter'"),
            ('codec = "jsn"', "source.codec.kind.*did you mean 'json'"),
            ("until_ends = true", "source.until_ends.*until_end"),
        ],
    )
    def test_what_is_misspelt_is_found(self, planned: Any, more: str, said: str) -> None:
        with pytest.raises(SettingsError, match=said):
            planned(more)

    def test_a_time_may_be_one_of_toml(self, tmp_path: Path) -> None:
        path = tmp_path / "clusters.toml"
        path.write_text(TOML.replace('"earliest"', "2026-01-01T00:00:03Z"))
        assert load(path).source == load(path, ["source.start=2026-01-01T00:00:03Z"]).source

    def test_security_tells_no_secret(self, planned: Any) -> None:
        table = '{ protocol = "SASL_SSL", mechanism = "PLAIN", username = "u", password = "hush" }'
        assert "hush" not in repr(planned(f"security = {table}"))


def test_no_client_library_is_loaded_before_it_is_wanted() -> None:
    script = (
        "import sys; from stream_em_connectors.kafka import KafkaSource; "
        "KafkaSource('localhost:9092', ['t'], ['x'], client='librdkafka'); "
        "assert not {'kafka', 'confluent_kafka', 'fastavro'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
