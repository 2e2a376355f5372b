"""Configuration: TOML, environment and `--set` become the objects of a run.

A table is one constructor call: `kind` picks the callable, the other keys are its
keywords; names and defaults live in the constructors and nowhere else.
"""

from stream_em.config.plan import Examination, Finding, Plan, examine, load, merged

__all__ = ["Examination", "Finding", "Plan", "examine", "load", "merged"]
