"""Fitted estimators across: scikit-learn's as ours, to go on with a stream, and ours as theirs."""

import warnings
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
import sklearn.cluster
import sklearn.mixture
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from stream_em.arrays import Array, altered
from stream_em.errors import SettingsError
from stream_em.learning import init
from stream_em.models.protocol import Clusters, Model
from stream_em.moments import DiagonalScatter, Moments, Scatter
from stream_em.reading import clusters
from stream_em.sklearn.clusterers import KMeans, SoftKMeans
from stream_em.sklearn.estimator import Learner
from stream_em.sklearn.fitting import Seen, resumed
from stream_em.sklearn.mixture import GaussianMixture
from stream_em.sklearn.shapes import shape_of
from stream_em.state import Frame, Identity, State

EDGE = 4.0  # standard deviations about a mean, the range that its rows are taken to have
STARTS = ("weights_init", "means_init", "precisions_init")
COLUMNS = ("n_features_in_", "feature_names_in_")


class Given(NamedTuple):
    """The covariances of a mixture, and the factors that scikit-learn scores with."""

    covariances: Array  # in the shape of their type
    factors: Array  # P_k with inv(cov_k) = P_k P_kᵀ, (K, D, D) or (K, D)


@singledispatch
def from_sklearn(estimator: Any, rows: float | None = None, **parameters: Any) -> Any:
    """A fitted estimator of scikit-learn as one of ours, with the same clusters.

    It takes `KMeans`, `MiniBatchKMeans` and `GaussianMixture`. The result scores as the
    estimator does and goes on with `partial_fit`, in which the clusters count for as many
    rows as were fitted, or for `rows`. scikit-learn's mixture does not tell how many they
    were: without `rows` it counts for the smallest window of a stream, five rows for each
    free parameter. `parameters` are those of our constructor, such as `forgetting`; they
    may not ask for another number or kind of clusters than there are.
    Raises `NotFittedError` for an estimator without clusters.

    >>> import numpy as np, sklearn.cluster
    >>> theirs = sklearn.cluster.KMeans(2, random_state=0).fit([[0.0], [2.0], [10.0], [12.0]])
    >>> ours = from_sklearn(theirs).partial_fit([[1.0], [11.0]])
    >>> sorted(ours.cluster_centers_.ravel().tolist())
    [1.0, 11.0]
    """
    raise TypeError(
        f"from_sklearn came with a {type(estimator).__name__}, expected scikit-learn's KMeans, "
        "MiniBatchKMeans or GaussianMixture"
    )


@from_sklearn.register(sklearn.cluster.KMeans)
@from_sklearn.register(sklearn.cluster.MiniBatchKMeans)
def _(estimator: Any, rows: float | None = None, **parameters: Any) -> KMeans:
    check_is_fitted(estimator)
    K = len(estimator.cluster_centers_)
    _check_agreed(parameters, {"n_clusters": K})
    names = ("init", "n_init", "max_iter", "tol", "random_state")
    given = {name: getattr(estimator, name) for name in names}
    ours = KMeans(**{"n_clusters": K, **given, **parameters})
    labels = np.asarray(getattr(estimator, "labels_", np.zeros(0, dtype=np.int64)))
    counts = getattr(estimator, "_counts", None)
    N = np.bincount(labels, minlength=K) if counts is None else counts
    N = _scaled(np.asarray(N, dtype=np.float64), rows)
    means = np.array(estimator.cluster_centers_, dtype=np.float64)
    distance = _mean_distance(vars(estimator), len(labels), means)
    variances = np.full(means.shape, distance / means.shape[1])
    scatter = DiagonalScatter(N[:, None] * variances)
    _plant(ours, estimator, _tallied(N, means, scatter), variances, None, distance)
    ours.labels_ = labels.astype(np.int64)
    ours.inertia_ = float(vars(estimator).get("inertia_", np.nan))
    return ours


