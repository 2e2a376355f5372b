"""Codecs of single messages: each is one record, and nothing tells them apart but their ends.

A message codec has one method, `decode(records)`, which takes the messages of a run, none
of them empty, and gives `Decoded`. JSON needs nothing of its own here: `JsonCodec` decodes
record by record.
"""
