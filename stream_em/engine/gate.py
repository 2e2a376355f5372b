"""Rows that came through a source but must not reach the model become rejected records."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from stream_em.arrays import LARGEST, Array
from stream_em.engine.pending import chosen, source_names
from stream_em.errors import SettingsError
from stream_em.intake import refusals
from stream_em.models.protocol import Model
from stream_em.state import State
from stream_em.streams import Batch, Rejected, Source

Refusal = tuple[int, str, str | None, str]  # row, reason, field, detail


def check_missing(source: Source, model: Model) -> None:
    """Raise `SettingsError` where a source lets missing values through to a model without them."""
    if getattr(source, "missing", None) == "learn" and model.missing is None:
        raise SettingsError(
            f'source.missing is "learn", but model {model.kind} does not learn rows with missing '
            'values; give the model missing = "learn" (missing=Learn()) if it has it, or the '
            'source missing = "reject"'
        )


def admitted(model: Model, state: State, batch: Batch, features: tuple[str, ...]) -> Batch:
    """The batch without rows that the model must not be given; they join the rejected.

    Unusable numbers (NaN unless the model learns missing values), unusable weights, and
    what `learning.refusals` names, such as event times from the future. One bad row is
    never the end of a run.
    """
    missing = model.missing is not None
    batch = _without(batch, _unusable(batch, features, missing), features)
    unfit: list[Refusal] = [
        (row, why, None, what)
        for row, why, what in refusals(model, state, batch.origins.times, batch.rows)
    ]
    return _without(batch, unfit, features)


def _without(batch: Batch, found: list[Refusal], features: tuple[str, ...]) -> Batch:
    if not found:
        return batch
    first = {refusal[0]: refusal for refusal in reversed(found)}
    keep = np.ones(len(batch.rows), dtype=bool)
    keep[list(first)] = False
    refused = tuple(_rejected(batch, first[row], features) for row in sorted(first))
    return replace(
        batch,
        rows=batch.rows[keep],
        weights=None if batch.weights is None else batch.weights[keep],
        origins=chosen(batch.origins, keep),
        rejected=batch.rejected + refused,
    )


def _unusable(batch: Batch, features: tuple[str, ...], missing: bool) -> list[Refusal]:
    found: list[Refusal] = []
    size = np.abs(batch.rows)
    bad = size > LARGEST if missing else ~(size <= LARGEST)  # infinities, and NaN if not missing
    if bad.any():
        for row in np.flatnonzero(bad.any(axis=1)).tolist():
            name = features[int(np.argmax(bad[row]))]
            value = batch.rows[row, int(np.argmax(bad[row]))]
            detail = f"{value}, expected a finite number of magnitude up to {LARGEST:g}"
            found.append((row, "non_finite", name, detail))
    if batch.weights is not None:
        unusable = ~((batch.weights >= 0) & (batch.weights <= LARGEST))
        for row in np.flatnonzero(unusable).tolist():
            detail = f"weight {batch.weights[row]}, expected a number from 0 to {LARGEST:g}"
            found.append((row, "weight", None, detail))
    return found


def _rejected(batch: Batch, refusal: Refusal, features: tuple[str, ...]) -> Rejected:
    row, reason, field, detail = refusal
    origins = batch.origins
    return Rejected(
        source=source_names(origins)[row],
        partition=int(origins.partition[row]),
        offset=int(origins.offset[row]),
        reason=reason,
        field=field,
        detail=detail,
        raw=_raw(batch, row, features),
        time=_time(batch, row),
    )


def _time(batch: Batch, row: int) -> float | None:
    times = batch.origins.times
    return float(times[row]) if times is not None and np.isfinite(times[row]) else None


def _raw(batch: Batch, row: int, features: tuple[str, ...]) -> bytes:
    """The row's values as JSON, since the bytes it came as are gone."""
    values: dict[str, Any] = dict(zip(features, _numbers(batch.rows[row]), strict=True))
    if batch.weights is not None:
        values["weight"] = _numbers(batch.weights[row : row + 1])[0]
    if batch.origins.times is not None:
        values["time"] = _numbers(batch.origins.times[row : row + 1])[0]
    if batch.origins.keys is not None:
        values["key"] = batch.origins.keys[row]
    return json.dumps(values).encode()


def _numbers(values: Array) -> list[float | str]:
    """JSON has no NaN and no infinity: those become text."""
    return [value if np.isfinite(value) else str(value) for value in values.tolist()]
