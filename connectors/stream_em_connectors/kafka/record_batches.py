"""Record batches of Kafka, format 2, taken apart by a compiled loop.

After its header a batch holds its records one after the other, each as (Kafka's protocol
guide, "Record Batch"; varints are zigzag-coded, 7 bits to a byte, the lowest first):

    length: varint, attributes: int8, timestampDelta: varint, offsetDelta: varint,
    keyLength: varint, key, valueLength: varint, value, headersCount: varint, headers

A length of -1 stands for a null.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np

from stream_em.arrays import Array
from stream_em_connectors.kafka.client import Headers

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS = 7  # of the table: see `Layout`
SHORTEST = 7  # bytes of a record
MOST_BITS = 63  # of a varint, shifted so far at most
BROKEN = -1


class Layout(NamedTuple):
    """Where the parts of n records lie in the bytes behind a batch's header, each (n,) int64."""

    times: Array  # less the batch's first
    offsets: Array  # less the batch's base
    keys: Array  # begin, or where it would
    key_ends: Array  # below `keys` for a null
    values: Array
    value_ends: Array
    headers: Array  # where the number of headers lies


def _compiled(function: F) -> F:
    """Machine code that runs without the GIL, kept on disk where that is possible."""
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder for the cache can be written
        return cast(F, numba.njit(nogil=True)(function))


@_compiled
def _varint(data: Array, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it; `BROKEN` where there is none."""
    found = shift = 0
    while at < len(data) and shift <= MOST_BITS:
        byte = int(np.int64(data[at]))
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return ((found >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(found & 1), at
        shift += 7
    return 0, BROKEN


@_compiled
def _part(data: Array, at: int, stop: int) -> tuple[int, int, int]:
    """Begin and end of the bytes at a place, and the place behind; `BROKEN` where none are."""
    length, at = _varint(data, at)
    if at == BROKEN or length < -1 or length > stop - at:
        return 0, 0, BROKEN
    return at, at + length, at + max(length, 0)


@_compiled
def _behind_headers(data: Array, at: int, stop: int) -> int:
    """The place behind the headers whose number lies at a place; `BROKEN` where none are."""
    count, at = _varint(data, at)
    while count > 0 and at != BROKEN:
        begin, end, at = _part(data, at, stop)
        if at != BROKEN:
            at = BROKEN if end < begin else _part(data, at, stop)[2]
        count -= 1
    return BROKEN if count else at


@_compiled
def _taken_apart(data: Array, table: Array) -> int:
    """Fill table (COLUMNS, n) of the n records in data; the number of whole ones before a fault.

    n + 1 says that bytes are left behind the last.
    """
    at, n = 0, table.shape[1]
    for i in range(n):
        length, at = _varint(data, at)
        if at == BROKEN or length < SHORTEST - 1 or length > len(data) - at:
            return i
        stop = at + length
        table[0, i], at = _varint(data, at + 1)  # behind the attributes
        if at != BROKEN:
            table[1, i], at = _varint(data, at)
        if at != BROKEN:
            table[2, i], table[3, i], at = _part(data, at, stop)
        if at != BROKEN:
            table[4, i], table[5, i], at = _part(data, at, stop)
        if at == BROKEN:
            return i
        table[6, i] = at
        if _behind_headers(data, at, stop) != stop:
            return i
        at = stop
    return n if at == len(data) else n + 1


def taken_apart(data: bytes, n: int) -> Layout:
    """The layout of n records, which fill the data. Raises `ValueError` where they do not.

    >>> found = taken_apart(bytes([16, 0, 2, 0, 1, 4, 0x68, 0x69, 0]), 1)
    >>> found.times[0], found.offsets[0], found.values[0], found.value_ends[0]
    (np.int64(1), np.int64(0), np.int64(6), np.int64(8))
    """
    if not 0 <= n * SHORTEST <= len(data):
        raise ValueError(f"{n} records are announced, {len(data)} bytes came")
    table = np.empty((COLUMNS, n), np.int64)
    whole = _taken_apart(np.frombuffer(data, np.uint8), table)
    if whole != n:
        fault = "bytes are left behind the last" if whole > n else f"record {whole} is damaged"
        raise ValueError(f"of {n} records {fault}")
    return Layout(*table)


def pieces(data: bytes, begins: Array, ends: Array) -> list[bytes | None]:
    """The bytes between two columns of places; None for nulls.

    >>> pieces(b"abc", np.array([0, 3]), np.array([2, 2]))
    [b'ab', None]
    """
    nulls = ends < begins
    if nulls.all():
        return [None] * len(begins)
    bounds = zip(begins.tolist(), ends.tolist(), strict=True)
    if nulls.any():
        return [None if end < begin else data[begin:end] for begin, end in bounds]
    return [data[begin:end] for begin, end in bounds]


def headers_at(data: bytes, at: int) -> Headers:
    """The headers of a record that was taken apart, whose number lies at a place.

    >>> headers_at(bytes([2, 2, 0x61, 1]), 0)
    (('a', None),)
    """
    view = np.frombuffer(data, np.uint8)
    count, at = _varint(view, at)
    found: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        begin, end, at = _part(view, at, len(data))
        name = data[begin:end].decode("utf-8", "replace")
        begin, end, at = _part(view, at, len(data))
        found.append((name, None if end < begin else data[begin:end]))
    return tuple(found)
