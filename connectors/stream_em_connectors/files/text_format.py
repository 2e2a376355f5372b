"""The port of text formats: what a reader of CSV or JSON lines must know of its format."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from stream_em_connectors.codecs import Decoded, Fields
from stream_em_connectors.codecs.cutting import Spans
from stream_em_connectors.files.marks import BYTE_ORDER_MARK


class Begun(NamedTuple):
    """What the beginning of a file says: where records start and how they are decoded."""

    start: int
    decode: Callable[[bytes, Spans], Decoded]


class TextFormat(ABC):
    """A format of text records."""

    max_record_bytes: int

    @abstractmethod
    def begin(
        self, data: bytes, start: int, final: bool, fields: Fields, path: str
    ) -> Begun | None:
        """Read what stands before the records; None if more bytes are needed for that.

        Raises `SettingsError` when a field is not among the columns.
        """

    @abstractmethod
    def cut(self, data: bytes, begin: int) -> Spans:
        """The whole records of `data` from `begin` on."""

    @abstractmethod
    def numeric(
        self, data: bytes, start: int, final: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Names of the fields that are numeric in the first records, and of the others.

        None when there is no whole record.
        """


def first_byte(data: bytes, final: bool) -> int | None:
    """Where text begins behind a byte order mark; None if more bytes are needed to tell."""
    if data.startswith(BYTE_ORDER_MARK):
        return len(BYTE_ORDER_MARK)
    return None if BYTE_ORDER_MARK.startswith(data) and not final else 0
