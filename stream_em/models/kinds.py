"""A table is a constructor call: settings from plain values and back.

`{"kind": "half-life", "events": 100}` is `HalfLife(events=100)`. A bare string stands
for a table with only its kind. Names and defaults live in the constructors alone.
"""

import difflib
import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from stream_em.errors import SettingsError
from stream_em.forgetting import Forgetting
from stream_em.models.covariance import Covariance
from stream_em.models.gaussian import GaussianMixture
from stream_em.models.kmeans import KMeans
from stream_em.models.protocol import Model
from stream_em.models.settings import (
    Annealing,
    Background,
    Learn,
    Prior,
    Restructuring,
    Seeding,
    Standardise,
)
from stream_em.models.soft_kmeans import SoftKMeans
from stream_em.models.spherical_kmeans import SphericalKMeans
from stream_em.models.student import StudentMixture
from stream_em.models.von_mises_fisher import VonMisesFisher

MODELS: tuple[type[Model], ...] = (
    KMeans,
    SoftKMeans,
    SphericalKMeans,
    GaussianMixture,
    StudentMixture,
    VonMisesFisher,
)
FAMILIES: Mapping[str, tuple[type, ...]] = types.MappingProxyType(
    {
        "model": MODELS,
        "covariance": (Covariance,),
        "forgetting": (Forgetting,),
        "seeding": (Seeding,),
        "prior": (Prior,),
        "restructuring": (Restructuring,),
        "background": (Background,),
        "scaling": (Standardise,),
        "missing": (Learn,),
        "annealing": (Annealing,),
    }
)


def kind_of(cls: type) -> str:
    """The word by which configurations name a class: its `kind`."""
    return str(vars(cls)["kind"])


def hint(word: str, known: Iterable[str]) -> str:
    """' - did you mean ...?' for a misspelt word, or the list of what there is.

    >>> hint("delimeter", ["path", "delimiter"])
    "did you mean 'delimiter'?"
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}"


def describe(value: Any) -> Any:
    """A setting as plain values: the table that constructs it again, every keyword spelled out.

    >>> from stream_em.forgetting import HalfLife
    >>> describe(HalfLife(events=100))
    {'kind': 'half-life', 'events': 100}
    """
    if is_dataclass(value) and not isinstance(value, type):
        table = {f.name: describe(getattr(value, f.name)) for f in fields(value) if f.init}
        return {"kind": kind_of(type(value)), **table}
    if isinstance(value, (tuple, list)):
        return [describe(item) for item in value]
    return value


def construct(family: str, table: Any) -> Any:
    """Construct a setting of a family from its table or bare name.

    >>> construct("forgetting", {"kind": "half-life", "events": 100})
    HalfLife(events=100)
    >>> construct("covariance", "diagonal")
    Diagonal()
    """
    classes = [c for root in FAMILIES[family] for c in _kinds_under(root)]
    return choose(table, {kind_of(c): c for c in classes}, family)


def choose(table: Any, kinds: Mapping[str, type], where: str) -> Any:
    """Construct one of several kinds from a table or from its bare name."""
    if isinstance(table, str):
        table = {"kind": table}
    if not isinstance(table, Mapping):
        raise SettingsError(
            f"{where} is {table!r}, expected a table with `kind` or the name of a kind; "
            f"known are: {', '.join(sorted(kinds))}"
        )
    if "kind" not in table:
        raise SettingsError(f"{where} has no `kind`; add one of: {', '.join(sorted(kinds))}")
    kind = table["kind"]
    if kind not in kinds:
        raise SettingsError(f"{where}.kind is {kind!r}, which is unknown; {hint(str(kind), kinds)}")
    return call(kinds[kind], {k: v for k, v in table.items() if k != "kind"}, where)


def call(cls: type, table: Mapping[str, Any], where: str) -> Any:
    """Call a settings class with the keys of a table as keywords.

    Raises `SettingsError` for unknown keys, missing required ones and wrong types,
    naming the place as `where.key`.
    """
    parameters = inspect.signature(cls).parameters
    for key in table:
        if key not in parameters:
            raise SettingsError(f"{where}.{key} is unknown; {hint(key, parameters)}")
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in table:
            raise SettingsError(f"{where}.{name} is missing; it has no default, so give it a value")
    hints = typing.get_type_hints(cls)
    values = {k: _fitted(v, hints.get(k, Any), f"{where}.{k}") for k, v in table.items()}
    try:
        return cls(**values)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def _fitted(value: Any, wanted: Any, where: str) -> Any:
    """`value` as the annotated type: nested kinds constructed, ints taken for floats."""
    options = _options(wanted)
    if Any in options or (value is None and type(None) in options):
        return value
    nested = {kind_of(c): c for option in options for c in _kinds_under(option)}
    if nested and isinstance(value, (str, Mapping)):
        return choose(value, nested, where)
    if _fits(value, options):
        return value
    names = " or ".join(sorted({*nested, *(_name(o) for o in options if o is not type(None))}))
    raise SettingsError(
        f"{where} is {value!r} ({type(value).__name__}), expected {names}; correct the value"
    )


def _fits(value: Any, options: tuple[Any, ...]) -> bool:
    if isinstance(value, (list, tuple)):
        return any((typing.get_origin(option) or option) in (tuple, list) for option in options)
    if isinstance(value, bool):
        return bool in options
    if isinstance(value, int) and float in options:
        return True
    return any(isinstance(option, type) and isinstance(value, option) for option in options)


def _options(wanted: Any) -> tuple[Any, ...]:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return typing.get_args(wanted)
    return (wanted,)


def _kinds_under(option: Any) -> list[type]:
    """The final classes with a `kind` at or below an annotated class."""
    if not isinstance(option, type):
        return []
    found = [option] if "kind" in vars(option) and is_dataclass(option) else []
    children: list[type] = option.__subclasses__()
    return found + [c for child in children for c in _kinds_under(child)]


def _name(option: Any) -> str:
    return str(getattr(option, "__name__", option))
