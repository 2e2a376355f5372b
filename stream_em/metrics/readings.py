"""What a snapshot says, as samples of the families of the catalogue."""

import platform
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import Array
from stream_em.metrics.catalogue import PHASES, STATES
from stream_em.metrics.histogram import Histogram
from stream_em.metrics.snapshot import About, Snapshot
from stream_em.metrics.tracks import Tracks
from stream_em.models.covariance import Covariance
from stream_em.streams import Partition

FULL_DETAIL = 64  # clusters up to which `auto` tells of each


class Sample(NamedTuple):
    """A value of a family; what it looks like depends on the family's type.

    A number for counters and gauges, (buckets, sum) for histograms, (count, sum) for
    summaries, a mapping for infos and state sets.
    """

    name: str
    value: Any
    labels: tuple[str, ...] = ()


def readings(about: About, now: Snapshot, logs: Mapping[str, int]) -> Iterator[Sample]:
    """All samples of a scrape; gauges that are NaN have no value and are to be left out."""
    yield from _process(about, now, logs)
    yield from _throughput(now)
    yield from _input(about, now)
    yield from _quality(now)
    yield from _model(now)
    yield from _checkpoints(about, now)
    yield from _clusters(about, now.published.tracks)


def _labelled(name: str, values: Mapping[str, float]) -> Iterator[Sample]:
    for label, value in values.items():
        yield Sample(name, value, (label,))


def _outcomes(name: str, success: int, failure: int) -> Iterator[Sample]:
    yield from _labelled(name, {"success": success, "failure": failure})


def _histogram(name: str, held: Histogram, row: int = 0, labels: tuple[str, ...] = ()) -> Sample:
    return Sample(name, (held.cumulated(row), float(held.sums[row])), labels)


def _process(about: About, now: Snapshot, logs: Mapping[str, int]) -> Iterator[Sample]:
    build = (about.version, about.revision, platform.python_version(), np.__version__)
    names = ("version", "revision", "python_version", "numpy_version")
    yield Sample("build_info", dict(zip(names, build, strict=True)))
    covariance = "none" if about.covariance is None else about.covariance.kind
    model = {"model": about.name, "algorithm": about.algorithm, "covariance": covariance}
    yield Sample("model_info", model)
    yield Sample("state", {state: state == now.state for state in STATES})
    yield from _labelled("log_messages_total", logs)


def _throughput(now: Snapshot) -> Iterator[Sample]:
    held = now.throughput
    yield Sample("events_total", held.events)
    yield from _outcomes("batches_total", held.batches, held.failed_batches)
    yield _histogram("batch_events", held.batch_events)
    for row, phase in enumerate(PHASES):
        yield _histogram("phase_duration_seconds", held.phase_seconds, row, (phase,))
    yield Sample("loop_seconds_total", held.busy_seconds, ("busy",))
    yield Sample("loop_seconds_total", held.idle_seconds, ("idle",))
    yield Sample("loop_seconds_total", held.backpressured_seconds, ("backpressured",))
    for queue, (fill, capacity) in held.queues.items():
        yield Sample("queue_events", fill, (queue,))
        yield Sample("queue_capacity_events", capacity, (queue,))
    yield _histogram("event_time_delay_seconds", held.delay_seconds)
    yield Sample("last_update_timestamp_seconds", now.published.updated)
    yield from _labelled("records_rejected_total", held.rejected)
    yield from _outcomes("dead_letter_records_total", held.dead_letters, held.failed_dead_letters)


def _input(about: About, now: Snapshot) -> Iterator[Sample]:
    held, source = now.input, (about.source,)
    yield from _labelled("input_records_total", held.records or {about.source: 0})
    yield Sample("input_bytes_total", held.bytes, source)
    yield Sample("input_lag_bytes", held.lag_bytes, source)
    yield from _by_partition("input_last_event_timestamp_seconds", held.newest)
    yield Sample("input_last_poll_timestamp_seconds", held.last_poll, source)
    yield Sample("input_connected", int(held.connected), source)
    yield Sample("input_rebalances_total", held.rebalances, source)
    yield _histogram("input_rebalance_duration_seconds", held.rebalance_spells.seconds, 0, source)
    for error, count in held.errors.items():
        yield Sample("input_errors_total", count, (about.source, error))
    yield Sample("offset_commits_total", held.commits, (about.source, "success"))
    yield Sample("offset_commits_total", held.failed_commits, (about.source, "failure"))
    yield _histogram("offset_commit_duration_seconds", held.commit_spells.seconds, 0, source)
    if held.status is not None:
        yield from _by_partition("input_lag_records", held.status.lag)
        yield from _by_partition("input_uncommitted_records", held.status.uncommitted)
        yield Sample("input_assigned_partitions", held.status.assigned, source)


