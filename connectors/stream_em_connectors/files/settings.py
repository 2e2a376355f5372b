"""What the file sources have in common: their settings, and what is wrong with them."""

import os
from collections.abc import Sequence
from typing import Any, Protocol

from stream_em.errors import SettingsError
from stream_em.streams import Json
from stream_em_connectors.codecs import Fields

STANDARD_INPUT = "-"
COMPRESSED = (".gz", ".zst")
UNREADABLE = (".bz2", ".xz", ".zip", ".7z", ".lz4")
Names = tuple[str, ...] | list[str] | None


class FileSettings(Protocol):
    """The keywords that every file source takes."""

    @property
    def path(self) -> str:
        """A file, a glob, or - for standard input."""

    @property
    def features(self) -> Names:
        """Names of the columns to learn, None for every numeric one."""

    @property
    def weight(self) -> str | None:
        """Name of the weight's column."""

    @property
    def time(self) -> str | None:
        """Name of the event time's column."""

    @property
    def key(self) -> str | None:
        """Name of the key's column."""

    @property
    def batch_size(self) -> int:
        """Accepted rows of a batch."""

    @property
    def missing(self) -> str:
        """What becomes of rows with missing features: "reject", or "learn" them with NaN."""

    @property
    def max_reject_ratio(self) -> float:
        """The largest bearable share of rejected records."""

    @property
    def follow(self) -> bool:
        """Whether to wait for growth."""

    @property
    def max_wait_ms(self) -> int:
        """How long rows wait for their batch to fill, with `follow`."""

    @property
    def start(self) -> str:
        """Where a fresh run starts."""


def settle(source: FileSettings) -> None:
    """Check the common settings of a new source and turn its lists into tuples.

    Raises `SettingsError`.
    """
    object.__setattr__(source, "path", _path(source.path))
    object.__setattr__(source, "features", names("features", source.features))
    if source.path == STANDARD_INPUT:
        object.__setattr__(source, "seekable", False)
    _check_fields(source)
    at_least("batch_size", source.batch_size, 1)
    at_least("max_wait_ms", source.max_wait_ms, 0)
    if not 0 <= source.max_reject_ratio <= 1:
        raise SettingsError(
            f"max_reject_ratio is {source.max_reject_ratio!r}, expected a share from 0 to 1"
        )
    one_of("missing", source.missing, ("reject", "learn"))
    one_of("start", source.start, ("earliest", "latest"))


def _path(path: Any) -> str:
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text:
        raise SettingsError(f"path is {path!r}, expected a file, a glob, or - for standard input")
    if text.endswith(UNREADABLE):
        raise SettingsError(
            f"path is {text!r}; of compressed files only .gz and .zst are read, decompress it first"
        )
    return text


def names(
    setting: str,
    given: Sequence[str] | None,
    each: str = "column",
    otherwise: str = ", or leave it out",
) -> tuple[str, ...] | None:
    """A list of names as a tuple. Raises `SettingsError` for anything else.

    `each` is what one of them names, `otherwise` what else may be done.
    """
    if given is None:
        return None
    listed = isinstance(given, (list, tuple)) and all(isinstance(one, str) for one in given)
    if not listed or not given:
        raise SettingsError(f"{setting} is {given!r}, expected a list of names{otherwise}")
    if len(set(given)) < len(given):
        twice = next(one for one in given if list(given).count(one) > 1)
        raise SettingsError(f"{setting} names {twice!r} twice; name every {each} once")
    return tuple(given)


def _check_fields(source: FileSettings) -> None:
    for setting, name in (("weight", source.weight), ("time", source.time), ("key", source.key)):
        if name is not None and (not isinstance(name, str) or not name):
            raise SettingsError(f"{setting} is {name!r}, expected the name of a column")


def at_least(setting: str, value: Any, least: int) -> None:
    """Raises `SettingsError` unless the value is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SettingsError(f"{setting} is {value!r}, expected a whole number, at least {least}")


def one_of(setting: str, value: Any, known: Sequence[str]) -> None:
    """Raises `SettingsError` unless the value is one of the known words."""
    if value not in known:
        raise SettingsError(f"{setting} is {value!r}, expected one of: {', '.join(known)}")


def sign(setting: str, value: Any) -> None:
    """Raises `SettingsError` unless the value is a single ASCII character, no letter or digit."""
    good = isinstance(value, str) and len(value) == 1 and value.isascii()
    if not good or value.isalnum() or value in "\r\n":
        raise SettingsError(f"{setting} is {value!r}, expected a single punctuation character")


def not_followed(source: FileSettings) -> None:
    """Raises `SettingsError` where a compressed file should be waited on: those do not grow."""
    if source.follow and source.path.endswith(COMPRESSED):
        raise SettingsError(
            f"follow = true with {source.path!r}: compressed files are read as a whole and do not "
            "grow; follow the uncompressed file, or leave follow out"
        )


def fields_of(source: FileSettings, features: Sequence[str]) -> Fields:
    """What is read of each record, the features being known."""
    learns = source.missing == "learn"
    return Fields(tuple(features), source.weight, source.time, source.key, learns)


def common_identity(source: FileSettings) -> dict[str, Json]:
    """What may not change once rows are learned, of the common settings."""
    return {
        "path": source.path,
        "features": None if source.features is None else list(source.features),
        "weight": source.weight,
        "time": source.time,
        "key": source.key,
        "missing": source.missing,
    }
