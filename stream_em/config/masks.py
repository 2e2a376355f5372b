"""Secrets are recognised by their keys, and shown nowhere."""

from collections.abc import Iterator, Mapping
from typing import Any

MASK = "********"
SECRETS = ("password", "passphrase", "secret", "token", "secret_key", "private_key", "api_key")


def is_secret(key: str) -> bool:
    """Whether the value of a key must not be shown.

    >>> is_secret("sasl_password"), is_secret("password_file"), is_secret("key")
    (True, False, False)
    """
    return key.lower().endswith(SECRETS)


def masked(value: Any) -> Any:
    """Plain values with every secret replaced.

    >>> masked({"security": [{"token": "hush", "username": "me"}]})
    {'security': [{'token': '********', 'username': 'me'}]}
    """
    if isinstance(value, Mapping):
        return {k: MASK if is_secret(k) else masked(item) for k, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value


def without_secrets(message: str, value: Any) -> str:
    """A message without any of the secrets among the plain values.

    >>> without_secrets("password is 'hush', expected ...", {"password": "hush"})
    'password is ********, expected ...'
    """
    for secret in _secrets(value):
        message = message.replace(repr(secret), MASK)
    return message


def _secrets(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if is_secret(key) and item != "":
                yield item
            yield from _secrets(item)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item)
