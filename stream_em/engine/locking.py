"""Keeping other engines out, or displacing one that holds on."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from stream_em.errors import Locked
from stream_em.stores import Store

log = logging.getLogger(__name__)


@contextmanager
def locked(store: Store | None, take_over: bool) -> Iterator[None]:
    """Hold the store's lock. Raises `Locked` when another engine has it.

    With `take_over` the other one is passed over: its transactions are fenced before it can
    commit anything more, and nothing but transactions makes its checkpoints true.
    """
    with ExitStack() as held:
        if store is not None:
            try:
                held.enter_context(store.lock())
            except Locked as error:
                if not take_over:
                    raise
                log.warning("taking over: %s", error)
        yield
