"""What a sink promises for the time after a crash: the words of `delivery = "..."`."""

from difflib import get_close_matches

from stream_em.errors import SettingsError

EXACTLY_ONCE, AT_LEAST_ONCE = "exactly-once", "at-least-once"


def promised(delivery: str) -> bool:
    """Whether `delivery` asks for exactly once. Raises `SettingsError` for another word.

    >>> promised("exactly-once"), promised("at-least-once")
    (True, False)
    """
    if delivery not in (EXACTLY_ONCE, AT_LEAST_ONCE):
        close = get_close_matches(str(delivery), (EXACTLY_ONCE, AT_LEAST_ONCE), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "choose one of these"
        raise SettingsError(
            f"delivery is {delivery!r}, expected {EXACTLY_ONCE!r} or {AT_LEAST_ONCE!r}; {hint}"
        )
    return delivery == EXACTLY_ONCE
