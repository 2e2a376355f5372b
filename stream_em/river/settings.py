"""River's parameters, which are numbers and words, as settings of stream-em's models."""

import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from stream_em.errors import SettingsError
from stream_em.forgetting import Forgetting, HalfLife
from stream_em.models.covariance import Covariance, Diagonal, Full, Spherical, Tied
from stream_em.models.kinds import construct, hint
from stream_em.models.settings import Seeding

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
    if isinstance(value, str):
        policy = construct("forgetting", value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        policy = HalfLife(value)
    else:
        policy = value
    if isinstance(policy, Forgetting) and policy.needs_times:
        raise SettingsError(
            f"forgetting is {value!r}, which needs event times, and events of River have none; "
            "use HalfLife(events=...), or stream_em.step with times"
        )
    return policy


def as_covariance(value: Any) -> Covariance:
    """A covariance from scikit-learn's word for it, or as it is."""
    if isinstance(value, Covariance):
        return value
    if not isinstance(value, str) or value not in COVARIANCES:
        raise SettingsError(
            f"covariance_type is {value!r}, which is unknown; {hint(str(value), COVARIANCES)}"
        )
    return COVARIANCES[value]


def as_seeding(rows: int | None) -> Seeding:
    """Seeding on so many rows; None leaves their number to the model."""
    return Seeding(rows=rows)


def switched(value: Any, usual: Any) -> Any:
    """A setting from True (the usual one), False (none), or as it is."""
    if value is True:
        return usual
    return None if value is False else value


def as_seed(seed: Any) -> int:
    """A seed from a whole number, or a fresh one from None, as River has it."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    return seed
