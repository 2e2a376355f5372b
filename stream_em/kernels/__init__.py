"""The arithmetic of one batch: `plain` defines what is right, `compiled` does it quickly."""

from types import ModuleType


def kernels_in_use() -> ModuleType:
    """The compiled kernels, imported when first needed so that importing the package is cheap."""
    from stream_em.kernels import compiled

    return compiled