@from_sklearn.register(sklearn.mixture.GaussianMixture)
def _(estimator: Any, rows: float | None = None, **parameters: Any) -> GaussianMixture:
    check_is_fitted(estimator)
    names = ("covariance_type", "tol", "max_iter", "n_init", "random_state", *STARTS)
    given = {name: getattr(estimator, name) for name in names}
    K, D = estimator.means_.shape
    _check_agreed(parameters, {"n_components": K, "covariance_type": estimator.covariance_type})
    plain = {"n_components": K, "reg_covar": estimator.reg_covar}
    ours = GaussianMixture(**{**plain, **given, **parameters})
    shape, model = shape_of(ours.covariance_type), ours._settings()
    weights = np.array(estimator.weights_, dtype=np.float64)
    N = weights * (model.smallest_window(D) if rows is None else _positive(rows))
    covariances = np.array(estimator.covariances_, dtype=np.float64)
    variances = shape.variances(covariances, K, D)
    held = _tallied(
        N, np.array(estimator.means_, dtype=np.float64), shape.scatter(covariances, N, D)
    )
    distance = float(weights @ variances.sum(axis=1))
    factors = shape.factors(estimator.precisions_cholesky_, K, D)
    _plant(ours, estimator, held, variances, Given(covariances, factors), distance)
    ours.converged_ = bool(estimator.converged_)
    ours.lower_bound_ = float(estimator.lower_bound_)
    ours.lower_bounds_ = [float(bound) for bound in getattr(estimator, "lower_bounds_", [])]
    return ours


def _check_agreed(parameters: dict[str, Any], fitted: dict[str, Any]) -> None:
    for name, value in fitted.items():
        if name in parameters and parameters[name] != value:
            raise SettingsError(
                f"{name} is {parameters[name]!r}, but the fitted estimator has {value!r}, and "
                "its clusters come over as they are; leave it out"
            )


def _mean_distance(fitted: dict[str, Any], n: int, means: Array) -> float:
    """The mean squared distance to the nearest mean of n labelled rows.

    Without labels it is what mini-batches averaged or, where they told nothing, that of rows
    half way to the next mean.
    """
    if n:
        return float(fitted["inertia_"]) / n
    if "_ewa_inertia" in fitted:
        return float(fitted["_ewa_inertia"])
    if len(means) == 1:
        return 0.0
    gaps = np.square(means[:, None] - means).sum(axis=2)
    np.fill_diagonal(gaps, np.inf)
    return float(gaps.min(axis=1).mean()) / 4


def _scaled(N: Array, rows: float | None) -> Array:
    """Counts (K,) that sum to `rows`; those of no rows at all count once each."""
    total = N.sum()
    if total <= 0:
        N, total = np.ones(len(N)), float(len(N))
    return N if rows is None else N * (_positive(rows) / total)


def _positive(rows: float) -> float:
    if not (np.isfinite(rows) and rows > 0):
        raise SettingsError(f"rows is {rows!r}, expected a number > 0, or None")
    return float(rows)


def _tallied(N: Array, means: Array, scatter: Scatter) -> Moments:
    return Moments(N, N, N, means, scatter)


def _plant(
    ours: Learner,
    theirs: Any,
    held: Moments,
    variances: Array,
    given: Given | None,
    distance: float,
) -> None:
    """Give `ours` the clusters of `theirs`, with a tally in the rows' units to go on from."""
    model = ours._settings()
    state = _state(model, ours._seeds()[0], held, variances, given)
    total = float(held.step.sum())
    reach = EDGE * np.sqrt(variances)
    edges = np.concatenate([held.mean - reach, held.mean + reach])
    count = max(round(total), 1)
    ours.model_ = model
    ours.state_ = resumed(model, state, Seen(count, count, total, distance), edges)
    ours.n_iter_, ours.n_steps_ = int(vars(theirs).get("n_iter_", 0)), 0
    ours.converged_ = 0 < ours.n_iter_ < theirs.max_iter
    for name in COLUMNS:
        if name in vars(theirs):
            setattr(ours, name, getattr(theirs, name))
    ours._publish(clusters(model, ours.state_))


