"""At home in scikit-learn: the three models as its estimators.

`fit` goes through finite data until nothing improves and answers as scikit-learn's own
classes do; `partial_fit` is the stream engine, with windows, half-lives, clusters that
move to where rows are, and a background that keeps outliers from them. Both go on from
each other. Parameters and fitted attributes have scikit-learn's names; `model_` and
`state_` are the values behind them, for `stream_em.k_curve`, `save` and all the rest.

It needs scikit-learn: `pip install "stream-em[sklearn]"`.
"""

try:
    import sklearn as _guest
except ModuleNotFoundError as missing:
    if missing.name != "sklearn":
        raise
    raise ImportError(
        "stream_em.sklearn speaks to scikit-learn, which is not installed; "
        'install both with: pip install "stream-em[sklearn]"'
    ) from None

from stream_em.sklearn.bridges import from_sklearn, to_sklearn
from stream_em.sklearn.clusterers import KMeans, SoftKMeans
from stream_em.sklearn.mixture import GaussianMixture

del _guest

__all__ = ["GaussianMixture", "KMeans", "SoftKMeans", "from_sklearn", "to_sklearn"]
