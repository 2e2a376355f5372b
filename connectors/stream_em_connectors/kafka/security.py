"""How a client proves who it is, and how it knows the brokers: `[source.security]`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from os import environ
from pathlib import Path
from typing import Any, final

from stream_em.errors import SettingsError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
TEXTS = ("protocol", "mechanism", "username", "ca_file", "certificate_file", "key_file")
SECRETS = ("password", "key_password")
KEYS = (*TEXTS, *SECRETS, *(f"{secret}_file" for secret in SECRETS), "check_hostname")
_REFERENCE = re.compile(r"\$\{(\w+)\}")


@final
@dataclass(frozen=True)
class Security:
    """What it takes to connect; its `repr` tells no secret.

    >>> Security("SASL_SSL", "PLAIN", "ada", "lovelace").tls
    True
    >>> "lovelace" in repr(Security("SASL_SSL", "PLAIN", "ada", "lovelace"))
    False
    """

    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None  # PEM; None trusts what the system trusts
    certificate_file: str | None = None  # PEM, of this client
    key_file: str | None = None  # PEM, of this client
    key_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol.endswith("SSL")

    @property
    def sasl(self) -> bool:
        """Whether user and password are asked for."""
        return self.protocol.startswith("SASL_")


def secured(table: Mapping[str, Any] | Security | None) -> Security:
    """A table of settings, checked, its secrets read; a record is handed back as it is.

    `password` and `key_password` may be `"${NAME}"`, an environment variable, or stand in
    the files `password_file` and `key_password_file`, a newline at the end left away.
    Raises `SettingsError`.

    >>> secured({"protocol": "SSL", "ca_file": __file__}).check_hostname
    True
    >>> secured({"protocl": "SSL"})
    Traceback (most recent call last):
    ...
    stream_em.errors.SettingsError: security has no key 'protocl'; did you mean 'protocol'?
    """
    if isinstance(table, Security):
        return table
    given = dict(table or {})
    for key in given:
        if key not in KEYS:
            raise SettingsError(f"security has no key {key!r}; {_hint(key, KEYS)}")
    texts = {key: _text(given, key) for key in TEXTS if key in given}
    secrets = {key: secret for key in SECRETS if (secret := _secret(given, key)) is not None}
    check_hostname = given.get("check_hostname", True)
    if not isinstance(check_hostname, bool):
        raise SettingsError("security.check_hostname is not a boolean; write true or false")
    made = Security(**texts, **secrets, check_hostname=check_hostname)
    _check(made)
    return made


def _hint(word: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given[key]
    if not isinstance(value, str) or not value:
        # The value is not repeated: it may be a secret under the wrong key.
        raise SettingsError(f'security.{key} is not a text; write {key} = "..."')
    return value


def _secret(given: Mapping[str, Any], key: str) -> str | None:
    place = f"{key}_file"
    if key in given and place in given:
        raise SettingsError(f"security has both {key} and {place}; keep {place}")
    if place in given:
        return _content(_text(given, place), f"security.{place}")
    if key not in given:
        return None
    text = _text(given, key)
    reference = _REFERENCE.fullmatch(text)
    if reference is None:
        return text
    if reference[1] not in environ:
        raise SettingsError(
            f"security.{key} refers to the environment variable {reference[1]}, which is not "
            f"set; set it, or use {place}"
        )
    return environ[reference[1]]


def _content(path: str, key: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{key} {path} cannot be read: {_reason(error)}") from None
    return text.removesuffix("\n").removesuffix("\r")


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8 text"


def _check(made: Security) -> None:
    if made.protocol not in PROTOCOLS:
        hint = _hint(made.protocol.upper(), PROTOCOLS)
        raise SettingsError(f"security.protocol is {made.protocol!r}; {hint}")
    if made.sasl:
        _check_sasl(made)
    elif made.mechanism or made.username or made.password:
        raise SettingsError(
            f"security names credentials, but protocol {made.protocol} asks for none; "
            'write protocol = "SASL_SSL"'
        )
    files = ("ca_file", "certificate_file", "key_file")
    named = {key: path for key in files if (path := getattr(made, key)) is not None}
    if named and not made.tls:
        raise SettingsError(
            f"security names {', '.join(named)}, but protocol {made.protocol} does not "
            'encrypt; write protocol = "SSL" or "SASL_SSL"'
        )
    for key, path in named.items():
        _content(path, f"security.{key}")
    if (made.certificate_file is None) != (made.key_file is None):
        raise SettingsError("security needs certificate_file and key_file together, or neither")


def _check_sasl(made: Security) -> None:
    if made.mechanism is None:
        raise SettingsError(
            f"security.protocol {made.protocol} needs a mechanism: one of {', '.join(MECHANISMS)}"
        )
    if made.mechanism not in MECHANISMS:
        hint = _hint(made.mechanism.upper(), MECHANISMS)
        raise SettingsError(f"security.mechanism is {made.mechanism!r}; {hint}")
    if made.username is None or made.password is None:
        raise SettingsError(
            f"security.mechanism {made.mechanism} needs username and password; write the password "
            "to a file and name it in password_file"
        )
