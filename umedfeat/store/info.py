"""``info``: a feature file in words."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from umedfeat.errors import OutputError, SetupError
from umedfeat.naming import printable, write_csv
from umedfeat.store.guard import naming_damage
from umedfeat.store.read import FeatureFile
from umedfeat.store.schema import Header
from umedfeat.store.table import Table
from umedfeat.terminal.tables import human_bytes, render_facts, render_table
from umedfeat.terminal.words import counted

__all__ = ["EMPTY_REMEDY", "describe", "listing", "overview", "policy_in_words", "write_items"]

#: What to do about items without a region.
EMPTY_REMEDY = "umedfeat preview shows why; then --tissue none, or a lower --min-tissue"
#: Empty items that are named.
_NAMED = 5
#: A column with more different values than this is not a label.
_CLASSES = 12
_PERCENTILES = ("auto", "percentile")


def describe(file: FeatureFile | Path | str) -> dict[str, Any]:
    """What is inside a feature file, JSON-able: encoder, settings, items by modality, columns, failures.

    Raises:
        SetupError, UnreadableFile: a path is no feature file; see ``FeatureFile``.
    """
    if not isinstance(file, FeatureFile):
        with FeatureFile(Path(file)) as opened:
            return describe(opened)
    items = file.items
    return {
        "file": file.path.name,
        "bytes": file.path.stat().st_size,
        "umedfeat": file.version,
        "fingerprint": file.fingerprint,
        "encoder": file.encoder,
        "policy": file.policy,
        "dim": file.dim,
        "dtype": file.dtype,
        "tokens": None if file.grid is None else list(file.grid),
        "items": len(file),
        "rows": file.n_rows,
        "without_rows": int((items["count"] == 0).sum()),
        "empty": [str(name) for name in items["id"][items["count"] == 0][:_NAMED]],
        "patients": len(set(items["patient"]) - {""}),
        "modalities": _modalities(items),
        "columns": {name: _values(values) for name, values in file.meta.items()},
        "failed": len(file.failures["source"]),
        "failures": dict(sorted(Counter(file.failures["error"]).items())),
        "skipped": len(file.skipped["source"]),
        "dropped": len(file.dropped["item"]),
    }


def _modalities(items: Table) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(set(items["modality"])):
        chosen = items["modality"] == name
        rows = int(items["count"][chosen].sum())
        formats = sorted(set(items["format"][chosen]))
        found[str(name)] = {"items": int(chosen.sum()), "rows": rows, "formats": formats}
    return found


def _values(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    counts = Counter(str(value) for value in values)
    empty = counts.pop("", 0)
    classes = dict(sorted(counts.items())) if len(counts) <= _CLASSES else None
    return {"different": len(counts), "empty": empty, "classes": classes}


def overview(facts: dict[str, Any]) -> str:
    """The short text for a terminal."""
    rows = [
        [name or "unknown", found["items"], found["rows"], ", ".join(found["formats"])]
        for name, found in facts["modalities"].items()
    ]
    table = render_table(["modality", "items", "rows", "formats"], rows) if rows else "no items"
    return f"{table}\n\n{render_facts(_facts(facts))}"


def _facts(facts: dict[str, Any]) -> list[tuple[str, object]]:
    encoder = facts["encoder"]
    weights = str(encoder.get("weights_sha256", ""))[:12]
    lines: list[tuple[str, object]] = [
        ("encoder", f"{encoder.get('name', 'unknown')}, {facts['dim']} values ({facts['dtype']})"),
        ("weights", f"sha256 {weights}…" if weights else "none recorded"),
        *_of_tiles(encoder),
    ]
    if facts.get("tokens"):
        rows, columns, values = facts["tokens"]
        lines.append(("tokens", f"{rows} × {columns} of {values:,} values for each region"))
    lines += [("settings" if k == 0 else "", line) for k, line in enumerate(policy_in_words(facts))]
    lines += [("columns" if k == 0 else "", line) for k, line in enumerate(_columns(facts["columns"]))]
    if facts["patients"]:
        lines.append(("patients", f"{facts['patients']:,} (pseudonyms)"))
    if facts["without_rows"]:
        more = " …" if facts["without_rows"] > len(facts["empty"]) else ""
        names = ", ".join(map(printable, facts["empty"])) + more
        lines.append(("empty", f"{counted(facts['without_rows'], 'item')} without a region, not embedded: {names}"))
        lines.append(("", f"→ {EMPTY_REMEDY}"))
    if facts["dropped"]:
        lines.append(("dropped", f"{counted(facts['dropped'], 'region')} that could not be read (--dropped)"))
    if facts["failed"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in facts["failures"].items())
        lines.append(("failed", f"{counted(facts['failed'], 'input')}: {kinds} (--failures)"))
    if facts["skipped"]:
        lines.append(("skipped", f"{counted(facts['skipped'], 'file')} without an image to embed (--skipped)"))
    lines.append(("file", f"{human_bytes(facts['bytes'])}, fingerprint {facts['fingerprint'][:12]}…"))
    return lines


def _of_tiles(encoder: dict[str, Any]) -> list[tuple[str, object]]:
    """Of a slide encoder: the package that it is from, and what embedded the tiles."""
    tiles = Header(encoder, {}).of_tiles
    if tiles is None:
        return []
    weights = str(tiles.encoder.get("weights_sha256", ""))[:12]
    told = f"sha256 {weights}…" if weights else "weights not recorded"
    return [("package", encoder.get("package", "")), ("of tiles by", f"{tiles.encoder.get('name', 'unknown')}, {told}")]


def policy_in_words(facts: dict[str, Any]) -> list[str]:
    """The settings that matter for the modalities in the file, one line each.

    Raises:
        OutputError: settings of kinds that no policy has.
    """
    try:
        return _policy_lines(facts)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        message = f"{facts['file']}: damaged or tampered with: settings of strange kinds"
        raise OutputError(message, remedy="extract its inputs again") from error


def _policy_lines(facts: dict[str, Any]) -> list[str]:
    policy, there = facts["policy"], set(facts["modalities"])
    slide, intensity, image, volume = (policy.get(key, {}) for key in ("slide", "intensity", "image", "volume"))
    lines = []
    if there & {"WSI", "SM", "histology"} and slide:
        overlap = f", overlap {slide['overlap']} px" if slide.get("overlap") else ""
        kept = "all" if slide.get("tissue") == "none" else f"tissue ≥ {slide.get('min_tissue', 0):.0%}"
        lines.append(f"slides: {slide.get('tile_size')} px tiles at {slide.get('mpp')} µm/px{overlap}, {kept}")
    if "CT" in there and intensity:
        three = intensity.get("rgb") == "windows"
        lines.append("CT: three windows as colours" if three else f"CT: {intensity.get('ct_window')} window")
    if "PT" in there and intensity.get("window") == "auto":
        lines.append(f"PET: SUV {intensity.get('suv')} where the tags allow it")
    if there - {"WSI", "SM", "CT", "histology", "photo"} and intensity:
        low, high = intensity.get("percentiles", ("?", "?"))
        window = intensity.get("window")
        lines.append(f"grey: {f'percentiles {low} to {high}' if window in _PERCENTILES else f'window {window}'}")
    if image and there != {"WSI"}:
        how = f"{image['spacing']:g} mm per pixel" if image.get("spacing") else image.get("fit")
        beside = ", neighbouring slices as colours" if intensity.get("rgb") == "neighbours" else ""
        slices = f"slices {volume.get('slices', 'all')}{beside}"
        lines.append(f"images: {how} to {image.get('size')} px, {slices}")
    if (roi := policy.get("roi", {})) and any(roi.values()):
        wide = f"{roi['size']:g} mm wide" if roi.get("size") else f"with a margin of {roi.get('margin'):g} mm"
        lines.append(f"regions of interest: {wide}")
    return lines


def _columns(columns: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for name, found in columns.items():
        if found["classes"] is not None:
            values = ", ".join(f"{value} {count:,}" for value, count in found["classes"].items())
        else:
            values = f"{found['different']:,} different values"
        lines.append(f"{name}: {values}" + (f", empty {found['empty']:,}" if found["empty"] else ""))
    return lines


def listing(file: FeatureFile, part: str) -> tuple[list[str], list[list[object]]]:
    """Column names and rows of "items", "failures", "skipped" or "dropped".

    Raises:
        SetupError: an unknown part.
        OutputError: damaged.
    """
    if part == "items":
        names = ["id", "modality", "format", "count", "width", "height", "mpp_x", "n_dropped", "holds", *file.meta]
        with naming_damage(file.path):
            held = np.array([_held(detail) for detail in file.items["detail"]], dtype=object)
        table = file.items | {"holds": held} | file.meta
    elif part == "dropped":
        names = ["item", "x", "y", "slice", "reason"]
        table = file.dropped | {"item": np.array([file.ids[number] for number in file.dropped["item"]], dtype=object)}
    elif part in ("failures", "skipped"):
        table = file.failures if part == "failures" else file.skipped
        names = list(table)
    else:
        raise SetupError(f"part {part!r} is unknown", remedy="items, failures, skipped or dropped")
    columns = [[_plain(value) for value in table[name]] for name in names]
    return names, [list(row) for row in zip(*columns, strict=True)]


def _held(detail: str) -> str:
    """How much a file holds and what was read of it: "3 of 6 planes, 1 of 3 levels; without label"."""
    contents = json.loads(detail or "{}").get("contents", {})
    told = [
        f"{contents[f'{kind}_read']} of {contents[kind]} {kind}" if f"{kind}_read" in contents else f"{count} {kind}"
        for kind in ("pages", "series", "scenes", "planes", "levels")
        if (count := contents.get(kind)) is not None
    ]
    told += [str(contents[key]) for key in ("focus", "channels", "colours") if key in contents]
    left_out = contents.get("left_out", {})
    without = [f"without {', '.join(left_out)}"] if left_out else []
    return "; ".join([part for part in [", ".join(told)] if part] + without)


def write_items(file: FeatureFile, path: Path) -> int:
    """Write the table that a person fills in: one row per item, with an empty column "label"; returns the rows.

    Identifiers are those of the file: pseudonyms. ``umedfeat probe --labels`` reads the filled-in table.

    Raises:
        SetupError: there is such a file, or it cannot be written.
    """
    names = ["id", "source", "modality", "format", "patient", "study", "series", "accession", "count"]
    table = file.items | file.meta
    names += [name for name in file.meta if name not in names]
    blank = [] if "label" in file.meta else ["label"]
    try:
        with path.open("x", newline="", encoding="utf-8") as stream:
            rows = ([*(_plain(table[name][k]) for name in names), *("" for _ in blank)] for k in range(len(file)))
            write_csv(stream, [[*names, *blank], *rows])
    except FileExistsError as error:
        raise SetupError(f"{path}: is there already", remedy="it may hold labels: name another file") from error
    except OSError as error:
        raise SetupError(f"{path}: cannot be written ({error.strerror})", remedy="name another file") from error
    return len(file)


def _plain(value: Any) -> object:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and np.isnan(plain) else plain
