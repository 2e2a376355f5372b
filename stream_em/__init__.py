"""stream-em: streaming clustering.

A tally of rows, made under fixed clusters, merges in any order; learning fades the old
tally, merges the new one, and reads the clusters off the result.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_em.checkpoints import load as load
    from stream_em.checkpoints import save as save
    from stream_em.engine import run as run
    from stream_em.errors import StreamEmError as StreamEmError
    from stream_em.errors import StreamEmWarning as StreamEmWarning
    from stream_em.forgetting import EventTimeHalfLife as EventTimeHalfLife
    from stream_em.forgetting import HalfLife as HalfLife
    from stream_em.forgetting import KeepAll as KeepAll
    from stream_em.forgetting import KeepNothing as KeepNothing
    from stream_em.forgetting import PowerWindow as PowerWindow
    from stream_em.kcurve import k_curve as k_curve
    from stream_em.learning import finish as finish
    from stream_em.learning import init as init
    from stream_em.learning import learn as learn
    from stream_em.learning import step as step
    from stream_em.learning import tally as tally
    from stream_em.models.covariance import Diagonal as Diagonal
    from stream_em.models.covariance import Full as Full
    from stream_em.models.covariance import Isotropic as Isotropic
    from stream_em.models.covariance import Spherical as Spherical
    from stream_em.models.covariance import Tied as Tied
    from stream_em.models.gaussian import GaussianMixture as GaussianMixture
    from stream_em.models.kmeans import KMeans as KMeans
    from stream_em.models.settings import Annealing as Annealing
    from stream_em.models.settings import Background as Background
    from stream_em.models.settings import Learn as Learn
    from stream_em.models.settings import Prior as Prior
    from stream_em.models.settings import Restructuring as Restructuring
    from stream_em.models.settings import Seeding as Seeding
    from stream_em.models.settings import Standardise as Standardise
    from stream_em.models.soft_kmeans import SoftKMeans as SoftKMeans
    from stream_em.models.spherical_kmeans import SphericalKMeans as SphericalKMeans
    from stream_em.models.student import StudentMixture as StudentMixture
    from stream_em.models.von_mises_fisher import VonMisesFisher as VonMisesFisher
    from stream_em.reading import clusters as clusters
    from stream_em.reading import score as score
    from stream_em.replaying import Chunk as Chunk
    from stream_em.replaying import Incremental as Incremental
    from stream_em.replaying import VarianceReduced as VarianceReduced
    from stream_em.replaying import replay as replay
    from stream_em.selection import merge as merge
    from stream_em.stores import DirectoryStore as DirectoryStore

_ROOMS = {
    "checkpoints": ("load", "save"),
    "engine": ("run",),
    "errors": ("StreamEmError", "StreamEmWarning"),
    "forgetting": ("EventTimeHalfLife", "HalfLife", "KeepAll", "KeepNothing", "PowerWindow"),
    "kcurve": ("k_curve",),
    "learning": ("finish", "init", "learn", "step", "tally"),
    "models.covariance": ("Diagonal", "Full", "Isotropic", "Spherical", "Tied"),
    "models.gaussian": ("GaussianMixture",),
    "models.kmeans": ("KMeans",),
    "models.settings": (
        "Annealing",
        "Background",
        "Learn",
        "Prior",
        "Restructuring",
        "Seeding",
        "Standardise",
    ),
    "models.soft_kmeans": ("SoftKMeans",),
    "models.spherical_kmeans": ("SphericalKMeans",),
    "models.student": ("StudentMixture",),
    "models.von_mises_fisher": ("VonMisesFisher",),
    "reading": ("clusters", "score"),
    "replaying": ("Chunk", "Incremental", "VarianceReduced", "replay"),
    "selection": ("merge",),
    "stores": ("DirectoryStore",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)  # pyright: ignore[reportUnsupportedDunderAll]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"stream_em has no {name!r}; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(f"stream_em.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
