"""From a word to a class: `kind = "csv"` finds its source by entry points.

Three groups are open to every installed package: "stream_em.sources",
"stream_em.sinks" and "stream_em.stores". The name of an entry point is the kind.
"""

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from stream_em.errors import SettingsError

FAMILIES = ("sources", "sinks", "stores")


def kinds(family: str) -> tuple[str, ...]:
    """The kinds that a family offers, in order of their names.

    >>> kinds("stores")
    ('directory',)
    """
    return tuple(sorted({point.name for point in _points(family)}))


def resolve(family: str, kind: str) -> type[Any]:
    """The class behind `kind` in `family`.

    Raises `SettingsError` for an unknown kind, for one that two packages claim, and
    for one whose package cannot be imported.

    >>> resolve("stores", "directory").__name__
    'DirectoryStore'
    """
    found = [point for point in _points(family) if point.name == kind]
    if not found:
        raise SettingsError(_unknown(family, kind))
    if len({point.value for point in found}) > 1:
        owners = ", ".join(sorted(point.value for point in found))
        raise SettingsError(
            f"kind {kind!r} is claimed by several installed packages ({owners}); "
            "uninstall all but one of them"
        )
    return _loaded(found[0], family)


def _points(family: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"stream_em.{family}"))


def _loaded(point: EntryPoint, family: str) -> type[Any]:
    try:
        loaded: type[Any] = point.load()
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"kind {point.name!r} of {family} lives in {point.value}, which cannot be imported "
            f"({error}); install what is missing or choose one of: {', '.join(kinds(family))}"
        ) from error
    return loaded


def _unknown(family: str, kind: str) -> str:
    known = kinds(family)
    close = get_close_matches(str(kind), known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown kind {kind!r}; {hint}{family} known here: {', '.join(known) or 'none'}"
