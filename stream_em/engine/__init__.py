"""The engine: from a stream to clusters, output rows, checkpoints and metrics."""

from stream_em.engine.conflicts import conflicts, unfit_for_transactions
from stream_em.engine.runner import run
from stream_em.engine.schedule import Schedule
from stream_em.engine.summary import Summary

__all__ = ["Schedule", "Summary", "conflicts", "run", "unfit_for_transactions"]
