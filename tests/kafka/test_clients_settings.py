"""The settings of clients, without any server: names, packages, secrets."""

import pytest

from stream_em.errors import SettingsError
from stream_em_connectors.kafka import packages
from stream_em_connectors.kafka.client import ClientSettings, ConsumerSettings, ProducerSettings
from stream_em_connectors.kafka.clients import client
from stream_em_connectors.kafka.memberships import Membership, packed, unpacked
from stream_em_connectors.kafka.security import Security, secured

SASL = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "ada"}


def test_a_client_by_another_name() -> None:
    with pytest.raises(SettingsError, match="did you mean 'kafka-python'"):
        client("kafka_python")


@pytest.mark.parametrize("missing", ["kafka", "crc32c", "confluent_kafka"])
def test_a_package_that_is_missing_is_named(monkeypatch, missing) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == missing else name)
    one = client("librdkafka" if missing == "confluent_kafka" else "kafka-python")
    settings = ClientSettings("127.0.0.1:9", {}, "test")
    with pytest.raises(SettingsError, match="pip install"):
        one.consumer(settings, ConsumerSettings("g", None))
    with pytest.raises(SettingsError, match="pip install"):
        one.producer(settings, ProducerSettings(None, 60.0, 0.0, 1000, None))


def test_making_a_client_connects_to_nothing() -> None:
    for name in ("kafka-python", "librdkafka"):
        settings = ClientSettings("no-such-host.invalid:9", {}, "test")
        client(name).consumer(settings, ConsumerSettings("g", None)).close()
        client(name).producer(settings, ProducerSettings(None, 60.0, 0.0, 1000, None)).close()


def test_a_password_from_a_file_a_variable_or_the_table(tmp_path, monkeypatch) -> None:
    file = tmp_path / "password"
    file.write_text("se cret\n")
    monkeypatch.setenv("THE_PASSWORD", "se cret")
    for given in (
        {"password": "se cret"},
        {"password": "${THE_PASSWORD}"},
        {"password_file": str(file)},
    ):
        made = secured({**SASL, **given})
        assert made.password == "se cret"
        assert "se cret" not in repr(made)
        assert secured(made) is made


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"protocol": "SASL-SSL"}, "did you mean 'SASL_SSL'"),
        ({"protocol": "sasl_ssl", "mechanism": "PLAIN"}, "did you mean 'SASL_SSL'"),
        ({"pasword": "hidden"}, "did you mean 'password'"),
        ({**SASL, "mechanism": "SCRAM-SHA512", "password": "hidden"}, "SCRAM-SHA-512"),
        ({"protocol": "SASL_SSL"}, "needs a mechanism"),
        (SASL, "password_file"),
        ({**SASL, "password": "hidden", "password_file": "f"}, "both"),
        ({**SASL, "password": "${NO_SUCH_VARIABLE}"}, "NO_SUCH_VARIABLE"),
        ({**SASL, "password": 7}, "not a text"),
        ({**SASL, "password_file": "/no/such/file"}, "/no/such/file"),
        ({"username": "ada", "password": "hidden"}, "SASL_SSL"),
        ({"protocol": "SSL", "ca_file": "/no/such/file"}, "/no/such/file"),
        ({"protocol": "SSL", "check_hostname": "no"}, "true or false"),
        ({"ca_file": __file__}, "does not encrypt"),
        ({"protocol": "SSL", "key_file": __file__}, "certificate_file"),
    ],
)
def test_security_that_cannot_be_meant(table, said) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        secured(table)
    assert "hidden" not in str(caught.value)


def test_no_security_is_plain_text() -> None:
    assert secured({}) == secured(None) == Security()
    assert not Security().tls and not Security().sasl


def test_settings_do_not_show_secrets() -> None:
    record = secured({**SASL, "password": "hidden"})
    assert "hidden" not in repr(ClientSettings("h:1", record, "test"))


@pytest.mark.parametrize("instance", [None, "one", "ü"])
def test_memberships_travel(instance) -> None:
    membership = Membership("group é", 12, "member-1", instance)
    assert unpacked(packed(membership)) == membership


def test_librdkafka_still_writes_memberships_as_expected() -> None:
    confluent_kafka = pytest.importorskip("confluent_kafka")
    consumer = confluent_kafka.Consumer({"bootstrap.servers": "127.0.0.1:9", "group.id": "g"})
    assert bytes(consumer.consumer_group_metadata()) == packed(Membership("g"))
    consumer.close()