def _by_partition(name: str, values: Mapping[Partition, float]) -> Iterator[Sample]:
    for (source, partition), value in values.items():
        yield Sample(name, value, (source, str(partition)))


def _quality(now: Snapshot) -> Iterator[Sample]:
    held = now.quality
    yield Sample("event_objective", (held.weight, held.objective_sum))
    yield Sample("objective_per_event", held.objective.value)
    yield Sample("batch_objective_per_event", held.batch_objective)
    yield Sample("log_likelihood_nats_per_event", held.log_likelihood.value)
    yield Sample("batch_log_likelihood_nats_per_event", held.batch_log_likelihood)
    yield Sample("free_energy_nats_per_event", held.free_energy.value)
    yield Sample("assignment_entropy_nats_per_event", held.entropy.value)
    yield from _labelled("numerical_interventions_total", held.interventions)
    yield from _labelled("cluster_changes_total", held.changes)


def _model(now: Snapshot) -> Iterator[Sample]:
    held = now.published
    yield Sample("clusters", now.cluster_count)
    yield Sample("features", held.features)
    yield Sample("model_version", held.version)
    yield Sample("model_published_timestamp_seconds", held.updated)
    yield Sample("model_updates_total", held.updates)
    yield Sample("step_size_ratio", held.step_size)


def _checkpoints(about: About, now: Snapshot) -> Iterator[Sample]:
    held = now.checkpoints
    yield from _outcomes("checkpoints_total", held.written, held.failed)
    yield _histogram("checkpoint_duration_seconds", held.seconds)
    yield Sample("checkpoint_size_bytes", held.size_bytes)
    yield Sample("checkpoint_last_success_timestamp_seconds", held.last_success)
    if about.checkpoint_interval_seconds is not None:
        yield Sample("checkpoint_interval_seconds", about.checkpoint_interval_seconds)
    yield Sample("checkpoint_pending_events", now.pending_events)
    yield from _outcomes("checkpoint_restores_total", held.restored, held.failed_restores)


def _clusters(about: About, tracks: Tracks) -> Iterator[Sample]:
    K, detail = len(tracks.slots), about.cluster_detail
    if K == 0 or detail == "off":
        return
    positive = tracks.weights[tracks.weights > 0]
    yield Sample("cluster_weight_minimum_ratio", float(tracks.weights.min()))
    yield Sample("cluster_weight_maximum_ratio", float(tracks.weights.max()))
    yield Sample("cluster_weight_entropy_nats", max(0.0, -float(positive @ np.log(positive))))
    if detail == "summary" or (detail == "auto" and K > FULL_DETAIL):
        return
    slots = [str(slot) for slot in tracks.slots.tolist()]
    for name, values in _by_cluster(about.covariance, tracks).items():
        for slot, value in zip(slots, values.tolist(), strict=True):
            yield Sample(name, value, (slot,))


def _by_cluster(covariance: Covariance | None, tracks: Tracks) -> Mapping[str, Array]:
    values = {
        "cluster_weight_ratio": tracks.weights,
        "cluster_effective_events": tracks.counts,
        "cluster_events_total": tracks.events,
        "cluster_displacement_total": tracks.path,
        "cluster_reference_distance": tracks.reference_distances,
        "cluster_created_timestamp_seconds": tracks.created,
        "cluster_last_event_timestamp_seconds": tracks.last_event,
    }
    if covariance is not None:
        values["cluster_covariance_log_determinant"] = _log_determinants(covariance, tracks)
    return values


def _log_determinants(covariance: Covariance, tracks: Tracks) -> Array:
    """ln |Σ_k| in the model's units, (K,) nats."""
    K, D = tracks.means.shape
    of_rows: Array = -2.0 * covariance.factors(tracks.covariances, K, D).log_dets
    return of_rows if tracks.unit is None else of_rows - 2.0 * np.log(tracks.unit).sum()
