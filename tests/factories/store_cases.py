"""Small sources, plans and features for tests of the feature file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from umedfeat.contract import Dropped, Failure, Plan, Skipped, Source, make_regions
from umedfeat.policy import ImagePolicy, Policy, SlidePolicy
from umedfeat.store import FeatureStore, Header, Item, Shard, shard_path

DIM = 4


def header(**encoder: object) -> Header:
    settings = {"name": "umedpt", "weights_sha256": "0" * 64, "precision": "fp32"} | encoder
    policy = Policy(slide=SlidePolicy(tile_size=224), image=ImagePolicy(size=224))
    return Header(settings, policy.to_dict())


def item(
    name: str,
    rows: int,
    *,
    label: str = "",
    seed: int = 0,
    dim: int = DIM,
    dropped: int = 0,
    slide: bool = True,
    grid: tuple[int, int, int] | None = None,
) -> Item:
    """An item whose numbers depend on its name and ``seed`` alone."""
    rng = np.random.default_rng([seed, *name.encode(errors="backslashreplace")])
    source = Source(
        id=name,
        format="slide",
        path=Path(name),
        files=(Path(name),),
        name=f"{name}.svs",
        patient=f"p-{name[:1]}",
        meta={"label": label} if label else {},
    )
    regions = make_regions(np.arange(rows) * 224, 0, 0, 0.5) if rows else make_regions([], [], [], [], [])
    plan = Plan(
        regions=regions,
        shape=(224, 224),
        dtype="uint8",
        format="aperio" if slide else "png",
        modality="WSI" if slide else "photo",
        width=4480,
        height=2240,
        mpp=(0.25, 0.25) if slide else None,
        mpp_source="header:aperio.MPP" if slide else "",
        tile_extent=448.0 if slide else 0.0,
        detail={"vendor": "aperio"},
        content_sha256=f"sha-{seed}-{name}",
    )
    features = rng.normal(size=(rows, dim)).astype(np.float32)
    tokens = None if grid is None else rng.normal(size=(rows, *grid)).astype(np.float32)
    return Item(source, plan, features, tuple(Dropped(k, 7, 0, "unreadable tile") for k in range(dropped)), tokens)


def write(
    out: Path,
    items: Iterable[Item],
    *,
    settings: Header | None = None,
    failures: Iterable[str] = (),
    skipped: Iterable[str] = (),
    shard: tuple[int, int] | None = None,
    dim: int = DIM,
) -> Path:
    """A finished feature file of some items."""
    told = settings or header()
    if shard is not None:
        out, told = shard_path(out, shard), replace(told, shard=Shard(*shard).text)
    with FeatureStore(out, told, dim=dim) as store:
        for each in items:
            store.add(each)
        for name in failures:
            store.fail(Failure(name, "read", "UnreadableInput", f"{name}: truncated", "copy it again"))
        for name in skipped:
            store.skip(Skipped(name, "not an image"))
        return store.finish({})
