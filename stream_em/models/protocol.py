"""What a model is: settings and two pure functions, an E-step and an M-step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from stream_em.arrays import LARGEST, Array, record
from stream_em.errors import SettingsError
from stream_em.forgetting import Forgetting, Refusal
from stream_em.kernels.plain import LOG_2PI
from stream_em.models.settings import Background, Learn, Prior, Restructuring, Seeding, Standardise
from stream_em.moments import Moments, Scatter

Nested = tuple[tuple[float, ...], ...]


@record
class Clusters:
    """The parameters an E-step reads, in the model's coordinates; rows in order of slots."""

    weights: Array  # (K,) mixing weights, sum 1
    means: Array  # (K, D)
    covariances: Array  # in the shape of the model's covariance; (0,) for k-means
    precisions: Array  # Cholesky factors of inverses, (K, D, D) or (K, D); (0,) for k-means
    log_dets: Array  # (K,) log determinants of `precisions`; (0,) for k-means


class Expectation(NamedTuple):
    """What an E-step says of n rows."""

    responsibilities: Array | None  # (n, K); None: one-hot at `labels`
    labels: Array  # (n,) int64, most likely cluster
    nearest_distance: Array  # (n,) squared distance to the nearest mean
    log_joint: Array | None  # (n, K) log p(z, k) in nats; None without a density
    log_likelihood: Array  # (n,) nats; NaN without a density
    entropy: Array  # (n,) nats of the responsibilities; NaN without a density
    background: Array  # (n,) share of the background; the others are given not background
    log_background: Array | None = None  # (n,) log p(z, background) in nats


class Reading(NamedTuple):
    """What an M-step read off a tally, and the numerical repairs it needed."""

    clusters: Clusters
    interventions: tuple[str, ...]


class Model(ABC):
    """Settings and pure functions. Subclasses are frozen dataclasses and final."""

    kind: ClassVar[str]
    has_density: ClassVar[bool]  # log-likelihoods mean something
    relocates: ClassVar[bool] = False  # far rows wait outside the tally and pull clusters there
    directional: ClassVar[bool] = False  # rows count by their directions alone
    forgetting: Forgetting
    seeding: Seeding
    prior: Prior | None
    restructuring: Restructuring | None
    background: Background | None
    scaling: Standardise | None
    missing: Learn | None
    initial_means: Nested | None

    @property
    @abstractmethod
    def size(self) -> int:
        """K as asked for; fewer may be live."""

    @property
    @abstractmethod
    def scatter(self) -> type[Scatter]:
        """The form in which this model keeps second moments."""

    @property
    def per_feature(self) -> bool:
        """Whether clusters have a variance for each feature, so that units mean nothing."""
        return False

    @abstractmethod
    def e_step(self, clusters: Clusters, Z: Array) -> Expectation:
        """Assign rows Z (n, D) under fixed clusters."""

    @abstractmethod
    def m_step(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        """Read clusters off a tally.

        `spread` (D,) is the running variance of all rows; `held` are the clusters
        before, kept where a cluster is empty and for what this model does not learn.
        """

    def refusals(self, X: Array) -> tuple[Refusal, ...]:
        """The rows of X (n, D), as they came, that this model has no place for."""
        return ()

    def centres(self, means: Array) -> Array:
        """Where clusters with these mean rows (K, D) have their centres."""
        return means

    def distortion(self, moments: Moments) -> float:
        """J of a tally of hard assignments, about its own centres."""
        return float(moments.scatter.values.sum())

    def move_costs(self, moments: Moments, spread: Array) -> Array:
        """`merge_costs` in the units in which rows that wait tell what a move gains."""
        return self.merge_costs(moments, spread)

    def relevance(self, clusters: Clusters, Z: Array) -> Array | None:
        """How much each row counts for mean and covariance of each cluster, (n, K); None: 1."""
        return None

    def relevance_at(self, squared: Array, D: int) -> Array | None:
        """The same at squared Mahalanobis distances over D features; None: 1."""
        return None

    def log_profile(self, squared: Array, D: int) -> Array:
        """log density in nats at squared Mahalanobis distances over D features, for |Σ| = 1."""
        return -0.5 * (D * LOG_2PI + squared)

    @abstractmethod
    def start(self, moments: Moments, spread: Array) -> Clusters:
        """Clusters from a tally of hard assignments, before any EM iteration."""

    @abstractmethod
    def given(self, means: Array, spread: Array, objective: float, unit: Array) -> Clusters:
        """Clusters from the given means (K, D) in model coordinates.

        `spread` (D,) is the variance of the first step's rows, `objective` their mean
        squared distance to the nearest mean, and `unit` (D,) the model's in original units.
        """

    @abstractmethod
    def reread(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        """Read clusters off a tally whose clusters are not those of `held`, row by row."""

    @abstractmethod
    def n_parameters(self, D: int, K: int | None = None) -> int:
        """Free parameters P of the model in D features, with K clusters or as many as asked."""

    @abstractmethod
    def smallest_window(self, D: int) -> float:
        """W_min, the window below which nothing fades."""

    @abstractmethod
    def rows_to_hold(self, D: int) -> int:
        """Rows held before seeding."""

    @abstractmethod
    def rows_withheld(self, D: int) -> int:
        """Rows tallied before the first M-step when started from given means."""

    @abstractmethod
    def reported(self, clusters: Clusters, moments: Moments | None, unit: Array) -> Array:
        """Covariances in the original units, in scikit-learn's shape; unit (D,)."""

    @abstractmethod
    def merge_costs(self, moments: Moments, spread: Array) -> Array:
        """(K, K) cost of merging two clusters, +inf on and below the diagonal."""


def as_nested(values: object, name: str, size: int | None) -> Nested | None:
    """Given means as nested tuples (K, D), so that settings stay comparable and printable."""
    if values is None:
        return None
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.ndim != 2 or array.size == 0 or (size is not None and len(array) != size):
        raise SettingsError(
            f"{name} came in shape {array.shape}, expected (K, D) with K = {size} rows of numbers"
        )
    if not (np.abs(array) <= LARGEST).all():
        raise SettingsError(
            f"{name} holds values that are not finite or beyond {LARGEST:g}; give finite numbers"
        )
    return tuple(tuple(row) for row in array.tolist())


def as_tuples(values: object) -> object:
    """Nested lists or arrays as nested tuples."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, Sequence) and not isinstance(values, str):
        return tuple(as_tuples(value) for value in values)
    return values


def check_common(model: Model) -> None:
    """Validate the settings every model shares."""
    if not isinstance(model.forgetting, Forgetting):
        raise SettingsError(
            f"forgetting is {model.forgetting!r}, expected a policy; KeepAll() forgets nothing, "
            "KeepNothing() makes each step one batch iteration, HalfLife(events=...) fades"
        )
    kinds = {
        "seeding": Seeding,
        "prior": Prior,
        "restructuring": Restructuring,
        "background": Background,
        "scaling": Standardise,
        "missing": Learn,
    }
    for name, wanted in kinds.items():
        value = getattr(model, name)
        if not isinstance(value, wanted) and (value is not None or name == "seeding"):
            raise SettingsError(f"{name} is {value!r}, expected {wanted.__name__}(...) or None")


def held_rows_bound(K: int, D: int, n_parameters: int) -> int:
    """n0 = max(2K, min(max(2000, 20K, 5P), 20 000 + 20K, 256 MiB / 8D))."""
    memory = 256 * 2**20 // (8 * D)
    return max(2 * K, min(max(2000, 20 * K, 5 * n_parameters), 20_000 + 20 * K, memory))
