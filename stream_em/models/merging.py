"""What merging two components costs: Runnalls' bound, in nats.

c_ij = ½[(o_i + o_j) ln|Σ_ij| - o_i ln|Σ_i| - o_j ln|Σ_j|], with weights o = N_obj and
Σ_ij the moment-preserving union (Runnalls, IEEE Trans. AES 43, 2007). All costs are
(K, K), +inf on and below the diagonal.
"""

import numpy as np

from stream_em.arrays import Array
from stream_em.kernels import kernels_in_use


def upper(costs: Array) -> Array:
    """The costs above the diagonal; +inf elsewhere."""
    return np.where(np.triu(np.ones(costs.shape, dtype=bool), 1), costs, np.inf)


def _shares(o: Array) -> tuple[Array, Array]:
    """Pairwise totals o_i + o_j and the share o_i/(o_i + o_j), (K, K)."""
    total = o[:, None] + o
    return total, o[:, None] / np.where(total > 0, total, 1.0)


def _bound(o: Array, union_log_dets: Array, log_dets: Array) -> Array:
    total = o[:, None] + o
    own = o * log_dets
    return upper(0.5 * (total * union_log_dets - own[:, None] - own))


def of_matrices(o: Array, means: Array, covariances: Array) -> Array:
    """Costs under full covariances (K, D, D)."""
    K = len(o)
    _, share = _shares(o)
    unions = np.zeros((K, K))
    for i in range(K):
        a, b = share[i, i + 1 :, None, None], share[i + 1 :, i, None, None]
        delta = means[i + 1 :] - means[i]
        outer = delta[:, :, None] * delta[:, None, :]
        unions[i, i + 1 :] = np.linalg.slogdet(
            a * covariances[i] + b * covariances[i + 1 :] + a * b * outer
        )[1]
    return _bound(o, unions, np.linalg.slogdet(covariances)[1])


def of_variances(o: Array, means: Array, variances: Array) -> Array:
    """Costs under diagonal covariances (K, D)."""
    _, share = _shares(o)
    a, b = share[:, :, None], share.T[:, :, None]
    delta = means[:, None, :] - means
    union = a * variances[:, None, :] + b * variances + a * b * np.square(delta)
    return _bound(o, _log(union).sum(axis=2), _log(variances).sum(axis=1))


def of_one_matrix(o: Array, means: Array, covariance: Array) -> Array:
    """Costs under one tied covariance (D, D): ½W ln(1 + o_i o_j/((o_i+o_j) W)·δᵀΣ⁻¹δ)."""
    total, share = _shares(o)
    weight = max(float(o.sum()), 1e-300)
    delta = means[:, None, :] - means
    distance = np.einsum("ijd,ijd->ij", delta @ np.linalg.pinv(covariance), delta)
    return upper(0.5 * weight * np.log1p(share * share.T * total / weight * distance))


def of_fixed_variance(o: Array, means: Array, variance: float) -> Array:
    """Costs under σ²I that is not learned: Ward's cost over 2σ²."""
    return kernels_in_use().ward(o, means) / (2 * variance)


def _log(values: Array) -> Array:
    return np.log(np.maximum(values, 1e-300))
