"""The key for pseudonyms: whose it is and how old, never its value."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from umedfeat.doctor.finding import Finding, Wish, failed, shown
from umedfeat.errors import SetupError
from umedfeat.keys import KeyFacts, check_key, default_key_path, load_key

__all__ = ["key"]

_DAY = 86400.0


def key(wish: Wish) -> Iterator[Finding]:
    """The key that a run would take."""
    try:
        load_key(wish.id_key, make=False)  # what a run would raise
    except SetupError as error:
        yield failed("key", error)
        return
    try:
        facts = check_key(wish.id_key)
    except SetupError:  # the user has none yet
        yield _to_be_made(default_key_path())
    else:
        yield Finding("key", "note" if facts.warnings else "ok", _told(facts), "; ".join(facts.warnings))


def _told(facts: KeyFacts) -> str:
    days = max(0.0, time.time() - facts.path.stat().st_mtime) / _DAY
    whose = "the user's own" if facts.path == default_key_path() else f"given: {shown(facts.path)}"
    return f"{whose}, {days:,.0f} days old, key check {facts.check}"


def _to_be_made(path: Path) -> Finding:
    """A first run makes the user's own key, where that can be written."""
    folder = next(folder for folder in path.parents if folder.exists())
    if os.access(folder, os.W_OK):
        remedy = "for several machines make one now: umedfeat key new FILE, then --id-key FILE everywhere"
        return Finding("key", "ok", "none yet: the first run makes the user's own", remedy)
    remedy = "make one where you may write with `umedfeat key new FILE`, and give it with --id-key FILE"
    return Finding("key", "fail", f"none, and none can be made in {shown(folder)}", remedy)
