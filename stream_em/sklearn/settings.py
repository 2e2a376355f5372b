"""Constructor parameters, checked and turned into settings when something is fitted.

scikit-learn's constructors store what they are given; whole numbers may be NumPy's.
"""

import math
import numbers
from typing import Any, TypeVar

import numpy as np

from stream_em.arrays import LARGEST, Array
from stream_em.errors import SettingsError
from stream_em.forgetting import Forgetting
from stream_em.models.settings import Seeding

T = TypeVar("T")


def whole(value: Any, name: str, least: int = 1) -> int:
    """A whole number of at least `least`, Python's or NumPy's."""
    number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not number or int(value) < least:
        raise SettingsError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return int(value)


def tolerance(value: Any, name: str = "tol") -> float:
    """A finite number of at least 0."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(float(value)) or float(value) < 0:
        raise SettingsError(f"{name} is {value!r}, expected a finite number of at least 0")
    return float(value)


def switched(value: Any, name: str, kind: type[T]) -> T | None:
    """A switch: True stands for the default settings, False or None for none at all.

    >>> from stream_em.models.settings import Background
    >>> switched(True, "background", Background)
    Background(least_share=0.0001)
    """
    if value is None or isinstance(value, kind):
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise SettingsError(f"{name} is {value!r}, expected True, False or {kind.__name__}(...)")
    return kind() if value else None


def seeding(init_size: Any) -> Seeding:
    """How a stream is seeded; None holds as many rows as the model needs."""
    return Seeding(rows=None if init_size is None else whole(init_size, "init_size"))


def policy(forgetting: Any, usual: Forgetting) -> Forgetting:
    """How a stream forgets; None stands for the model's usual policy."""
    if forgetting is None:
        return usual
    if not isinstance(forgetting, Forgetting) or forgetting.needs_times:
        raise SettingsError(
            f"forgetting is {forgetting!r}, expected None or a policy that counts rows, such as "
            "HalfLife(events=...); scikit-learn's rows have no event times"
        )
    return forgetting


def starting(values: Any, name: str, shape: tuple[int, ...]) -> Array:
    """Given starting values as float64, in the shape they have to have."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != shape:
        raise SettingsError(f"{name} came in shape {array.shape}, expected {shape} of numbers")
    if not (np.abs(array) <= LARGEST).all():
        raise SettingsError(
            f"{name} holds values that are not finite or beyond {LARGEST:g}; give finite numbers"
        )
    return array
