"""Writes the table of known encoders into docs/encoders.md: ``python docs/known_encoders.py`` in the checkout."""

from __future__ import annotations

from pathlib import Path

from umedfeat.encoders.known import KNOWN, KnownEncoder

HEAD = "|---|---|---|---|---|---|---|\n"


def row(known: KnownEncoder) -> str:
    """One line of the table."""
    mean, std = (" ".join(f"{value:.4g}" for value in triple) for triple in known.normalisation)
    page = f"[{known.repository}](https://huggingface.co/{known.repository})"
    licence = known.licence + (", gated" if known.gated else "")
    facts = (f"`{known.name}`", page, licence, known.image_size, known.dim, known.pool, f"{mean}, {std}")
    return "| " + " | ".join(map(str, facts)) + " |"


def table() -> str:
    """All rows."""
    return "\n".join(map(row, KNOWN.values()))


if __name__ == "__main__":
    path = Path("docs/encoders.md")
    before, _, rest = path.read_text(encoding="utf-8").partition(HEAD)
    _, _, after = rest.partition("\n\n")
    path.write_text(f"{before}{HEAD}{table()}\n\n{after}", encoding="utf-8")
