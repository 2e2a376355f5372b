"""`stream-em run --dry-run`: load, connect, read one batch, decode, one step, report."""

import dataclasses
import time
from typing import Any

import stream_em as se
from stream_em.cli.shell import say
from stream_em.config import Plan
from stream_em.engine.authority import newest
from stream_em.engine.gate import admitted
from stream_em.engine.rejects import Tribunal
from stream_em.engine.settings import compare, is_blank
from stream_em.state import Info
from stream_em.streams import Batch, Source, Stream

PATIENCE_SECONDS = 10.0  # for the first batch
UNTOUCHED = "Nothing was written: correct the settings before a run"


def rehearse(plan: Plan, fresh: bool, accept_source_change: bool) -> None:
    """Go through the motions of a run up to the first step; lock, join and write nothing.

    Raises what a run would raise up to there: `Unreachable` where nobody answers,
    `TooManyRejects` for a batch that would stop it.
    """
    source = _alone(plan.source).named(plan.engine.name, plan.engine.instance_id)
    found = None if fresh or plan.store is None else newest(plan.store)
    state, positions = se.init(plan.model, plan.engine.seed), None
    if found is not None:
        name, checkpoint = found
        if not is_blank(checkpoint):
            compare(checkpoint, name, plan.model, source, accept_source_change)
            state, positions = checkpoint.state, checkpoint.positions
        say(f"checkpoint   {name}: {state.total_events:,} rows before")
    stream = source.opened_at(positions)
    try:
        say(f"source       {source.kind}: {len(stream.features)} features")
        batch = _first_batch(stream)
        if batch is None:
            say("batch        none came; at the end, or nothing new")
            return
        batch = admitted(plan.model, state, batch, tuple(stream.features))
        _report(batch, se.step(plan.model, state, batch.rows, **_beside(batch))[1])
        Tribunal.over(source, UNTOUCHED).judge(len(batch.rows), batch.rejected)
    finally:
        stream.close()
    say("dry run      all well; nothing was written")


def _alone(source: Source) -> Source:
    """The source as a single engine reads it: joining a group would take partitions from others.

    Its `group_id` stays as it is, for `start = "committed"` asks the group where to begin;
    nothing is committed, for nothing is saved.
    """
    values: Any = source
    shared = any(field.name == "sharing" and field.init for field in dataclasses.fields(values))
    alone: Source = dataclasses.replace(values, sharing="none") if shared else source
    return alone


def _first_batch(stream: Stream) -> Batch | None:
    """The first with records; topics hand out empty ones where only positions moved."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not stream.ended and time.monotonic() < deadline:
        batch = stream.poll(0.25)
        if batch is not None and (len(batch.rows) or batch.rejected):
            return batch
    return None


def _beside(batch: Batch) -> dict[str, object]:
    return {"weights": batch.weights, "times": batch.origins.times}


def _report(batch: Batch, info: Info) -> None:
    say(f"batch        {len(batch.rows):,} rows accepted, {len(batch.rejected):,} rejected")
    for refused in batch.rejected[:3]:
        place = f"{refused.source} at {refused.offset}"
        field = f" in field {refused.field!r}" if refused.field else ""
        say(f"rejected     {place}: {refused.reason}{field}: {refused.detail}")
    if not info.events:
        say("step         rows are held until there are enough to seed from")
        return
    per_event = info.objective / info.weight if info.weight else float("nan")
    say(f"step         {info.events:,} rows assigned, J {per_event:.6g} per event")
