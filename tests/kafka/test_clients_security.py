"""What every client promises of TLS, passwords and permissions."""

import time

import pytest

from stream_em.errors import SettingsError, SinkFailed, Unreachable
from stream_em_connectors.kafka.client import TopicPartition

SECONDS = 20.0


@pytest.fixture
def engine(secure_broker) -> dict[str, str | bool]:
    """The keys of a user who may do everything."""
    secured = secure_broker.secured
    return {
        "protocol": "SASL_SSL",
        "mechanism": "SCRAM-SHA-512",
        "username": secured.username,
        "password": secured.password,
        "ca_file": str(secured.ca_file),
    }


@pytest.fixture
def guest(secure_broker, engine) -> dict[str, str | bool]:
    """The keys of a user who may do what access lists say."""
    secured = secure_broker.secured
    return {**engine, "username": secured.reader, "password": secured.reader_password}


@pytest.fixture
def servers(secure_broker) -> str:
    return secure_broker.secured.bootstrap


@pytest.fixture
def allow(secure_broker):
    """`allow("topic", name, "READ")` for the guest, and wait until it holds."""

    def allowed(kind: str, name: str, operation: str) -> None:
        from confluent_kafka.admin import (
            AclBinding,
            AclOperation,
            AclPermissionType,
            AdminClient,
            ResourcePatternType,
            ResourceType,
        )

        binding = AclBinding(
            ResourceType[kind.upper()],
            name,
            ResourcePatternType.LITERAL,
            f"User:{secure_broker.secured.reader}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        admin = AdminClient({"bootstrap.servers": secure_broker.bootstrap})
        for future in admin.create_acls([binding]).values():
            future.result(30)

    return allowed


def test_reading_and_writing_over_tls(
    reader, writer, drain, secure_broker, new_topic, servers, engine
) -> None:
    name = new_topic(secure_broker.bootstrap)
    producer = writer(f"tx-{name}", servers=servers, security=engine)
    producer.init_transactions(SECONDS)
    producer.begin()
    producer.send(name, b"k", b"v")
    producer.commit(SECONDS)
    consumer = reader(servers=servers, security=engine)
    ends = consumer.ends([TopicPartition(name, 0)])
    consumer.assign(dict.fromkeys(ends, 0))
    assert [one.value for one in drain(consumer, ends)] == [b"v"]
    consumer.commit(ends)


def test_a_wrong_password_is_refused_at_once_and_never_told(
    reader, writer, servers, engine, caplog
) -> None:
    wrong = {**engine, "password": "not-the-password"}
    began = time.monotonic()
    for ask in (
        lambda: reader(servers=servers, security=wrong, patience=20.0).cluster(),
        lambda: writer(servers=servers, security=wrong, patience=20.0).partitions("any"),
        lambda: writer("t", servers=servers, security=wrong).init_transactions(20.0),
    ):
        with pytest.raises(Unreachable, match=r"refused the user 'engine'.*password") as caught:
            ask()
        assert "not-the-password" not in str(caught.value)
    assert time.monotonic() - began < 30.0  # none waits for its patience to end
    assert "not-the-password" not in caplog.text


def test_a_certificate_that_is_not_trusted(reader, servers, engine) -> None:
    distrusting = {key: value for key, value in engine.items() if key != "ca_file"}
    with pytest.raises(Unreachable, match=r"certificate.*ca_file"):
        reader(servers=servers, security=distrusting, patience=2.0).cluster()


def test_tls_where_plain_text_was_meant_and_the_other_way_round(
    reader, secure_broker, servers, engine
) -> None:
    with pytest.raises(Unreachable, match="SSL"):
        reader(servers=servers, patience=2.0).cluster()
    with pytest.raises(Unreachable, match="TLS"):
        reader(servers=secure_broker.bootstrap, security=engine, patience=2.0).cluster()


def test_another_mechanism_than_the_broker_knows(reader, servers, engine) -> None:
    other = {**engine, "mechanism": "SCRAM-SHA-256"}
    with pytest.raises(Unreachable, match="SCRAM-SHA-256"):
        reader(servers=servers, security=other, patience=5.0).cluster()


def test_a_topic_that_may_not_be_read(
    reader, secure_broker, new_topic, servers, guest, allow
) -> None:
    name = new_topic(secure_broker.bootstrap)
    place = TopicPartition(name, 0)
    with pytest.raises(SettingsError, match=rf"'reader' is not permitted.*topic '{name}'"):
        reader(servers=servers, security=guest).topics([name])
    allow("topic", name, "DESCRIBE")
    allow("group", f"g-{name}", "READ")
    consumer = reader(f"g-{name}", servers=servers, security=guest)
    consumer.assign({place: 0})

    def poll() -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            consumer.poll(0.1, 10)

    with pytest.raises(SettingsError, match=rf"'reader' is not permitted.*topic '{name}'"):
        poll()


def test_a_group_that_may_not_be_used(
    reader, secure_broker, new_topic, servers, guest, allow
) -> None:
    name = new_topic(secure_broker.bootstrap)
    allow("topic", name, "READ")
    consumer = reader(f"g-{name}", servers=servers, security=guest)
    with pytest.raises(SettingsError, match=rf"'reader' is not permitted.*group 'g-{name}'"):
        consumer.committed([TopicPartition(name, 0)])


def test_a_topic_that_may_not_be_written(
    writer, secure_broker, new_topic, servers, guest, allow
) -> None:
    name = new_topic(secure_broker.bootstrap)
    allow("topic", name, "READ")
    producer = writer(servers=servers, security=guest)
    assert producer.partitions(name) == 1

    def send() -> None:
        producer.send(name, None, b"x")
        producer.flush(SECONDS)

    with pytest.raises((SettingsError, SinkFailed), match=rf"topic '{name}'|WRITE to the topic"):
        send()


def test_transactions_that_may_not_be_opened(writer, servers, guest) -> None:
    producer = writer("forbidden", servers=servers, security=guest)
    with pytest.raises(SettingsError, match="transactional id 'forbidden'"):
        producer.init_transactions(SECONDS)
