"""Options that mean the same in every command, and what they become: a Policy, an EncoderChoice, Pseudonyms.

Each decorator takes its flags off the command line and hands the command one finished object.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from umedfeat.policy import CT_WINDOWS, ImagePolicy, IntensityPolicy, Limits, Policy, SlidePolicy, VolumePolicy

if TYPE_CHECKING:
    from umedfeat.encoders.choice import EncoderChoice
    from umedfeat.naming import Pseudonyms

__all__ = ["encoder_options", "identity_options", "input_options", "log_options", "policy_options"]

Decorator = Callable[[Any], Any]
log = logging.getLogger("umedfeat")


class WindowType(click.ParamType[Any]):
    """A CT window: a preset, "LO,HI" in Hounsfield units, "percentile" or "file"."""

    name = "window"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text in CT_WINDOWS or text in {"percentile", "file"}:
            return text
        try:
            low, high = (float(part) for part in text.split(","))
        except ValueError:
            self.fail(f"{text!r} is none of {', '.join(CT_WINDOWS)}, percentile, file, nor LO,HI in HU", param, ctx)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            self.fail(f"{text!r}: LO must be below HI, and both finite, e.g. -160,240", param, ctx)
        return f"{low:g},{high:g}"


class SlicesType(click.ParamType[Any]):
    """ "all", a number, or "every-K"."""

    name = "slices"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        number = text.removeprefix("every-")
        if text == "all" or (number.isascii() and number.isdecimal() and int(number) > 0):
            return text
        return self.fail(f"{text!r} is neither 'all', a number, nor 'every-K'", param, ctx)


class VolumeIndexType(click.ParamType[Any]):
    """A number from 0, "mean" or "all"."""

    name = "index"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text in {"", "mean", "all"} or (text.isascii() and text.isdecimal()):
            return text
        return self.fail(f"{text!r} is neither a number from 0, 'mean' nor 'all'", param, ctx)


def _gather(command: Any, options: Sequence[Decorator], name: str, build: Callable[..., Any]) -> Any:
    """Add options whose values reach the command as one argument: ``name=build(**values)``."""
    keys = tuple(inspect.signature(build).parameters)

    @functools.wraps(command)
    def gathered(*args: Any, **values: Any) -> Any:
        own = {key: values.pop(key) for key in keys}
        return command(*args, **values, **{name: build(**own)})

    for option in reversed(options):
        option(gathered)
    return gathered


def input_options(command: Any) -> Any:
    """``--input`` (repeatable) → ``inputs: tuple[Path, ...]``."""
    return click.option(
        "-i",
        "--input",
        "inputs",
        type=click.Path(path_type=Path),
        multiple=True,
        required=True,
        help="A file, a folder (searched recursively) or a CSV manifest with a 'path' column. Repeatable.",
    )(command)


_POLICY_OPTIONS: list[Decorator] = [
    click.option(
        "--mpp", type=click.FloatRange(0.01, 100), default=0.5, show_default=True, help="Slides: µm per pixel."
    ),
    click.option(
        "--tile-size", type=click.IntRange(16, 4096), help="Slides: side of a tile in pixels.  [default: the encoder's]"
    ),
    click.option(
        "--overlap", type=click.IntRange(0), default=0, show_default=True, help="Slides: pixels shared by neighbours."
    ),
    click.option(
        "--tissue", type=click.Choice(["auto", "none"]), default="auto", show_default=True, help="Slides: tissue mask."
    ),
    click.option(
        "--min-tissue",
        type=click.FloatRange(0, 1),
        default=0.25,
        show_default=True,
        help="Slides: tissue share of a kept tile.",
    ),
    click.option(
        "--mask-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Slides: masks or QuPath GeoJSON within which tissue is looked for (with --tissue none: all of it).",
    ),
    click.option(
        "--source-mpp", type=click.FloatRange(0, min_open=True), help="Slides: scale of slides that do not tell."
    ),
    click.option("--allow-upsample", is_flag=True, help="Slides: read slides scanned coarser than --mpp."),
    click.option(
        "--icc", type=click.Choice(["keep", "srgb"]), default="keep", show_default=True, help="Slides: colour profile."
    ),
    click.option(
        "--window",
        type=WindowType(),
        default="soft-tissue",
        show_default=True,
        help="CT: lung, soft-tissue, bone, brain, LO,HI, percentile or file.",
    ),
    click.option(
        "--grey-window",
        type=click.Choice(["percentile", "file"]),
        default="percentile",
        show_default=True,
        help="MR, CR, DX, MG …: p2.5-p97.5, or the stored VOI.",
    ),
    click.option(
        "--plane",
        type=click.Choice(["acquired", "axial", "coronal", "sagittal"]),
        default="acquired",
        show_default=True,
        help="Volumes: which slices.",
    ),
    click.option(
        "--slices",
        type=SlicesType(),
        default="all",
        show_default=True,
        help="Volumes: all, N (evenly spaced) or every-K.",
    ),
    click.option(
        "--volume-index", type=VolumeIndexType(), default="", help="4-D volumes: a number, mean or all (an item each)."
    ),
    click.option(
        "--frames", type=SlicesType(), default="all", show_default=True, help="Cine: all or N frames (evenly spaced)."
    ),
    click.option("--include-derived", is_flag=True, help="DICOM: read derived, projection and MIP series too."),
    click.option(
        "--modality", default="", help="NIfTI and flat images that do not tell: taken as this (CT is windowed)."
    ),
    click.option(
        "--image-size", type=click.IntRange(16, 4096), help="Whole images: side in pixels.  [default: the encoder's]"
    ),
    click.option(
        "--fit",
        type=click.Choice(["pad", "squash", "crop"]),
        default="pad",
        show_default=True,
        help="Whole images: how they become square.",
    ),
    click.option("--tile", is_flag=True, help="Flat images: cut into tiles instead of resizing the whole."),
    click.option(
        "--max-pixels", type=click.IntRange(1), default=250_000_000, show_default=True, help="Refuse larger images."
    ),
    click.option(
        "--max-voxels", type=click.IntRange(1), default=8_000_000_000, show_default=True, help="Refuse larger volumes."
    ),
    click.option(
        "--max-unreadable",
        type=click.FloatRange(0, 1),
        default=0.01,
        show_default=True,
        help="Unreadable share above which an input fails.",
    ),
    click.option("--force", is_flag=True, help="DICOM: read files without preamble."),
]


def _policy(
    mpp: float,
    tile_size: int | None,
    overlap: int,
    tissue: str,
    min_tissue: float,
    mask_dir: Path | None,
    source_mpp: float | None,
    allow_upsample: bool,
    icc: str,
    window: str,
    grey_window: str,
    plane: str,
    slices: str,
    volume_index: str,
    frames: str,
    include_derived: bool,
    modality: str,
    image_size: int | None,
    fit: str,
    tile: bool,
    max_pixels: int,
    max_voxels: int,
    max_unreadable: float,
    force: bool,
) -> Policy:
    masks = ""
    if mask_dir is not None:
        from umedfeat.readers.slides.annotations import masks_digest

        masks = masks_digest(mask_dir)
    side = tile_size or 0  # 0: the encoder's own, filled in when it is known
    if side and overlap >= side:
        raise click.BadParameter(f"{overlap} must be below --tile-size {side}", param_hint="--overlap")
    return Policy(
        slide=SlidePolicy(mpp, side, overlap, tissue, min_tissue, allow_upsample, source_mpp, icc, masks),
        intensity=IntensityPolicy(ct_window=window, window=grey_window),
        volume=VolumePolicy(plane, slices, volume_index, frames, include_derived, modality.upper()),
        image=ImagePolicy(image_size or 0, fit, tile),
        limits=Limits(
            max_pixels=max_pixels,
            max_voxels=max_voxels,
            max_unreadable=max_unreadable,
            force=force,
            mask_dir=str(mask_dir) if mask_dir else "",
        ),
    )


def policy_options(command: Any) -> Any:
    """Everything that decides the pixels → ``policy: Policy`` (sizes 0 where the encoder decides)."""
    return _gather(command, _POLICY_OPTIONS, "policy", _policy)


def _encoder_choices(default: str) -> list[Decorator]:
    return [
        click.option(
            "-e",
            "--encoder",
            "name",
            default=default,
            show_default=True,
            help="umedpt, tissue-concepts, unicorn, wsc-tiny, efficientnet-lite0, imagenet-swinv2-t or timm:<name>.",
        ),
        click.option(
            "--weights",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Weights file: .pt.zip or .safetensors.",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="auto (all visible GPUs, else the CPU), cpu, cuda:N, cuda:0,1 or all.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
            default="auto",
            show_default=True,
            help="auto: fp32 on a CPU, bf16 on a GPU that has it.",
        ),
        click.option(
            "--runtime",
            type=click.Choice(["auto", "torch", "openvino"]),
            default="auto",
            show_default=True,
            help="What computes the encoder.",
        ),
        click.option(
            "--pool-order",
            type=click.Choice(["pool_first", "pool_last"]),
            help="UMedPT: override the registry's order.",
        ),
        click.option("--compile", "compiled", is_flag=True, help="Compile the network first (torch runtime)."),
        click.option("--offline", is_flag=True, envvar="UMEDFEAT_OFFLINE", help="Never use the network."),
    ]


def _encoder(
    name: str,
    weights: Path | None,
    device: str,
    precision: str,
    runtime: str,
    pool_order: str | None,
    compiled: bool,
    offline: bool,
) -> EncoderChoice:
    from umedfeat.encoders.choice import EncoderChoice

    return EncoderChoice(name, weights, device, precision, runtime, pool_order, compiled, offline)


def encoder_options(command: Any, default: str = "umedpt") -> Any:
    """Which network, where and how → ``choice: EncoderChoice``."""
    return _gather(command, _encoder_choices(default), "choice", _encoder)


_IDENTITY_OPTIONS: list[Decorator] = [
    click.option(
        "--id-key",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="UMEDFEAT_ID_KEY",
        help="File with the site's secret key for pseudonyms.",
    ),
    click.option(
        "--keep-ids", is_flag=True, help="Store patient and study identifiers readable (a warning tells you)."
    ),
]


def _pseudonyms(id_key: Path | None, keep_ids: bool) -> Pseudonyms:
    from umedfeat.naming import Pseudonyms, load_key

    if keep_ids:
        log.warning("--keep-ids stores patient and study identifiers readable in the output file")
    make = not click.get_current_context().params.get("dry_run", False)
    return Pseudonyms(load_key(id_key, make=make), keep=keep_ids)


def identity_options(command: Any) -> Any:
    """How patients are told apart → ``pseudonyms: Pseudonyms``. Stands below ``log_options``: it may warn."""
    return _gather(command, _IDENTITY_OPTIONS, "pseudonyms", _pseudonyms)


_LOG_OPTIONS: list[Decorator] = [
    click.option("-v", "--verbose", count=True, help="Tell more; twice for everything."),
    click.option("-q", "--quiet", is_flag=True, help="Errors only, no progress."),
    click.option("--log-json", is_flag=True, help="Log lines as JSON."),
    click.option(
        "--progress",
        type=click.Choice(["bar", "json", "none"]),
        help="On stderr.  [default: bar; json with --log-json]",
    ),
]


def _log(verbose: int, quiet: bool, log_json: bool, progress: str | None) -> str:
    from umedfeat.terminal.log import configure_logging

    configure_logging(-1 if quiet else verbose, as_json=log_json)
    return "none" if quiet else progress or ("json" if log_json else "bar")


def log_options(command: Any) -> Any:
    """Verbosity and progress → ``progress: str`` ("bar", "json" or "none"), logging configured."""
    return _gather(command, _LOG_OPTIONS, "progress", _log)
