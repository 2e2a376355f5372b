"""Reading: clusters and scores off a state; nothing is learned, nothing changes."""

from typing import Any

import numpy as np

from stream_em.arrays import altered, as_rows
from stream_em.averaging import weighed
from stream_em.errors import RowsError
from stream_em.incomplete import expect
from stream_em.intake import width
from stream_em.models.protocol import Model
from stream_em.restructuring import settled
from stream_em.scoring import scored, unknown_scores, with_background
from stream_em.spread import floored_variance
from stream_em.state import Found, Scores, State


def score(model: Model, state: State, X: Any, *, averaged: bool = False) -> Scores:
    """Rows X (n, D) as the clusters stand now; nothing is learned.

    `averaged` reads the second model, of statistics averaged along the stream. Without
    any cluster the label is 0 with probability 1, and the rest is NaN.
    """
    rows = as_rows(X, state.features, width(state), model.missing is not None)
    for refusal in model.refusals(rows.values):
        raise RowsError(f"row {refusal.row}: {refusal.detail}; leave such rows out")
    if state.clusters is None or state.frame is None:
        return unknown_scores(len(rows.values))
    Z = state.frame.inward(rows.values)
    state = _read(model, state, averaged)
    assert state.clusters is not None
    expectation = with_background(model, state, expect(model, state.clusters, Z), Z)
    return scored(state.clusters, state.identity, Z, expectation)


def _read(model: Model, state: State, from_average: bool) -> State:
    """What is read: rows set aside are absorbed, or the averaged tally takes over."""
    state = settled(model, state)
    if not from_average:
        return state
    if not model.forgetting.averages:
        raise RowsError(
            f"averaged=True has no meaning under {model.forgetting}, which forgets events; "
            "read the clusters without it"
        )
    tally = weighed(state)
    if tally is None or state.spread is None or state.frame is None:
        return state
    v = floored_variance(state.spread, state.frame)
    reading = model.reread(tally, v, state.clusters)
    return altered(state, moments=tally, clusters=reading.clusters)


def clusters(model: Model, state: State, *, averaged: bool = False) -> Found:
    """The clusters of a state, in the rows' units; none and empty means before any rows.

    `averaged` reads the second model, of statistics averaged along the stream.
    """
    state = _read(model, state, averaged)
    identity = state.identity
    if state.clusters is None or state.frame is None:
        none = np.zeros(0)
        means = np.zeros((0, width(state) or 0))
        return Found(identity.uids, identity.slots, none, means, none, none)
    tallied_rows = state.moments
    return Found(
        identity.uids,
        identity.slots,
        state.clusters.weights,
        state.frame.outward(state.clusters.means),
        model.reported(state.clusters, tallied_rows, state.frame.unit),
        np.zeros(len(identity.slots)) if tallied_rows is None else tallied_rows.objective,
        0.0 if state.background is None else state.background.objective,
    )
