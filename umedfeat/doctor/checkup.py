"""The examination: every check in turn, whatever the one before it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from umedfeat.doctor import device, key, limits, place, program, trial, weights
from umedfeat.doctor.finding import Finding, Wish
from umedfeat.naming import printable

__all__ = ["Checkup", "examine"]

Check = Callable[[Wish], Iterable[Finding]]

#: In the order of the report; the trial comes last, because it needs all the others.
_CHECKS: tuple[Check, ...] = (
    program.python,
    program.packages,
    device.torch_build,
    device.driver,
    device.devices,
    program.openslide,
    program.codecs,
    weights.encoder,
    weights.cache,
    key.key,
    place.disks,
    place.shared_memory,
    place.output_folder,
    limits.cores,
    limits.memory,
    limits.slurm,
    limits.ray,
    trial.trial,
)
_MARKS = {"ok": "✓", "note": "!", "fail": "✗"}


@dataclass(frozen=True)
class Checkup:
    """What the examination found, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Would the main job run?"""
        return all(finding.state != "fail" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {"sound": self.sound, "findings": [finding.to_dict() for finding in self.findings]}

    def to_text(self) -> str:
        """For people: a line each, remedies below."""
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{_MARKS[finding.state]} {finding.name.ljust(width)}  {printable(finding.seen)}")
            if finding.remedy:
                lines.append(f"  {' ' * width}  → {printable(finding.remedy)}")
        return "\n".join([*lines, "", "extract runs here" if self.sound else "extract would fail here"])


def examine(wish: Wish, checks: Sequence[Check] = _CHECKS) -> Checkup:
    """Examine this machine for a job; nothing is fetched, no key is made, and what is written is removed.

    Args:
        wish: the encoder, its devices, and where the output would go.
        checks: what to look at.
    """
    return Checkup(tuple(finding for check in checks for finding in _asked(check, wish)))


def _asked(check: Check, wish: Wish) -> list[Finding]:
    """A check that fails itself is a finding: the machine is odder than was foreseen, and the others still count."""
    try:
        return list(check(wish))
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises
        seen = f"could not be looked at ({type(error).__name__}: {str(error)[:200]})"
        return [Finding(check.__name__.replace("_", " "), "fail", seen, "please report this line")]
