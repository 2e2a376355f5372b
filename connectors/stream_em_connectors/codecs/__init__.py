"""Bytes to rows, and what happens to bad ones.

A codec turns a run of records into `Decoded`: columns of the rows it accepts, and a
`Flaw` for each record it does not. One bad record never takes another with it.
"""

from stream_em_connectors.codecs.table import Decoded, Fields, Flaw

__all__ = ["Decoded", "Fields", "Flaw"]
