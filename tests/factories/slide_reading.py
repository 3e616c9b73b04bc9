"""Shortcuts of the slide tests: a source for one file, its plan, its tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from umedfeat.contract import Plan, Source
from umedfeat.policy import Policy, SlidePolicy
from umedfeat.readers import open_reader


def source_of(path: Path, **facts: Any) -> Source:
    return Source(id=path.stem, format="slide", path=path, files=(path,), name=path.name, **facts)


def policy(tissue: str = "none", **slide: Any) -> Policy:
    return Policy(slide=SlidePolicy(tissue=tissue, **slide))


def planned(path: Path, chosen: Policy, **facts: Any) -> Plan:
    reader = open_reader(source_of(path, **facts), chosen)
    try:
        return reader.plan()
    finally:
        reader.close()


def all_tiles(path: Path, chosen: Policy, **facts: Any) -> tuple[Plan, list[Any]]:
    plan = planned(path, chosen, **facts)
    reader = open_reader(source_of(path, **facts), chosen, plan.prepared)
    try:
        return plan, list(reader.read(plan.regions))
    finally:
        reader.close()
