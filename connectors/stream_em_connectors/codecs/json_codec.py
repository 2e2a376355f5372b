"""JSON objects to rows, record by record, through structures built from the field names."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, final, get_args

import msgspec
import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.streams import Json
from stream_em_connectors.codecs.objects import check_paths, row_of, times_of, whole
from stream_em_connectors.codecs.table import (
    Decoded,
    Fields,
    Flaw,
    FlawError,
    Raw,
    Row,
    doubtful,
    settled,
)
from stream_em_connectors.codecs.values import mostly_numbers, shown

REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)


@final
class JsonCodec:
    """Decodes JSON objects; a name with dots walks into nested objects.

    >>> codec = JsonCodec(Fields(("x", "inner.y")))
    >>> found = codec.decode([b'{"x": 1, "inner": {"y": 2}}', b'{"x": "one"}'])
    >>> found.rows, found.flaws[0][1].reason
    (array([[1., 2.]]), 'decode_error')
    """

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        check_paths(fields)
        tree = _tree(fields)
        shape, places = _structure(tree)
        self._decode = msgspec.json.Decoder(shape).decode
        self._filler = self._decode(msgspec.json.encode(_zeros(tree)))
        self._features = _getter(shape, [places[name] for name in fields.features])
        self._numbers = _gaps if fields.missing else np.fromiter
        self._extra = {
            name: attrgetter(places[name])
            for name in (fields.weight, fields.time, fields.key)
            if name is not None
        }

    def decode(self, records: Sequence[bytes]) -> Decoded:
        """Rows of the records that are good, flaws of the others."""
        items, verdicts = self._items(records)
        for place in _invalid_text(records):
            verdicts[place] = self._judged(records[place])
        raw = self._raw(items)
        for place in doubtful(raw, self._fields.missing):
            verdicts.setdefault(place, self._judged(records[place]))
        return settled(raw, verdicts)

    def _items(self, records: Sequence[bytes]) -> tuple[list[Any], dict[int, Row | Flaw]]:
        items: list[Any] = []
        verdicts: dict[int, Row | Flaw] = {}
        rest = iter(records)
        while True:
            try:
                items.extend(map(self._decode, rest))  # keeps those before one that is refused
                return items, verdicts
            except REFUSED:
                verdicts[len(items)] = self._judged(records[len(items)])
                items.append(self._filler)

    def _raw(self, items: list[Any]) -> Raw:
        n, fields = len(items), self._fields
        width = len(fields.features)
        values = chain.from_iterable(map(self._features, items))
        rows = self._numbers(values, np.float64, n * width).reshape(n, width)
        return Raw(
            rows=rows,
            weights=self._column(items, fields.weight, np.array),
            times=self._column(items, fields.time, times_of),
            keys=None if fields.key is None else list(map(self._extra[fields.key], items)),
        )

    def _column(
        self, items: list[Any], name: str | None, made: Callable[..., Array]
    ) -> Array | None:
        if name is None:
            return None
        return made(list(map(self._extra[name], items)), dtype=np.float64)

    def _judged(self, record: bytes) -> Row | Flaw:
        """One record on its own: the definition of what is a row."""
        try:
            return row_of(_object(record), self._fields)
        except FlawError as error:
            return error.flaw


def numeric_fields(records: Iterable[bytes]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the fields that hold numbers, and of the others, nested ones with dots."""
    good: dict[str, int] = {}
    bad: dict[str, int] = {}
    for record in records:
        try:
            item = _object(record)
        except FlawError:
            continue
        for name, value in _flat(item, ""):
            if not whole(name):
                continue
            good.setdefault(name, 0)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                good[name] += 1
            elif value is not None:
                bad[name] = bad.get(name, 0) + 1
    numeric = tuple(name for name in good if mostly_numbers(good[name], bad.get(name, 0)))
    return numeric, tuple(name for name in good if name not in numeric)


