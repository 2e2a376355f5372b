"""A plan carried out: the engine with its meter, web server, signals and display."""

import dataclasses
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

import stream_em as se
from stream_em.cli.logs import finite
from stream_em.cli.progress import Watch, watching
from stream_em.cli.signals import Stop, handled
from stream_em.config import Plan
from stream_em.engine import Summary
from stream_em.errors import SettingsError, Unreachable
from stream_em.metrics.meter import Meter

log = logging.getLogger(__name__)

#: The keys of `--summary-json`, in order.
SUMMARY = (
    "events",
    "total_events",
    "rejected",
    "batches",
    "seconds",
    "objective_per_event",
    "log_likelihood_nats_per_event",
    "free_energy_nats_per_event",
    "clusters",
    "checkpoints",
    "resumed_from",
)


@dataclass(frozen=True)
class Options:
    """What the command line asks for beside the configuration."""

    progress: bool = True
    log_seconds: float = 10.0  # between log lines where stderr is no terminal
    max_events: int | None = None
    fresh: bool = False
    overwrite: bool = False
    continue_input: bool = False
    accept_source_change: bool = False
    take_over: bool = False
    trust_checkpoint: bool = False
    summary_json: str | None = None  # a path, "-" for stdout


def execute(plan: Plan, options: Options, stop: Stop | None = None) -> Summary:
    """Run to the end of the input or until asked to stop; tell the summary.

    Raises whatever `se.run` does; every error carries its exit code.
    """
    stop = Stop() if stop is None else stop
    _refuse_mixture(plan, options)
    meter = Meter(
        plan.model,
        name=plan.engine.name,
        source=_input_name(plan),
        cluster_detail=plan.metrics.cluster_detail,
        checkpoint_interval_seconds=_interval(plan),
    )
    with handled(stop):
        with ExitStack() as around:
            around.enter_context(counted(meter.logs))
            around.enter_context(_served(plan, meter, options.take_over))
            shown = watching(options.log_seconds) if options.progress else nullcontext()
            watch = around.enter_context(shown)
            summary = _run(plan, options, stop, meter, watch)
        tell(summary, options.summary_json)
    return summary


def _run(plan: Plan, options: Options, stop: Stop, meter: Meter, watch: Watch | None) -> Summary:
    return se.run(
        plan.source,
        plan.model,
        plan.sinks,
        plan.store,
        schedule=plan.schedule,
        seed=plan.engine.seed,
        dead_letters=plan.dead_letters,
        changes=plan.changes,
        max_events=options.max_events,
        fresh=options.fresh,
        overwrite=options.overwrite,
        continue_input=options.continue_input,
        accept_source_change=options.accept_source_change,
        take_over=options.take_over,
        trust_checkpoint=options.trust_checkpoint,
        name=plan.name,
        instance_id=plan.engine.instance_id,
        stop=stop,
        observe=watch,
        meter=meter,
        shutdown_timeout_seconds=plan.engine.shutdown_timeout_seconds,
    )


def _input_name(plan: Plan) -> str:
    """What metrics call the input: its path, or its topics."""
    topics = getattr(plan.source, "topics", None)
    if topics is not None:
        return ",".join(topics)
    return str(getattr(plan.source, "path", plan.source.kind))


def _interval(plan: Plan) -> float | None:
    return None if plan.store is None else plan.schedule.every_seconds or None


def _refuse_mixture(plan: Plan, options: Options) -> None:
    """stdout is for one kind of data."""
    if options.summary_json == "-" and any(sink.kind == "stdout" for sink in plan.outputs):
        raise SettingsError(
            "--summary-json - and a sink of kind stdout would mix on standard output; "
            "give the summary a path"
        )


@contextmanager
def counted(handler: logging.Handler) -> Iterator[None]:
    """Have the meter count log messages for the length of the block."""
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


@contextmanager
def _served(plan: Plan, meter: Meter, take_over: bool) -> Iterator[None]:
    """The web server, when wanted; one that nobody asked for may stay away.

    So may one whose port is held by the engine that is being displaced.
    """
    if not plan.http.on:
        yield
        return
    from stream_em import server

    try:
        serving = server.serve(meter, plan.http.address)
    except Unreachable as error:
        if plan.http_given and not take_over:
            _refuse_second(plan)
            raise
        log.warning("no metrics are served: %s", error)
        yield
        return
    try:
        yield
    finally:
        serving.close()


def _refuse_second(plan: Plan) -> None:
    """Raises `Locked` where the port is taken because another engine holds the checkpoints."""
    if plan.store is not None:
        with plan.store.lock():
            pass


def tell(summary: Summary, path: str | None) -> None:
    """The summary on stderr as a log line, and as JSON where asked for."""
    facts = dataclasses.asdict(summary)
    log.info("finished", extra={**facts, "words": in_words(summary)})
    if path is None:
        return
    text = json.dumps(finite({key: facts[key] for key in SUMMARY}), indent=2) + "\n"
    if path == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unreachable(f"the summary cannot be written to {path} ({error})") from None


def in_words(summary: Summary) -> str:
    """The summary for people, in one line."""
    rate = summary.events / summary.seconds if summary.seconds > 0 else 0.0
    words = [
        f"{summary.events:,} events in {summary.seconds:.1f} s ({rate:,.0f}/s)",
        f"{summary.total_events:,} in all",
        f"{summary.rejected:,} rejected",
        f"{summary.clusters} clusters",
        *quality_in_words(summary),
        f"{summary.checkpoints} checkpoint{'s' * (summary.checkpoints != 1)}",
    ]
    return f"finished ({summary.stopped_by}): {', '.join(words)}"


def quality_in_words(summary: Summary) -> list[str]:
    """J and log-likelihood per event, where there are such."""
    objective, likelihood = summary.objective_per_event, summary.log_likelihood_nats_per_event
    words = [] if objective is None else [f"J {objective:.4g} per event"]
    if likelihood is not None:
        words.append(f"log-likelihood {likelihood:.4g} nats per event")
    return words
