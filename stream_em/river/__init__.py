"""At home in River: learners of single events, for its pipelines, metrics and evaluation.

    from stream_em.river import GaussianMixture, GaussianMixtureDetector, KMeans, SoftKMeans

They are stateful faces of the models of the same names: events are dicts, labels and the
keys of `predict_proba_one` are slots, and nothing but learning changes a learner. n events
are n steps of one row. `model` and `state` lead back to `stream_em.save`, `k_curve` and the
rest.

Features come as they come. An absent key, None or NaN is a missing value, learned by what
the cluster expects of it. A feature that appears before the clusters are seeded is missing
in the rows held so far; a later one is watched in 200 events, and then joins with the mean
and variance it had in each cluster. One that disappears is missing from then on.
"""

from stream_em.river.clusterers import KMeans as KMeans
from stream_em.river.clusterers import SoftKMeans as SoftKMeans
from stream_em.river.detector import GaussianMixtureDetector as GaussianMixtureDetector
from stream_em.river.mixtures import GaussianMixture as GaussianMixture
