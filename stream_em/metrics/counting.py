"""Counting: counters with labels as values, and log records by their level."""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar, final

from stream_em.metrics.catalogue import LEVELS

V = TypeVar("V")


def zeros(names: tuple[str, ...], value: V) -> Mapping[str, V]:
    """The same value under each name, read-only: series exist before anything happened."""
    return MappingProxyType(dict.fromkeys(names, value))


def joined(held: Mapping[Any, V], more: Mapping[Any, V]) -> Mapping[Any, V]:
    """Both mappings as one, read-only; the later value of a name wins."""
    return MappingProxyType({**held, **more})


def added(held: Mapping[str, int], more: Mapping[str, int]) -> Mapping[str, int]:
    """The counters after more of some; `held` stays as it is.

    >>> added({"late": 1, "future": 0}, {"late": 2})
    mappingproxy({'late': 3, 'future': 0})
    """
    return joined(held, {name: held.get(name, 0) + count for name, count in more.items()})


@final
class LogCounter(logging.Handler):
    """A logging handler that only counts, by level; loggers may be shared by threads."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self._counts = dict.fromkeys(LEVELS, 0)

    @property
    def counts(self) -> Mapping[str, int]:
        """Records so far, by level."""
        return dict(self._counts)

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record; levels between two names belong to the lower one."""
        place = min(max(record.levelno // 10 - 1, 0), len(LEVELS) - 1)
        self._counts[LEVELS[place]] += 1
