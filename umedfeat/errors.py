"""What can go wrong, and how the command says it.

::

    UmedfeatError                 message + remedy; never shown as a traceback
    ├── SetupError                usage or set-up: nothing was done                  exit 2
    │   ├── WeightsUnavailable    weights cannot be found or fetched
    │   ├── CheckpointRefused     a weights file is unsafe, damaged or unknown
    │   ├── OutputError           the output cannot be written, is locked, or holds other settings
    │   │   └── DiskError         the disk reports an error: what is there says nothing about what was written
    │   └── CohortError           labels and features do not make a study
    ├── InputError                one input; the run goes on, the failure is recorded exit 1
    │   ├── UnreadableInput       damaged, truncated, or not what it claims to be
    │   ├── UnsupportedInput      sound, but nothing here decodes it (a missing codec, complex voxels)
    │   ├── ScaleError            no micrometres per pixel, or absurd ones
    │   ├── EmptyImage            constant or nothing but padding: no features can mean anything
    │   ├── NotFinite             the encoder gave NaN, infinity, or values that the file's dtype cannot hold
    │   ├── TooLarge              above a limit the user can raise
    │   └── WorkerDied            the process that read it was killed or crashed in a codec
    ├── LeakageError              the study would test on what it trained on          exit 3
    ├── NotPlanned                a reader was asked for pixels before its plan        a caller's mistake
    ├── StoppedAtFailure          an input failed under --on-error stop               exit 1
    └── Interrupted               Ctrl-C or SIGTERM, finished cleanly                 exit 130

Every message is one line and names the file, the value and what is wrong with it; ``remedy`` says what to do.
"""

from __future__ import annotations

__all__ = [
    "CheckpointRefused",
    "CohortError",
    "DiskError",
    "EmptyImage",
    "InputError",
    "Interrupted",
    "LeakageError",
    "NotFinite",
    "NotPlanned",
    "OutputError",
    "ScaleError",
    "SetupError",
    "StoppedAtFailure",
    "TooLarge",
    "UmedfeatError",
    "UnreadableInput",
    "UnsupportedInput",
    "WeightsUnavailable",
    "WorkerDied",
]


class UmedfeatError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: one line that names the file, the value and the fault.
        remedy: one line that says what the user can do; may be empty.
    """

    exit_code = 2

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only remedy must survive the trip between processes
        return _rebuild, (type(self), self.message, self.remedy)


def _rebuild(kind: type[UmedfeatError], message: str, remedy: str) -> UmedfeatError:
    return kind(message, remedy=remedy)


class SetupError(UmedfeatError):
    """Wrong options or a missing precondition; nothing was done."""


class WeightsUnavailable(SetupError):
    """The weights of an encoder cannot be found or fetched."""


class CheckpointRefused(SetupError):
    """A weights file is unsafe, damaged, or of an unknown kind. Nothing in it was executed."""


class OutputError(SetupError):
    """The output cannot be written, is locked by another process, or holds features of other settings."""


class DiskError(OutputError):
    """The disk reports an error while a feature file is read: the file may be whole, and is not called damaged."""


class CohortError(SetupError):
    """Labels and features do not make a study (unmatched rows, one class, too few patients …)."""


class InputError(UmedfeatError):
    """One input cannot be embedded. Isolated by the pipeline and recorded; the run goes on."""

    exit_code = 1


class UnreadableInput(InputError):
    """The file is damaged, truncated, or not what it claims to be."""


class UnsupportedInput(InputError):
    """The file is sound but nothing here decodes it."""


class ScaleError(InputError):
    """A slide has no micrometres per pixel, or absurd ones, or would have to be upsampled."""


class EmptyImage(InputError):
    """Constant or nothing but padding."""


class NotFinite(InputError):
    """The encoder gave NaN, infinity, or a value that the file's dtype cannot hold."""


class TooLarge(InputError):
    """Above a limit that the user can raise."""


class WorkerDied(InputError):
    """The process that read this input was killed, ran out of memory, or crashed inside a codec."""


class LeakageError(UmedfeatError):
    """A patient or an identical image would stand on both sides of a split, or a sanity check failed."""

    exit_code = 3


class NotPlanned(UmedfeatError):
    """A reader was asked for pixels before its plan was made or given to it: a mistake of the calling program."""


class StoppedAtFailure(UmedfeatError):
    """An input failed, and the run was to end at the first failure; finished inputs are safe."""

    exit_code = 1


class Interrupted(UmedfeatError):
    """Stopped by Ctrl-C or SIGTERM after the current segment was made safe."""

    exit_code = 130
