"""Every error stream-em raises, drawn as a tree.

::

    StreamEmError
    ├── SettingsError (ValueError)        a setting, a key or an option is wrong            exit 2
    ├── RowsError (ValueError)            rows handed to the library cannot be learned       exit 1
    │   └── ShapeMismatch                 other features than the model was started with
    ├── Unreachable (OSError)             an input or output cannot be opened at the start   exit 3
    ├── SavedStateError                   saved state and the world disagree                 exit 4
    │   ├── CheckpointDamaged             torn, flipped, emptied, or of another version
    │   ├── Locked                        another engine holds this folder or output
    │   ├── SettingsChanged               model, features or source differ from the checkpoint's
    │   ├── SourceChanged                 a file is not the one the positions speak of
    │   ├── RecordsGone                   records were deleted before they were read
    │   └── OutputChanged                 an output is not the one the checkpoint speaks of
    ├── RunFailed                         the run stopped; the last checkpoint holds     exit 1
    │   ├── TooManyRejects                more rejected records than `max_reject_ratio` allows
    │   ├── SinkFailed                    an output or the dead letters could not be written
    │   ├── SourceFailed                  an input could not be read any further
    │   ├── CheckpointFailed              three checkpoints in a row could not be written
    │   ├── PartitionsLost                partitions went to another engine before they were saved
    │   └── Undecided                     a transaction did not end as this process meant it to
    │       ├── Fenced                    another engine has taken over its transactions
    │       └── OutcomeUnknown            nobody can tell whether it was committed
    └── DrainTimeout                      the drain took longer than allowed           exit 5

    StreamEmWarning (UserWarning)         learning goes on, but not as asked

A message says what came, what was expected, and what to do next. `exit_code` is
what the command line returns when the error reaches it.
"""

from typing import ClassVar


class StreamEmError(Exception):
    """Root of all errors of this package; catch this to catch them all."""

    exit_code: ClassVar[int] = 1


class SettingsError(StreamEmError, ValueError):
    """A setting, a configuration key or a command-line option is wrong."""

    exit_code: ClassVar[int] = 2


class RowsError(StreamEmError, ValueError):
    """Rows, weights, times or labels that cannot be learned from."""


class ShapeMismatch(RowsError):
    """Rows with other features than the model was started with."""


class Unreachable(StreamEmError, OSError):
    """An input or output that cannot be opened when the run starts."""

    exit_code: ClassVar[int] = 3


class SavedStateError(StreamEmError):
    """Saved state and the world disagree, or another engine holds it."""

    exit_code: ClassVar[int] = 4


class CheckpointDamaged(SavedStateError):
    """A checkpoint that is torn, altered, empty or of an unknown version."""


class Locked(SavedStateError):
    """Another engine holds this checkpoint folder or output."""


class SettingsChanged(SavedStateError):
    """The checkpoint was written under settings that may not change."""


class SourceChanged(SavedStateError):
    """An input is not the one that the saved positions speak of."""


class RecordsGone(SavedStateError):
    """An input has deleted records before they were read."""


class OutputChanged(SavedStateError):
    """An output is not the one that the checkpoint speaks of."""


class RunFailed(StreamEmError):
    """The run stopped half way; the last checkpoint is still true."""


class TooManyRejects(RunFailed):
    """The share of rejected records passed `max_reject_ratio`."""


class SinkFailed(RunFailed):
    """An output or the dead letters could not be written."""


class SourceFailed(RunFailed):
    """An input could not be read any further."""


class CheckpointFailed(RunFailed):
    """Three checkpoints in a row could not be written."""


class PartitionsLost(RunFailed):
    """Partitions went to another engine before what was read of them could be saved."""


class Undecided(RunFailed):
    """A transaction did not end as meant: no abort, no checkpoint; a restart finds the truth."""


class Fenced(Undecided):
    """Another engine has taken over the transactions of this one."""


class OutcomeUnknown(Undecided):
    """Nobody can tell whether a transaction was committed."""


class DrainTimeout(StreamEmError):
    """Draining took longer than allowed; the saved state is still safe."""

    exit_code: ClassVar[int] = 5


class StreamEmWarning(UserWarning):
    """Learning goes on, but not exactly as asked: the message says how."""
