"""Examples with masks, areas and outlines: files beside the images, by a column of the table or by name."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from umedfeat.contract import Source
from umedfeat.errors import SetupError
from umedfeat.pretraining.areas import areas_of, outlines_of, read_drawn
from umedfeat.pretraining.examples import Boxes, Example
from umedfeat.pretraining.spec import TaskSpec
from umedfeat.readers.slides.geojson import SUFFIXES, Drawn

__all__ = ["outlined", "segmented"]

log = logging.getLogger("umedfeat")

Sides = Sequence[tuple[Source, bool]]


def segmented(spec: TaskSpec, used: Sides) -> list[Example]:
    """Examples of a segmentation.

    Args:
        used: sources, and whether they are held out.

    Raises:
        SetupError: a mask is missing or no GeoJSON, or an area has no class of the task.
    """
    files = _by_name(spec, used) if spec.annotations else [_by_column(source, spec) for source, _ in used]
    drawn = _drawn(spec, files)
    sparse = any(area.label.lower() == spec.classes[0].lower() for areas in drawn.values() for area in areas)
    examples = []
    for (source, held), path in zip(used, files, strict=True):
        if path is None:
            continue
        where = f"task {spec.name}: {path.name}"
        areas = areas_of(drawn[path], spec.classes, sparse=sparse, where=where) if path in drawn else None
        stratum = source.meta.get(spec.label, "")
        examples.append(Example(source, source.patient or source.id, stratum, held, mask=path, areas=areas))
    return examples


def outlined(spec: TaskSpec, used: Sides) -> tuple[tuple[str, ...], list[Example]]:
    """Classes and examples of a detection whose boxes lie around polygons.

    Raises:
        SetupError: see ``segmented``.
    """
    files = _by_name(spec, used)
    drawn = _drawn(spec, files)
    classes = spec.classes or tuple(sorted({area.label for areas in drawn.values() for area in areas if area.label}))
    if not classes:
        raise SetupError(f"task {spec.name}: no area has a class", remedy="classify them, or give `classes: [one]`")
    examples = []
    for (source, held), path in zip(used, files, strict=True):
        if path is not None:
            boxes = Boxes(*outlines_of(drawn[path], classes, f"task {spec.name}: {path.name}"))
            examples.append(Example(source, source.patient or source.id, "", held, boxes=boxes))
    return classes, examples


def _by_column(source: Source, spec: TaskSpec) -> Path:
    name = source.meta["mask"]
    if not name:
        raise SetupError(f"task {spec.name}: {source.name}: no mask", remedy="fill in the column, or remove the row")
    path = spec.data.parent / name
    if not path.is_file():
        raise SetupError(
            f"task {spec.name}: {source.name}: mask {name}: no such file",
            remedy=f"paths of masks are relative to {spec.data.name}",
        )
    return path


def _by_name(spec: TaskSpec, used: Sides) -> list[Path | None]:
    """The file of each source that is called like it, with or without its suffix; None for those without."""
    files: defaultdict[str, list[Path]] = defaultdict(list)
    root = Path(spec.annotations).anchor
    for found in sorted(Path(root).glob(spec.annotations.removeprefix(root))):
        files[found.stem].append(found)
    owned = [_owned(spec, source, files) for source, _ in used]
    left = owned.count(None)
    if left == len(owned):
        message = f"task {spec.name}: no file of {spec.annotations} is called like an image"
        raise SetupError(message, remedy="e.g. CMU-1.geojson or CMU-1.svs.geojson of CMU-1.svs")
    if left:
        log.warning("task %s: %d of %d images have no annotations, they are left out", spec.name, left, len(owned))
    return owned


def _owned(spec: TaskSpec, source: Source, files: Mapping[str, list[Path]]) -> Path | None:
    name = PurePosixPath(source.name)
    found = [path for called in dict.fromkeys((name.name, name.stem)) for path in files.get(called, [])]
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:3])
        message = f"task {spec.name}: {source.name}: several annotations fit ({names})"
        raise SetupError(message, remedy="keep one, or name the files in a column mask")
    return found[0] if found else None


def _drawn(spec: TaskSpec, files: Sequence[Path | None]) -> dict[Path, list[Drawn]]:
    areas = [path for path in files if path is not None and path.suffix.lower() in SUFFIXES]
    return {path: read_drawn(path, f"task {spec.name}") for path in dict.fromkeys(areas)}