def _flat(item: dict[str, Json], prefix: str) -> Iterator[tuple[str, Json]]:
    for name, value in item.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _object(record: bytes) -> dict[str, Json]:
    if not record.strip():
        raise FlawError("empty", None, "a blank line came, expected a JSON object")
    try:
        text = record.decode()
        item = json.loads(text, parse_constant=float, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise FlawError(
            "decode_error", None, f"byte {error.start} of the record is no UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise FlawError("decode_error", None, f"no JSON: {error}") from None
    if not isinstance(item, dict):
        raise FlawError("schema", None, f"{shown(item)} came, expected a JSON object")
    return item


def _finite(text: str) -> float:
    """A literal beyond the range of floats stays a number: too large, not infinite."""
    return math.copysign(min(abs(float(text)), sys.float_info.max), float(text))


def _gaps(values: Iterable[float | None], dtype: Any, count: int) -> Array:
    """So many numbers, NaN for None."""
    return np.array(list(values), dtype=dtype)


def _invalid_text(records: Sequence[bytes]) -> list[int]:
    """Records that are no UTF-8, also where the decoder skips what it does not need."""
    whole = b"\n".join(records)
    if whole.isascii() or _is_text(whole):
        return []
    return [place for place, one in enumerate(records) if not _is_text(one)]


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


Tree = dict[str, Any]  # name -> type of a leaf, or a subtree


def _tree(fields: Fields) -> Tree:
    tree: Tree = {}
    for name in fields.names:
        *parents, leaf = name.split(".")
        branch = tree
        for part in parents:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise _twice(name)
        if leaf in branch:
            raise _twice(name)
        branch[leaf] = _leaf(fields, name)
    return tree


def _twice(name: str) -> SettingsError:
    return SettingsError(
        f"field {name!r} is used both as a value and as an object with fields of its own; "
        "a dot in a name reads a nested field, so name either the object's fields or the value"
    )


def _leaf(fields: Fields, name: str) -> Any:
    if name not in fields.features and name != fields.weight:
        return Any
    if fields.missing and name != fields.weight:
        return int | float | None if name in (fields.time, fields.key) else float | None
    return int | float if name in (fields.time, fields.key) else float


def _structure(tree: Tree, prefix: str = "") -> tuple[type[msgspec.Struct], dict[str, str]]:
    """A structure for the tree, and for each dotted field where its value lies in it."""
    required: list[Any] = []
    optional: list[Any] = []
    names: dict[str, str] = {}
    places: dict[str, str] = {}
    for number, (name, leaf) in enumerate(tree.items()):
        own = f"f{number}"
        names[own] = name
        if isinstance(leaf, dict):
            inner, found = _structure(leaf, f"{prefix}{name}.")
            places.update({field: f"{own}.{place}" for field, place in found.items()})
            if _needed(leaf):
                required.append((own, inner))
            else:
                optional.append((own, inner, msgspec.field(default_factory=inner)))
            continue
        places[prefix + name] = own
        if not _must(leaf):
            optional.append((own, leaf, None))
        else:
            required.append((own, leaf))
    made = msgspec.defstruct("Record", [*required, *optional], rename=names, gc=False)
    return made, places


def _needed(tree: Tree) -> bool:
    """Whether a nested object holds anything that must be there."""
    return any(_needed(leaf) if isinstance(leaf, dict) else _must(leaf) for leaf in tree.values())


def _must(leaf: Any) -> bool:
    """Whether a value of this type must be there: it is neither `Any` nor may it be None."""
    return leaf is not Any and type(None) not in get_args(leaf)


def _zeros(tree: Tree) -> dict[str, Any]:
    return {name: _zeros(leaf) if isinstance(leaf, dict) else 0.0 for name, leaf in tree.items()}


def _getter(shape: type[msgspec.Struct], places: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The values of an item at these places as a tuple, also for one place and for none."""
    if shape.__struct_fields__ == tuple(places):
        return msgspec.structs.astuple  # twice as quick
    if len(places) > 1:
        return attrgetter(*places)
    if places:
        only = attrgetter(places[0])
        return lambda item: (only(item),)
    return lambda item: ()
