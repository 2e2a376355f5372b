"""`missing = "learn"` is said once, of the source, and holds for the model as well."""

import typing

from stream_em.config.layers import Leaf, Tree
from stream_em.models.kinds import MODELS, kind_of
from stream_em.models.settings import Learn


def missing_agreed(tree: Tree) -> Tree:
    """The tree in which the model learns missing values because its source lets them through.

    What the model says itself stays, and a kind that cannot learn them is left alone.

    >>> source = {"missing": Leaf("learn", "a.toml:2")}
    >>> tree = missing_agreed({"source": source, "model": {"kind": Leaf("kmeans", "a.toml:4")}})
    >>> tree["model"]["missing"]
    Leaf(value='learn', origin='source.missing (a.toml:2)')
    """
    source, model = tree.get("source"), tree.get("model")
    if not isinstance(source, dict) or not isinstance(model, dict) or "missing" in model:
        return tree
    said, kind = source.get("missing"), model.get("kind")
    if not isinstance(said, Leaf) or said.value != "learn":
        return tree
    if not isinstance(kind, Leaf) or not _can_learn(kind.value):
        return tree
    agreed = Leaf("learn", f"source.missing ({said.origin})")
    return {**tree, "model": {**model, "missing": agreed}}


def _can_learn(kind: object) -> bool:
    found = [cls for cls in MODELS if kind_of(cls) == kind]
    return any(Learn in typing.get_args(typing.get_type_hints(cls)["missing"]) for cls in found)
