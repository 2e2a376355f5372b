"""`stream-em inspect --k-curve`: how many clusters, as a table, a picture and JSON."""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import stream_em as se
from stream_em.cli.charts import Panel, bar, svg
from stream_em.cli.inputs import as_it_is, source_of
from stream_em.cli.tables import aligned
from stream_em.engine.gate import admitted
from stream_em.errors import RowsError, Unreachable

if TYPE_CHECKING:
    from stream_em.arrays import Array
    from stream_em.cli.saved import Saved
    from stream_em.kcurve import KCurve
    from stream_em.streams import Source

log = logging.getLogger(__name__)

WINDOW_ROWS = 100_000  # read at most


def curve_of(
    found: "Saved", data: Path, config: Path | None, settings: tuple[str, ...]
) -> "KCurve":
    """The curve over K of a checkpoint's clusters, on the first rows of DATA."""
    rows, weights, rejected = _window(found, as_it_is(source_of(found, data, config, settings)))
    if not len(rows):
        raise RowsError(f"{data} has no usable rows; give rows that were held out of the run")
    log.info("scored on %d rows of %s; %d records rejected", len(rows), data, rejected)
    return se.k_curve(found.checkpoint.model, found.checkpoint.state, rows, weights=weights)


def _window(found: "Saved", source: "Source") -> "tuple[Array, Array, int]":
    """Up to `WINDOW_ROWS` rows, their weights, and how many records were rejected."""
    model, state = found.checkpoint.model, found.checkpoint.state
    rows, weights, rejected, taken = [], [], 0, 0
    stream = source.opened_at(None)
    try:
        while not stream.ended and taken < WINDOW_ROWS:
            batch = stream.poll(1.0)
            if batch is None:
                continue
            batch = admitted(model, state, batch, tuple(stream.features))
            given = np.ones(len(batch.rows)) if batch.weights is None else batch.weights
            rows.append(batch.rows[: WINDOW_ROWS - taken])
            weights.append(given[: WINDOW_ROWS - taken])
            taken, rejected = taken + len(rows[-1]), rejected + len(batch.rejected)
        if not stream.ended:
            log.info("the first %d rows are enough for a curve; the rest is not read", taken)
    finally:
        stream.close()
    if not rows:
        return np.zeros((0, len(stream.features))), np.zeros(0), rejected
    return np.concatenate(rows), np.concatenate(weights), rejected


def facts(curve: "KCurve") -> dict[str, Any]:
    """The curve as plain values."""
    return {
        "best": curve.best,
        "events": curve.events,
        "k": curve.k.tolist(),
        "objective_per_event": curve.objective.tolist(),
        "log_likelihood_nats_per_event": curve.log_likelihood.tolist(),
        "bic": curve.bic.tolist(),
        "merge_cost": curve.merge_cost.tolist(),
    }


def picture(curve: "KCurve") -> str:
    """The curve as a table with a bar in each row, the best K marked."""
    dense = not np.isnan(curve.bic).all()
    names = ["K", "J per event", "merge cost"]
    columns = [
        [f"{k}" for k in curve.k.tolist()],
        [f"{j:.5g}" for j in curve.objective.tolist()],
        ["", *(f"{cost:.4g}" for cost in curve.merge_cost[1:].tolist())],
    ]
    if dense:
        names[2:2] = ["log-likelihood", "BIC"]
        columns[2:2] = [
            [f"{value:.5f}" for value in curve.log_likelihood.tolist()],
            [f"{value:,.0f}" for value in curve.bic.tolist()],
        ]
    table = aligned(names, [list(cells) for cells in zip(*columns, strict=True)]).splitlines()
    width = max(map(len, table)) + 2
    drawn = [f"{table[0]:<{width}}{'BIC above the least, log scale' if dense else 'log J'}"]
    for line, k, share in zip(table[1:], curve.k.tolist(), shares(curve), strict=True):
        best = k == curve.best
        text = f"{line:<{width}}{bar(share)}{' ◀ best' if best else ''}".rstrip()
        drawn.append(click.style(text, bold=True) if best else text)
    return "\n".join(drawn)


def shares(curve: "KCurve") -> list[float]:
    """Length of each bar: of log(1 + BIC above the least), or of log J above the least."""
    if not np.isnan(curve.bic).all():
        heights = [math.log1p(value) for value in (curve.bic - np.nanmin(curve.bic)).tolist()]
    else:
        logs = np.log(np.maximum(curve.objective, 1e-300))
        heights = (logs - logs.min()).tolist()
    tallest = max((height for height in heights if math.isfinite(height)), default=0.0)
    return [height / tallest if tallest > 0 and height == height else 0.0 for height in heights]


def verdict(curve: "KCurve") -> str:
    """What the curve says, and how much it rests on."""
    by = "the elbow of log J" if np.isnan(curve.bic).all() else "the least BIC"
    return f"best K       {curve.best}, by {by}; {curve.events:,.0f} effective events"


def draw(curve: "KCurve", path: Path) -> None:
    """Write the curve as SVG. Raises `Unreachable` when that is impossible."""
    panels = [Panel("J per event (log scale)", curve.objective.tolist(), logarithmic=True)]
    if not np.isnan(curve.bic).all():
        likelihood = curve.log_likelihood.tolist()
        panels.append(Panel("log-likelihood per event, nats", likelihood))
        panels.append(Panel("BIC", curve.bic.tolist()))
    title = f"How many clusters: best K = {curve.best}"
    text = svg(title, "K", curve.k.tolist(), panels, curve.best)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unreachable(f"the chart cannot be written to {path} ({error})") from None
    log.info("drawn to %s", path)
