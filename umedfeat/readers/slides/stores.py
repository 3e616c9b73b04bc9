"""Inputs of formats with rules of their own: Zarr stores, VSI and iSyntax slides."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from umedfeat.contract import Collected, Failure, Found, Skipped
from umedfeat.errors import InputError, UnreadableInput, UnsupportedInput
from umedfeat.readers.slides.isyntax_backend import cut_isyntax
from umedfeat.readers.slides.ome_zarr import STORE_FAULTS, NoPicture, damaged_store, files_of_store, store_layout
from umedfeat.readers.slides.pictures import picture_sources, skipped_pictures
from umedfeat.readers.slides.tiff_layout import Layout
from umedfeat.readers.slides.vsi_layout import VSI_FAULTS, damaged_vsi, ets_files, vsi_layout

__all__ = ["collect_isyntax", "collect_store", "collect_vsi"]


def collect_store(file: Found, collected: Collected) -> None:
    """One store is one slide, or one for every picture in it."""
    try:
        layout = store_layout(file.path.parent, file.name)
    except NoPicture:
        collected.skipped.append(Skipped(file.name, "a Zarr store without a picture"))
        return
    except UnsupportedInput as refusal:
        collected.failures.append(_failure(file, refusal))
        return
    except STORE_FAULTS as error:
        collected.failures.append(_failure(file, damaged_store(file.name, error)))
        return
    _add(file, files_of_store(file.path), layout, collected)


def collect_vsi(file: Found, collected: Collected) -> None:
    """One slide for every scan of it."""
    try:
        layout = vsi_layout(file.path)
    except VSI_FAULTS as error:
        collected.failures.append(_failure(file, damaged_vsi(file.path, file.name, error)))
        return
    _add(file, (file.path, *ets_files(file.path)), layout, collected)


def collect_isyntax(file: Found, collected: Collected) -> None:
    """One slide, unless its header was cut."""
    if cut_isyntax(file.path):
        message = f"{file.name}: a Philips iSyntax slide whose header is cut off"
        collected.failures.append(_failure(file, UnreadableInput(message, remedy="copy it again from the scanner")))
        return
    collected.sources.extend(picture_sources(file, (file.path,), 1))


def _failure(file: Found, error: InputError) -> Failure:
    return Failure(file.name, "discover", type(error).__name__, error.message, error.remedy)


def _add(file: Found, files: Iterable[Path], layout: Layout, collected: Collected) -> None:
    kinds = [kind for kind in layout.left_out if " " not in kind]
    collected.sources.extend(picture_sources(file, tuple(files), max(1, len(layout.pictures))))
    collected.skipped.extend(skipped_pictures(file, kinds))
