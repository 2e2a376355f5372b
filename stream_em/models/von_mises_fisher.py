"""Mixtures of von Mises-Fisher laws, the Gaussians of the unit sphere: soft cosine clustering.

log f(x) = log C_D(κ) + κ μ·x in nats, per unit of area of the sphere. Because
κ μ·x = κ - ½κ|x - μ|², it is a Gaussian of variance 1/κ with another constant, and goes
through the same E-step. The M-step reads μ and r̄, direction and length of the mean row,
off the tally, and κ off r̄ (Banerjee, Dhillon, Ghosh & Sra 2005).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stream_em.arrays import Array
from stream_em.forgetting import Forgetting, PowerWindow, Refusal
from stream_em.kernels.plain import LOG_2PI
from stream_em.models import directions
from stream_em.models.bessel import concentration, log_normaliser
from stream_em.models.covariance import Spherical
from stream_em.models.density import expected
from stream_em.models.gaussian import mixture_rows_withheld, mixture_window
from stream_em.models.merging import upper
from stream_em.models.protocol import (
    Clusters,
    Expectation,
    Model,
    Nested,
    Reading,
    as_nested,
    check_common,
    held_rows_bound,
)
from stream_em.models.settings import Prior, Restructuring, Seeding, at_least, only_none
from stream_em.moments import DiagonalScatter, Moments, Scatter


@dataclass(frozen=True)
class VonMisesFisher(Model):
    """A mixture on the unit sphere with mean direction μ and concentration κ per component.

    Rows are divided by their lengths; a row of zeros is refused. `.means` have length 1 and
    `.covariances` (K,) are 1/κ, the variance along each direction away from the mean where
    a component is narrow. The prior adds pseudo-rows at the angle that a row of variance
    Λ has, so that κ stays finite and no component shrinks onto one row.

    With `restructuring` components move to directions that appear late, as in
    `SphericalKMeans` and paid for in its objective J. It is off unless asked, because where
    concentrations differ widely, J splits the broad components and unites narrow ones.

    >>> VonMisesFisher(n_components=8).forgetting
    PowerWindow(alpha=0.6, minimum_rows=None)
    """

    n_components: int
    forgetting: Forgetting = PowerWindow(0.6)
    seeding: Seeding = Seeding()
    prior: Prior | None = Prior()
    restructuring: Restructuring | None = None
    background: None = None
    scaling: None = None
    missing: None = None
    initial_means: Nested | None = None
    kind: ClassVar[str] = "von-mises-fisher"
    relocates: ClassVar[bool] = True
    directional: ClassVar[bool] = True
    has_density: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(self.n_components, 1, "n_components", whole=True)
        for name in ("background", "scaling", "missing"):
            only_none(getattr(self, name), name)
        means = as_nested(self.initial_means, "initial_means", self.n_components)
        directions.refuse_zero_means(means)
        object.__setattr__(self, "initial_means", means)
        check_common(self)

    @property
    def size(self) -> int:
        return self.n_components

    @property
    def scatter(self) -> type[Scatter]:
        return DiagonalScatter

    def refusals(self, X: Array) -> tuple[Refusal, ...]:
        return directions.zero_rows(X)

    def centres(self, means: Array) -> Array:
        return directions.centres(means, None)

    def distortion(self, moments: Moments) -> float:
        return directions.distortion(moments.step, moments.mean)

    def e_step(self, clusters: Clusters, Z: Array) -> Expectation:
        return expected(Spherical(), clusters, Z)

    def _pseudo_rows(self, spread: Array) -> tuple[float, float]:
        """The prior's n0, and the 1 - cos of each to the mean, half the trace of Λ."""
        if self.prior is None:
            return 0.0, 0.0
        shrink = self.prior.scale * self.n_components ** (-2 / len(spread))
        return self.prior.rows, min(0.5 * shrink * float(spread.sum()), 1.0)

    def _concentrations(self, N: Array, lengths: Array, spread: Array) -> Array:
        """κ of clusters of weight N with mean rows of these lengths, in any shape."""
        n0, least = self._pseudo_rows(spread)
        total = N + n0
        missed = N * (1.0 - lengths) + n0 * least
        return concentration(len(spread), missed / np.where(total > 0, total, 1.0))

    def m_step(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        N, lengths = moments.step, np.linalg.norm(moments.mean, axis=1)
        means = directions.centres(moments.mean, None if held is None else held.means)
        kappas = self._concentrations(N, lengths, spread)
        if held is not None:
            kappas = np.where(N > 0, kappas, 1.0 / held.covariances)
        weights = N + (0.0 if self.prior is None else self.prior.weight)
        total = weights.sum()
        weights = weights / total if total > 0 else np.full(len(N), 1 / len(N))
        return Reading(_clusters(weights, means, kappas), ())

    def start(self, moments: Moments, spread: Array) -> Clusters:
        return self.m_step(moments, spread, None).clusters

    def given(self, means: Array, spread: Array, objective: float, unit: Array) -> Clusters:
        K, D = means.shape
        kappa = concentration(D, np.array(0.5 * objective))
        return _clusters(np.full(K, 1 / K), means, np.full(K, float(kappa)))

    def reread(self, moments: Moments, spread: Array, held: Clusters | None) -> Reading:
        return self.m_step(moments, spread, None)

    def n_parameters(self, D: int, K: int | None = None) -> int:
        K = K or self.n_components
        return K - 1 + K * D

    def smallest_window(self, D: int) -> float:
        return mixture_window(self.n_parameters(D))

    def rows_to_hold(self, D: int) -> int:
        return held_rows_bound(self.n_components, D, 0)

    def rows_withheld(self, D: int) -> int:
        return mixture_rows_withheld(self.n_parameters(D))

    def reported(self, clusters: Clusters, moments: Moments | None, unit: Array) -> Array:
        """1/κ of each component, (K,)."""
        return clusters.covariances

    def merge_costs(self, moments: Moments, spread: Array) -> Array:
        """The log-likelihood lost where two components become one, in nats."""
        o = moments.objective
        lengths = np.linalg.norm(moments.mean, axis=1)
        total = o[:, None] + o
        united = directions.united_lengths(o, moments.mean)[1]
        united = united / np.where(total > 0, total, 1.0)
        own = self._heights(o, lengths, spread)
        return upper(own[:, None] + own - self._heights(total, united, spread))

    def move_costs(self, moments: Moments, spread: Array) -> Array:
        return directions.ward(moments.objective, moments.mean)

    def _heights(self, o: Array, lengths: Array, spread: Array) -> Array:
        """The log-likelihood of components under their own κ, in nats, in any shape."""
        kappas = self._concentrations(o, lengths, spread)
        return o * (log_normaliser(len(spread), kappas) - kappas * (1.0 - lengths))


def _clusters(weights: Array, means: Array, kappas: Array) -> Clusters:
    """Clusters whose factors make a Gaussian's log density that of the directions."""
    D = means.shape[1]
    precisions = np.repeat(np.sqrt(kappas)[:, None], D, axis=1)
    peaks = log_normaliser(D, kappas) + 0.5 * D * LOG_2PI
    return Clusters(weights, means, 1.0 / kappas, precisions, peaks)
