"""What a checkpoint remembers of the settings, and what may change after rows are learned."""

import json
import logging
from collections.abc import Mapping, Sequence

from stream_em.checkpoints import Checkpoint
from stream_em.errors import SettingsChanged
from stream_em.models.kinds import describe
from stream_em.models.protocol import Model
from stream_em.streams import Json, Sink, Source

log = logging.getLogger(__name__)


def remembered(
    source: Source, features: Sequence[str], sinks: Sequence[Sink], decides: str | None
) -> Mapping[str, Json]:
    """The settings that a later run is compared with, as JSON.

    `decides` is who says that the checkpoint is true, None for the folder itself.
    """
    settings = {
        "source": identity(source),
        "features": list(features),
        "sinks": {sink.name: sink.kind for sink in sinks},
        "decides": decides,
    }
    plain: Mapping[str, Json] = json.loads(json.dumps(settings))
    return plain


def identity(source: Source) -> Mapping[str, Json]:
    """What makes two sources the same input: their kind and `identity()`, as JSON."""
    plain: Mapping[str, Json] = json.loads(json.dumps({"kind": source.kind, **source.identity()}))
    return plain


def decider(checkpoint: Checkpoint) -> str | None:
    """Who says that this checkpoint is true; None: being the newest is enough."""
    decides: str | None = checkpoint.settings.get("decides")
    return decides


def is_blank(checkpoint: Checkpoint) -> bool:
    """Whether nothing was learned or held yet: then every setting is free."""
    return checkpoint.state.total_events == 0


def same_source(checkpoint: Checkpoint, source: Source) -> bool:
    """Whether a checkpoint's positions speak of this source."""
    return bool(checkpoint.settings.get("source") == identity(source))


def compare(
    checkpoint: Checkpoint,
    name: str,
    model: Model,
    source: Source,
    accept_source_change: bool,
) -> None:
    """Refuse another model or source once rows are learned. Raises `SettingsChanged`.

    Features that a source names come first: no other source is accepted with others.
    """
    if checkpoint.model != model:
        was, now = describe(checkpoint.model), describe(model)
        raise SettingsChanged(
            f"the model is not the one of checkpoint {name}: {differences(was, now)}; take the "
            "old settings, another checkpoint folder, or start anew with --fresh (fresh=True)"
        )
    if (features := identity(source).get("features")) is not None:
        compare_features(checkpoint, name, features)
    if not same_source(checkpoint, source):
        what = differences(checkpoint.settings.get("source"), identity(source))
        if not accept_source_change:
            raise SettingsChanged(
                f"the source is not the one of checkpoint {name}: {what}; take the old settings, "
                "or give --accept-source-change (accept_source_change=True)"
            )
        log.warning("the source changed since checkpoint %s, as accepted: %s", name, what)


def compare_features(checkpoint: Checkpoint, name: str, features: Sequence[str]) -> None:
    """Refuse other features, or another order of them. Raises `SettingsChanged`."""
    before = checkpoint.settings.get("features")
    if before is not None and list(before) != list(features):
        raise SettingsChanged(
            f"the features are not those of checkpoint {name}: they were {list(before)}, now "
            f"{list(features)}; take the old ones in their order, or start anew with --fresh "
            "(fresh=True)"
        )


def differences(was: Json, now: Json, path: str = "") -> str:
    """Where two trees of settings differ, for people.

    >>> differences({"k": 2, "prior": {"a": 1}}, {"k": 3, "prior": {"a": 1}})
    'k was 2, now 3'
    """
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        names = [*was, *(name for name in now if name not in was)]
        found = [
            differences(was.get(name), now.get(name), f"{path}.{name}" if path else name)
            for name in names
            if was.get(name) != now.get(name)
        ]
        return "; ".join(found)
    return f"{path or 'it'} was {was!r}, now {now!r}"
