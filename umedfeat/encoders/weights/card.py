"""What the file of an encoder trained with ``umedfeat pretrain`` says of itself, read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["CARD_KEY", "read_card"]

#: One key only: several would be written in random order, and the same training would give other bytes.
CARD_KEY = "umedfeat_trained"


def read_card(path: Path) -> dict[str, Any] | None:
    """The card of a trained encoder's file; None where the file is something else."""
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as file:
            text = (file.metadata() or {}).get(CARD_KEY)
        card = None if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError, RecursionError):  # other readers say what is wrong with it
        return None
    return card if isinstance(card, dict) else None
