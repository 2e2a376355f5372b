"""The E-step shared by every model with a density: log-sum-exp over weighted Gaussians."""

import numpy as np

from stream_em.arrays import Array
from stream_em.kernels import kernels_in_use
from stream_em.models.covariance import Covariance
from stream_em.models.protocol import Clusters, Expectation, Reading


def expected(covariance: Covariance, clusters: Clusters, Z: Array) -> Expectation:
    """Posterior assignment of rows Z (n, D) under weighted Gaussians."""
    kernels = kernels_in_use()
    density = covariance.log_density(
        kernels, Z, clusters.means, clusters.precisions, clusters.log_dets
    )
    return assigned(density, kernels.nearest(Z, clusters.means)[1], clusters.weights)


def assigned(density: Array, distance: Array, weights: Array) -> Expectation:
    """Posterior assignment from log densities (n, K), given nearest squared distances (n,)."""
    kernels = kernels_in_use()
    log_joint = kernels.log_joint(density, weights)
    R, log_likelihood, entropy = kernels.posterior(log_joint)
    labels = log_joint.argmax(axis=1)
    nothing = np.zeros(len(density))
    return Expectation(R, labels, distance, log_joint, log_likelihood, entropy, nothing)


def assembled(covariance: Covariance, weights: Array, means: Array, covariances: Array) -> Reading:
    """Clusters with their factors, and the repairs the factors needed."""
    K, D = means.shape
    factors = covariance.factors(covariances, K, D)
    clusters = Clusters(weights, means, covariances, factors.precisions, factors.log_dets)
    return Reading(clusters, factors.interventions)
