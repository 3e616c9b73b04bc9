"""What a check says: one line, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import UmedfeatError

__all__ = ["Finding", "State", "Wish", "failed", "shown"]

#: "fail": ``extract`` would not run. "note": it runs, and this is worth knowing.
State = Literal["ok", "note", "fail"]


@dataclass(frozen=True)
class Wish:
    """The job that the machine is examined for.

    Attributes:
        choice: the encoder and its devices.
        out: the feature file that would be written; its folder is tried, the file is not touched.
        id_key: file with the key for pseudonyms; None: the one that a run would take.
    """

    choice: EncoderChoice = field(default_factory=EncoderChoice)
    out: Path = Path("feats.h5")
    id_key: Path | None = None


@dataclass(frozen=True)
class Finding:
    """One line of the examination: what was looked at, what was seen, what to do. Free of secrets and user names."""

    name: str
    state: State
    seen: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def failed(name: str, error: UmedfeatError) -> Finding:
    """What an error of a run would be."""
    return Finding(name, "fail", _without_home(error.message), _without_home(error.remedy))


def shown(path: Path) -> str:
    """A path for a public report: the user's home, which is named after the user, as "~"."""
    return _without_home(str(path))


def _without_home(text: str) -> str:
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text
