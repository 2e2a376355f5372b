"""Rows at the door of a step: checked, with what comes beside them."""

from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import Array, Rows, as_rows, as_times, as_weights
from stream_em.errors import RowsError
from stream_em.forgetting import Refusal
from stream_em.models.protocol import Model
from stream_em.state import Held, State


class Arrived(NamedTuple):
    """Rows that may be learned, and what the gate saw of their columns."""

    held: Held
    rows: Rows


def arrived(
    model: Model,
    state: State,
    X: Any,
    weights: Any,
    times: Any,
    labels: Any,
    responsibilities: Any,
) -> Arrived:
    """Take one batch in; raises `RowsError` for what cannot be learned from."""
    rows = as_rows(X, state.features, width(state), model.missing is not None)
    n = len(rows.values)
    held = Held(
        rows.values,
        as_weights(weights, n),
        as_times(times, n),
        _given(model, state, n, labels, responsibilities),
    )
    _refuse(model, state, held)
    return Arrived(held, rows)


def width(state: State) -> int | None:
    """D, where the state knows it."""
    if state.frame is not None:
        return len(state.frame.origin)
    return None if state.held is None else state.held.rows.shape[1]


def _refuse(model: Model, state: State, held: Held) -> None:
    if model.forgetting.needs_times and held.times is None and len(held):
        model.forgetting.row_weights(held.weights, None, None)
    for refusal in refusals(model, state, held.times, held.rows):
        raise RowsError(f"row {refusal.row}: {refusal.detail}; leave such rows out")


def refusals(
    model: Model, state: State, times: Array | None, rows: Array | None = None
) -> tuple[Refusal, ...]:
    """The rows, by index and reason, that `step` would raise for because of their times (n,),
    or because the model has no place for such `rows` (n, D)."""
    unplaced = () if rows is None else model.refusals(rows)
    return (*model.forgetting.refusals(times, state.time), *unplaced)


def _given(model: Model, state: State, n: int, labels: Any, responsibilities: Any) -> Array | None:
    """Given responsibilities (n, K), NaN where unknown; None when nothing is given."""
    K = model.size if state.moments is None else len(state.identity.slots)
    if labels is not None and responsibilities is not None:
        raise RowsError("labels and responsibilities came together; give one of the two")
    if n == 0 or (labels is None and responsibilities is None):
        return None
    return _posterior(responsibilities, n, K) if labels is None else _one_hot(labels, n, K)


def _posterior(responsibilities: Any, n: int, K: int) -> Array:
    try:
        given = np.asarray(responsibilities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RowsError(f"responsibilities must be numbers, (n, K) = {n, K} ({error})") from None
    if given.shape != (n, K):
        raise RowsError(f"responsibilities came in shape {given.shape}, expected {(n, K)}")
    known = given[~np.isnan(given).any(axis=1)]
    if (known < 0).any() or not np.allclose(known.sum(axis=1), 1.0, atol=1e-6):
        raise RowsError(
            "given responsibilities must be >= 0 and sum to 1 in each row; "
            "use rows of NaN where they are unknown"
        )
    return np.where(np.isnan(given).any(axis=1, keepdims=True), np.nan, given)


def _one_hot(labels: Any, n: int, K: int) -> Array:
    given_labels = np.asarray(labels)
    if given_labels.shape != (n,) or not np.issubdtype(given_labels.dtype, np.integer):
        raise RowsError(f"labels must be {n} whole numbers, rows of means; -1 where unknown")
    if ((given_labels < -1) | (given_labels >= K)).any():
        raise RowsError(f"labels must lie between -1 (unknown) and {K - 1}")
    given = (given_labels[:, None] == np.arange(K)).astype(np.float64)
    given[given_labels < 0] = np.nan
    return given
