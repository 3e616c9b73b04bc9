"""What a training says of itself: losses, held-out scores, health; kept in the checkpoint, written as CSV."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

from umedfeat.naming import write_csv
from umedfeat.pretraining.guards import Health
from umedfeat.pretraining.trainer import Round

__all__ = ["Journal"]

_WINDOWS = 200  # rows of losses over a run, about


class Journal:
    """Collects rounds to windows, and looks at the held-out images.

    Attributes:
        losses: rows of round, seconds, rate, size, waited and every task's mean loss over a window of rounds.
        looks: rows of round, seconds, dead, cosine and every task's held-out score.
    """

    def __init__(self, text: str = "") -> None:
        kept: dict[str, Any] = json.loads(text) if text else {}
        self.losses: list[dict[str, float]] = kept.get("losses", [])
        self.looks: list[dict[str, Any]] = kept.get("looks", [])
        self._window: list[Round] = []
        self._closed_at = float(kept.get("closed_at", 0.0))

    def to_json(self) -> str:
        """For the checkpoint."""
        return json.dumps({"losses": self.losses, "looks": self.looks, "closed_at": self._closed_at})

    def saw(self, done: Round, share: float, seconds: float) -> None:
        """Note a round; ``share``: how far the run is."""
        self._window.append(done)
        if share - self._closed_at >= 1 / _WINDOWS or share >= 1:
            self._closed_at = share
            self.losses.append(_window_row(self._window, seconds))
            self._window = []

    def looked(self, number: int, seconds: float, health: Health, scores: dict[str, float]) -> None:
        """Note a look at the held-out images."""
        self.looks.append({"round": number, "seconds": seconds, **health._asdict(), "scores": scores})

    def write(self, folder: Path) -> None:
        """``log.csv`` and ``scores.csv``."""
        _write_rows(folder / "log.csv", self.losses)
        _write_rows(folder / "scores.csv", [_flat(look) for look in self.looks])


def _window_row(window: list[Round], seconds: float) -> dict[str, float]:
    last = window[-1]
    row: dict[str, float] = {"round": last.number, "seconds": round(seconds, 1), "rate": last.rate, "size": last.size}
    row["rounds_per_second"] = len(window) / max(1e-9, sum(each.seconds for each in window))
    row["waited"] = sum(each.waited for each in window) / max(1e-9, sum(each.seconds for each in window))
    for name in last.losses:
        values = [each.losses[name] for each in window if each.losses[name] - each.losses[name] == 0]
        row[f"loss {name}"] = sum(values) / len(values) if values else float("nan")
    return row


def _flat(look: dict[str, Any]) -> dict[str, Any]:
    scores = {f"score {name}": value for name, value in look["scores"].items()}
    return {**{key: value for key, value in look.items() if key != "scores"}, **scores}


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    header = list(rows[0]) if rows else ["round"]
    text = io.StringIO()
    write_csv(text, [header, *([_said(row.get(column, "")) for column in header] for row in rows)])
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text.getvalue(), encoding="utf-8")
    temporary.replace(path)


def _said(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
