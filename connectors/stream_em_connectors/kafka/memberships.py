"""A consumer's membership in its group, as either client can take it into a transaction."""

import struct
from typing import NamedTuple

MAGIC = b"CGMDv2:"  # rdkafka_cgrp.c, rd_kafka_consumer_group_metadata_write


class Membership(NamedTuple):
    """A member of a group, as the broker knows it; -1 and "" for one that never joined."""

    group: str
    generation: int = -1
    member: str = ""
    instance: str | None = None


def packed(membership: Membership) -> bytes:
    """The same as librdkafka writes it.

    >>> unpacked(packed(Membership("g", 3, "m-1", "a"))).instance
    'a'
    """
    instance = membership.instance
    return b"".join(
        (
            MAGIC,
            struct.pack("=i", membership.generation),
            _text(membership.group),
            _text(membership.member),
            b"\1" if instance is None else b"\0" + _text(instance),
        )
    )


def unpacked(data: bytes) -> Membership:
    """What librdkafka wrote. Raises `ValueError` for a version that is not known."""
    if not data.startswith(MAGIC):
        raise ValueError(f"group metadata begin with {data[:8]!r}, expected {MAGIC!r}")
    (generation,) = struct.unpack_from("=i", data, len(MAGIC))
    group, member, rest = data[len(MAGIC) + 4 :].split(b"\0", 2)
    instance = None if rest.startswith(b"\1") else rest[1:].rstrip(b"\0").decode()
    return Membership(group.decode(), generation, member.decode(), instance)


def _text(text: str) -> bytes:
    return text.encode() + b"\0"
