"""The catalogue of metrics, as data: names, types, labels and what each family means.

Every name begins with `stream_em_`, which is left out here. A family whose value does not
exist (a likelihood of k-means, the time of a checkpoint before the first) has no sample.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

PREFIX = "stream_em_"
PHASES = (
    "fetch",
    "decode",
    "validate",
    "e_step",
    "m_step",
    "drift",
    "publish",
    "commit",
    "checkpoint",
)
STATES = ("starting", "restoring", "running", "draining", "failed")
OUTCOMES = ("success", "failure")
ACTIVITIES = ("busy", "idle", "backpressured")
QUEUES = ("ingest", "output")
INPUT_ERRORS = ("transport", "auth", "deserialize")
INTERVENTIONS = ("covariance_floor", "cholesky_retry", "non_finite")
CHANGES = ("birth", "death", "merge", "relocation")
LEVELS = ("debug", "info", "warning", "error")
DETAILS = ("auto", "full", "summary", "off")

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
SUMMARY, INFO, STATESET = "summary", "info", "stateset"


class Family(NamedTuple):
    """A metric family; `{half_life}` in its help stands for the configured half-life."""

    name: str  # with the suffix of its type, without the prefix
    type: str
    labels: tuple[str, ...]
    help: str


BUILD = ("version", "revision", "python_version", "numpy_version")
CLUSTER = ("cluster_id",)
SOURCE = ("source",)
PARTITION = ("source", "partition")

_PROCESS = (
    Family("build_info", INFO, BUILD, "Build of the running engine."),
    Family("model_info", INFO, ("model", "algorithm", "covariance"), "Model of this engine."),
    Family("state", STATESET, ("stream_em_state",), "State of the life cycle; exactly one is 1."),
    Family("log_messages_total", COUNTER, ("level",), "Log records emitted."),
)

_THROUGHPUT = (
    Family("events_total", COUNTER, (), "Events learned from."),
    Family("batches_total", COUNTER, ("outcome",), "Mini-batches applied, or failed."),
    Family("batch_events", HISTOGRAM, (), "Accepted events in a mini-batch."),
    Family("phase_duration_seconds", HISTOGRAM, ("phase",), "Wall time of a phase of a batch."),
    Family("loop_seconds_total", COUNTER, ("activity",), "Wall time of the learning loop."),
    Family("queue_events", GAUGE, ("queue",), "Events waiting in an internal queue."),
    Family("queue_capacity_events", GAUGE, ("queue",), "Events an internal queue may hold."),
    Family("event_time_delay_seconds", HISTOGRAM, (), "Time from an event to its model update."),
    Family("last_update_timestamp_seconds", GAUGE, (), "Unix time of the last model update."),
    Family("records_rejected_total", COUNTER, ("reason",), "Records not learned from."),
    Family(
        "dead_letter_records_total",
        COUNTER,
        ("outcome",),
        "Records handed to the dead letters, or that could not be.",
    ),
)

_INPUT = (
    Family("input_records_total", COUNTER, SOURCE, "Records taken from the input."),
    Family("input_bytes_total", COUNTER, SOURCE, "Bytes taken from the input."),
    Family("input_lag_records", GAUGE, PARTITION, "Records from the read position to the end."),
    Family(
        "input_uncommitted_records",
        GAUGE,
        PARTITION,
        "Records from the committed to the read position.",
    ),
    Family("input_lag_bytes", GAUGE, SOURCE, "Bytes left to read of an input with an end."),
    Family(
        "input_last_event_timestamp_seconds",
        GAUGE,
        PARTITION,
        "Newest event time applied, in unix time.",
    ),
    Family("input_last_poll_timestamp_seconds", GAUGE, SOURCE, "Unix time of the last poll."),
    Family("input_connected", GAUGE, SOURCE, "1 while the input is open and answers, else 0."),
    Family("input_assigned_partitions", GAUGE, SOURCE, "Partitions assigned to this process."),
    Family("input_rebalances_total", COUNTER, SOURCE, "Changes of the assigned partitions."),
    Family(
        "input_rebalance_duration_seconds",
        HISTOGRAM,
        SOURCE,
        "Time from losing or gaining partitions until reading goes on.",
    ),
    Family(
        "input_errors_total",
        COUNTER,
        ("source", "error"),
        "Errors of the connection, refusals of the credentials, records that do not decode.",
    ),
    Family(
        "offset_commits_total",
        COUNTER,
        ("source", "outcome"),
        "Commits of positions to the input; the checkpoint alone is the truth.",
    ),
    Family(
        "offset_commit_duration_seconds", HISTOGRAM, SOURCE, "Time that a commit of positions took."
    ),
)

_QUALITY = (
    Family(
        "event_objective",
        SUMMARY,
        (),
        "Squared distance of events to the nearest centroid before their own update, "
        "in the model's units squared, each times its weight; the count is the weight.",
    ),
    Family(
        "objective_per_event",
        GAUGE,
        (),
        "k-means objective J per event before its own update, in the model's units squared; "
        "exponentially weighted with a half-life of {half_life} events.",
    ),
    Family("batch_objective_per_event", GAUGE, (), "Objective J per event of the last batch."),
    Family(
        "log_likelihood_nats_per_event",
        GAUGE,
        (),
        "Log-likelihood per event before its own update; "
        "exponentially weighted with a half-life of {half_life} events.",
    ),
    Family(
        "batch_log_likelihood_nats_per_event",
        GAUGE,
        (),
        "Log-likelihood per event of the last batch.",
    ),
    Family(
        "free_energy_nats_per_event",
        GAUGE,
        (),
        "Free energy F = Q + H per event, the evidence lower bound: higher is better, never "
        "above the log-likelihood; exponentially weighted with a half-life of {half_life} events.",
    ),
    Family(
        "assignment_entropy_nats_per_event",
        GAUGE,
        (),
        "Entropy of the responsibilities per event, from 0 to ln K; "
        "exponentially weighted with a half-life of {half_life} events.",
    ),
    Family("numerical_interventions_total", COUNTER, ("kind",), "Numerical repairs."),
    Family("cluster_changes_total", COUNTER, ("change",), "Structural changes of the model."),
)

_MODEL = (
    Family("clusters", GAUGE, (), "Clusters in the model, K."),
    Family("features", GAUGE, (), "Features of an event, D."),
    Family(
        "model_version",
        GAUGE,
        (),
        "Number of the published model: input rows it has accepted since it began.",
    ),
    Family("model_published_timestamp_seconds", GAUGE, (), "Unix time of the last publication."),
    Family("model_updates_total", COUNTER, (), "Steps that updated the model."),
    Family("step_size_ratio", GAUGE, (), "Share of the last batch in what the model knows."),
)

_CLUSTERS = (
    Family("cluster_weight_ratio", GAUGE, CLUSTER, "Mixing weight of the cluster in a slot."),
    Family("cluster_effective_events", GAUGE, CLUSTER, "Events held, as far as not faded, N_k."),
    Family("cluster_events_total", COUNTER, CLUSTER, "Events assigned, each to its likeliest."),
    Family(
        "cluster_displacement_total",
        COUNTER,
        CLUSTER,
        "Length of the path the centroid has travelled, in the model's units.",
    ),
    Family(
        "cluster_reference_distance",
        GAUGE,
        CLUSTER,
        "Distance of the centroid from where this process first met it, in the model's units.",
    ),
    Family(
        "cluster_covariance_log_determinant",
        GAUGE,
        CLUSTER,
        "Log determinant of the covariance, in nats and the model's units.",
    ),
    Family(
        "cluster_created_timestamp_seconds",
        GAUGE,
        CLUSTER,
        "Unix time this process first met the cluster in this slot; slots are reused.",
    ),
    Family(
        "cluster_last_event_timestamp_seconds",
        GAUGE,
        CLUSTER,
        "Newest event time assigned to the cluster, in unix time.",
    ),
    Family("cluster_weight_minimum_ratio", GAUGE, (), "Mixing weight of the smallest cluster."),
    Family("cluster_weight_maximum_ratio", GAUGE, (), "Mixing weight of the largest cluster."),
    Family("cluster_weight_entropy_nats", GAUGE, (), "Entropy of the weights, from 0 to ln K."),
)

_CHECKPOINTS = (
    Family("checkpoints_total", COUNTER, ("outcome",), "Checkpoints attempted."),
    Family("checkpoint_duration_seconds", HISTOGRAM, (), "Time until a checkpoint is durable."),
    Family("checkpoint_size_bytes", GAUGE, (), "Size of the last checkpoint."),
    Family(
        "checkpoint_last_success_timestamp_seconds",
        GAUGE,
        (),
        "Unix time the last checkpoint became durable.",
    ),
    Family("checkpoint_interval_seconds", GAUGE, (), "Configured time between checkpoints."),
    Family(
        "checkpoint_pending_events", GAUGE, (), "Events accepted since the last durable checkpoint."
    ),
    Family("checkpoint_restores_total", COUNTER, ("outcome",), "Checkpoints restored."),
)

CATALOGUE: tuple[Family, ...] = (
    *_PROCESS,
    *_THROUGHPUT,
    *_INPUT,
    *_QUALITY,
    *_MODEL,
    *_CLUSTERS,
    *_CHECKPOINTS,
)

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in CATALOGUE})
