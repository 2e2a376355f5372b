"""Metrics: a catalogue as data, and one collector that reads one immutable snapshot."""
