"""Packages that a client needs and that may not be installed."""

from importlib.util import find_spec

from stream_em.errors import SettingsError

#: What kafka-python decompresses with: codec -> package on the index.
CODECS = {"snappy": "python-snappy", "lz4": "lz4", "zstd": "zstandard"}


def needed(module: str, package: str, client: str) -> None:
    """Raises `SettingsError` when a module is not there.

    >>> needed("no_such_module", "no-such-package", "sparrow")
    Traceback (most recent call last):
    ...
    stream_em.errors.SettingsError: client "sparrow" needs no-such-package, which is not \
installed; pip install no-such-package
    """
    if find_spec(module) is None:
        raise SettingsError(
            f'client "{client}" needs {package}, which is not installed; pip install {package}'
        )


def codec_advice(text: str) -> str:
    """What to install for a codec that is named in the message of an error.

    >>> codec_advice("Libraries for lz4 compression codec not found")
    'pip install lz4, or use client = "librdkafka"'
    """
    package = next((CODECS[codec] for codec in CODECS if codec in text.lower()), None)
    install = f"pip install {package}, or " if package else ""
    return f'{install}use client = "librdkafka"'
