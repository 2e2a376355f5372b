"""Finite data, revisited: incremental EM with one memo for each chunk (Neal & Hinton 1998).

Every chunk keeps the tally that its rows had when they were visited last, and the
entropy of their responsibilities. A visit replaces one memo; the tally of all rows is
rebuilt through a tree of merges, never by subtraction; the clusters are read off it at
once. The free energy F of all rows is exact and costs no pass over the data, and it
never falls. For hard k-means it is J that never rises: nested mini-batches (Newling &
Fleuret 2016) are the limit σ → 0 of the same walk.
"""

from stream_em.replaying.data import Chunk
from stream_em.replaying.methods import Incremental, Method, VarianceReduced
from stream_em.replaying.walk import Replayed, Sweep, Visit, replay

__all__ = [
    "Chunk",
    "Incremental",
    "Method",
    "Replayed",
    "Sweep",
    "VarianceReduced",
    "Visit",
    "replay",
]
