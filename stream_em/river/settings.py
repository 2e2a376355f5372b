"""River's parameters, which are numbers and words, as settings of stream-em's models."""

import math
import numbers
import types
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from stream_em.errors import SettingsError
from stream_em.forgetting import Forgetting, HalfLife
from stream_em.models.covariance import Covariance, Diagonal, Full, Spherical, Tied
from stream_em.models.kinds import construct, hint
from stream_em.models.settings import Seeding

T = TypeVar("T")

COVARIANCES: Mapping[str, Covariance] = types.MappingProxyType(
    {"full": Full(), "tied": Tied(), "diag": Diagonal(), "spherical": Spherical()}
)


def as_forgetting(value: Any, usual: Forgetting) -> Forgetting:
    """A policy from None (the usual one), a half-life in events, a word, or a policy.

    >>> as_forgetting(500, HalfLife(1000)), as_forgetting("keep-all", HalfLife(1000))
    (HalfLife(events=500), KeepAll())
    """
    if value is None:
        return usual
    if isinstance(value, str) and value == HalfLife.kind:
        raise SettingsError(f"forgetting is {value!r}, expected its number of events instead")
    if isinstance(value, str):
        policy = construct("forgetting", value)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        policy = _half_life(value)
    else:
        policy = value
    if isinstance(policy, Forgetting) and policy.needs_times:
        raise SettingsError(
            f"forgetting is {value!r}, which needs event times, and events of River have none; "
            "use HalfLife(events=...), or stream_em.step with times"
        )
    return policy


def _half_life(value: Any) -> Forgetting:
    if not 0 < value < math.inf:
        raise SettingsError(
            f"forgetting is {value!r}, expected a half-life in events, a finite number > 0"
        )
    return HalfLife(int(value) if isinstance(value, numbers.Integral) else float(value))


def as_covariance(value: Any) -> Covariance:
    """A covariance from scikit-learn's word for it, or as it is."""
    if isinstance(value, Covariance):
        return value
    if not isinstance(value, str) or value not in COVARIANCES:
        raise SettingsError(
            f"covariance_type is {value!r}, which is unknown; {hint(str(value), COVARIANCES)}"
        )
    return COVARIANCES[value]


def as_whole(value: Any, name: str, least: int = 1) -> int:
    """A whole number of at least `least`, Python's or NumPy's.

    >>> as_whole(np.int64(3), "n_clusters")
    3
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise SettingsError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return int(value)


def as_seeding(seeding_rows: Any) -> Seeding:
    """Seeding on so many rows; None leaves their number to the model."""
    if seeding_rows is None:
        return Seeding()
    return Seeding(rows=as_whole(seeding_rows, "seeding_rows"))


def as_refresh(value: Any) -> float:
    """A share of a component's weight."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= float(value) <= 1:
        raise SettingsError(
            f"refresh is {value!r}, expected a share from 0 to 1; 0 remakes after every event"
        )
    return float(value)


def switched(value: Any, name: str, usual: T) -> T | None:
    """A setting from True (the usual one), False or None (none), or as it is.

    >>> switched(True, "seeding", Seeding(rows=9))
    Seeding(rows=9, restarts=8, lloyd_steps=10, em_steps=10)
    """
    if value is None or isinstance(value, type(usual)):
        return value
    if not isinstance(value, (bool, np.bool_)):
        kind = type(usual).__name__
        raise SettingsError(f"{name} is {value!r}, expected True, False or {kind}(...)")
    return usual if value else None


def as_seed(seed: Any) -> int:
    """A seed from a whole number, or a fresh one from None, as River has it."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    return seed