def _state(model: Model, seed: int, held: Moments, variances: Array, given: Given | None) -> State:
    """A state whose clusters and tally are given, about the mean of all its rows."""
    K, D = held.mean.shape
    total = held.step.sum()
    weights = held.step / total
    frame = Frame(weights @ held.mean, np.ones(D))
    held = altered(held, mean=frame.inward(held.mean))
    v = weights @ (variances + np.square(held.mean))
    whole = np.array([total])
    if given is None:
        found = model.start(held, v)
    else:
        diagonals = given.factors if given.factors.ndim == 2 else given.factors.diagonal(0, 1, 2)
        log_dets = np.log(diagonals).sum(axis=1)
        found = Clusters(weights, held.mean, given.covariances, given.factors, log_dets)
    return altered(
        init(model, seed),
        frame=frame,
        clusters=found,
        identity=Identity(np.arange(K), np.arange(K), K),
        moments=held,
        spread=Moments(whole, whole, whole, np.zeros((1, D)), DiagonalScatter(total * v[None])),
    )


@singledispatch
def to_sklearn(estimator: Any) -> Any:
    """A fitted estimator of ours as scikit-learn's own, with the same clusters and scores.

    `KMeans` becomes its `KMeans`; `GaussianMixture` its `GaussianMixture`, and `SoftKMeans`
    one of spherical components of equal weights, which is what it is. Raises
    `NotFittedError` for an estimator without clusters.

    >>> ours = KMeans(n_clusters=2, random_state=0).fit([[0.0], [2.0], [10.0], [12.0]])
    >>> theirs = to_sklearn(ours)
    >>> type(theirs).__module__.split(".")[0], theirs.score([[1.0], [12.0]])
    ('sklearn', -1.0)
    """
    raise TypeError(
        f"to_sklearn came with a {type(estimator).__name__}, expected KMeans, SoftKMeans or "
        "GaussianMixture of stream_em.sklearn"
    )


@to_sklearn.register
def _(estimator: KMeans) -> Any:
    check_is_fitted(estimator)
    centres = np.array(estimator.cluster_centers_)
    names = ("max_iter", "tol", "random_state")
    given = {name: getattr(estimator, name) for name in names}
    theirs = sklearn.cluster.KMeans(len(centres), init=centres, n_init=1, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # centres may coincide
        theirs.fit(centres)
    theirs.set_params(init="k-means++", n_init=estimator.n_init)
    theirs.cluster_centers_ = centres
    theirs.labels_ = estimator.labels_.astype(np.int32)
    theirs.inertia_, theirs.n_iter_ = estimator.inertia_, estimator.n_iter_
    return _named(estimator, theirs)


@to_sklearn.register
def _(estimator: GaussianMixture) -> Any:
    check_is_fitted(estimator)
    given = {name: getattr(estimator, name) for name in STARTS}
    shape, weights = estimator._shape().name, estimator.weights_
    theirs = _mixture(estimator, shape, weights, estimator.means_, given)
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        setattr(theirs, name, np.array(getattr(estimator, name)))
    return theirs


@to_sklearn.register
def _(estimator: SoftKMeans) -> Any:
    check_is_fitted(estimator)
    K = len(estimator.cluster_centers_)
    theirs = _mixture(estimator, "spherical", np.full(K, 1 / K), estimator.cluster_centers_, {})
    theirs.covariances_ = np.full(K, 1 / (2 * estimator.beta_))
    theirs.precisions_ = np.full(K, 2 * estimator.beta_)
    theirs.precisions_cholesky_ = np.sqrt(theirs.precisions_)
    return theirs


def _mixture(ours: Any, shape: str, weights: Array, means: Array, given: dict[str, Any]) -> Any:
    """scikit-learn's mixture with all but its covariances."""
    names = ("tol", "max_iter", "random_state")
    given = {name: getattr(ours, name) for name in names} | given
    theirs = sklearn.mixture.GaussianMixture(len(means), covariance_type=shape, **given)
    theirs.weights_, theirs.means_ = np.array(weights), np.array(means)
    theirs.n_iter_, theirs.converged_ = ours.n_iter_, ours.converged_
    theirs.lower_bound_ = ours.lower_bound_
    theirs.lower_bounds_ = list(vars(ours).get("lower_bounds_", []))
    return _named(ours, theirs)


def _named(ours: Any, theirs: Any) -> Any:
    """`theirs` with the columns of `ours`."""
    for name in COLUMNS:
        if name in vars(ours):
            setattr(theirs, name, getattr(ours, name))
    return theirs
