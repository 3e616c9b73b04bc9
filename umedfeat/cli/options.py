"""Options that mean the same in every command, and what they become: a Policy, an EncoderChoice, Pseudonyms.

Each decorator takes its flags off the command line and hands the command one finished object. What is legal and what is
the default stands with the fields of those objects (``umedfeat.rules``); here stand only flags and help texts.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.engine.ray.settings import ClusterSettings
from umedfeat.errors import SetupError
from umedfeat.extraction.settings import RunSettings, parse_shard
from umedfeat.policy import ImagePolicy, IntensityPolicy, Limits, Policy, RoiPolicy, SlidePolicy, VolumePolicy
from umedfeat.rules import OneOf, Rule, Within, rule_of

if TYPE_CHECKING:
    from umedfeat.naming import Pseudonyms

__all__ = [
    "Setting",
    "encoder_options",
    "gather",
    "given",
    "identity_options",
    "input_options",
    "log_options",
    "policy_options",
    "refuse_beside_like",
    "run_options",
]

Decorator = Callable[[Any], Any]
log = logging.getLogger("umedfeat")


class RuledType(click.ParamType[Any]):
    """Values that a rule accepts, as it writes them."""

    name = "text"

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.rule(value)
        except ValueError as error:
            return self.fail(f"{value!r}: {error}", param, ctx)


def _type_of(rule: Rule | None) -> click.ParamType[Any]:
    """The command line's type for a rule; numbers and words get click's own, which tell their range in the help."""
    if isinstance(rule, OneOf):
        return click.Choice(rule.values)
    if isinstance(rule, Within):
        bounds: dict[str, Any] = {"min": rule.low, "max": rule.high, "min_open": rule.open_low}
        return click.IntRange(**bounds) if rule.whole else click.FloatRange(**bounds)
    return click.STRING if rule is None else RuledType(rule)


class Setting(NamedTuple):
    """The option of one field of a settings class.

    Attributes:
        owner, field: whose type, legal values and default it has.
        help: one line.
        flag: where it is not ``--`` and the field's name; two, such as "-e --encoder", with a space.
        type: where the field's rule does not tell it (paths).
    """

    owner: type
    field: str
    help: str
    flag: str = ""
    type: click.ParamType[Any] | None = None

    @property
    def key(self) -> str:
        """The name of its value on the way to the owner."""
        return f"{self.owner.__name__.lower()}_{self.field}"

    def option(self, **changes: Any) -> Decorator:
        """A click option; ``changes`` go to click."""
        flag = self.flag or "--" + self.field.replace("_", "-")
        field = next(field for field in dataclasses.fields(self.owner) if field.name == self.field)
        kind = {"is_flag": True} if field.type in (bool, "bool") else {"type": self.type or _type_of(rule_of(field))}
        known = field.default not in (dataclasses.MISSING, None, False, 0, "")
        default = {"default": field.default if known else None, "show_default": known}
        return click.option(*flag.split(), self.key, help=self.help, **{**kind, **default, **changes})


def given(settings: Sequence[Setting], values: Mapping[str, Any], owner: type) -> dict[str, Any]:
    """The fields of one owner that the command line names; the others keep their defaults."""
    own = [setting for setting in settings if setting.owner is owner]
    return {setting.field: values[setting.key] for setting in own if values[setting.key] is not None}


def gather(
    command: Any, options: Sequence[Decorator], name: str, keys: Sequence[str], build: Callable[..., Any]
) -> Any:
    """Add options whose values (``keys``) reach the command as one argument: ``name=build(**values)``."""

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
        help="A file, a folder (searched recursively), a CSV manifest with a 'path' column, or a URL. Repeatable.",
    )(command)


_FOLDER: Any = click.Path(exists=True, file_okay=False)
_POLICY = (
    Setting(SlidePolicy, "mpp", "Slides: µm per pixel."),
    Setting(SlidePolicy, "tile_size", "Slides: side of a tile in pixels.  [default: the encoder's]"),
    Setting(SlidePolicy, "overlap", "Slides: pixels shared by neighbours.  [default: 0]"),
    Setting(SlidePolicy, "tissue", "Slides: find tissue by colour and texture, or take everything."),
    Setting(SlidePolicy, "min_tissue", "Slides: tissue share of a kept tile."),
    Setting(
        Limits,
        "mask_dir",
        "Slides: masks or QuPath GeoJSON within which tissue is looked for (with --tissue none: all of it).",
        type=_FOLDER,
    ),
    Setting(SlidePolicy, "source_mpp", "Slides: scale of slides that do not tell."),
    Setting(SlidePolicy, "allow_upsample", "Slides: read slides scanned coarser than --mpp."),
    Setting(Limits, "max_upsample", "Slides: with --allow-upsample, blow up by at most this factor."),
    Setting(SlidePolicy, "focus", "Slides of several focal planes: K (from 1), middle or sharpest."),
    Setting(SlidePolicy, "channel", "Slides of several channels: a name, a number from 1, or rgb."),
    Setting(SlidePolicy, "icc", "Slides: colours as they are stored, or brought to sRGB by the slide's profile."),
    Setting(IntensityPolicy, "ct_window", "CT: lung, soft-tissue, bone, brain, LO,HI, percentile or file.", "--window"),
    Setting(
        IntensityPolicy,
        "window",
        "MR, PT, CR, DX, MG …: auto (PET in SUV, else percentiles), percentile (p2.5-p97.5), LO,HI or file.",
        "--grey-window",
    ),
    Setting(IntensityPolicy, "suv", "PET: shown from LO to HI, in SUV by body weight."),
    Setting(VolumePolicy, "plane", "Volumes: which slices."),
    Setting(VolumePolicy, "slices", "Volumes: all, N (evenly spaced), every-K or every-Kmm (every-5mm)."),
    Setting(IntensityPolicy, "rgb", "Grey images: grey, neighbours (2.5-D) or windows (CT: lung, soft-tissue, bone)."),
    Setting(VolumePolicy, "volume_index", "4-D volumes: a number, mean or all (an item each)."),
    Setting(VolumePolicy, "frames", "Cine: all, N frames (evenly spaced) or every-K."),
    Setting(VolumePolicy, "include_derived", "DICOM: read derived, projection and MIP series too."),
    Setting(VolumePolicy, "for_processing", "DICOM: read raw radiographs too that lie beside their presentation."),
    Setting(VolumePolicy, "join_slices", "DICOM: take evenly spaced one-slice series of a folder as one volume."),
    Setting(IntensityPolicy, "hu_offset", "CT as NIfTI: added to the values to make Hounsfield units; 0 if they are."),
    Setting(VolumePolicy, "modality", "NIfTI and flat images that do not tell: taken as this (CT is windowed)."),
    Setting(ImagePolicy, "size", "Whole images: side in pixels.  [default: the encoder's]", "--image-size"),
    Setting(ImagePolicy, "fit", "Whole images: how they become square."),
    Setting(ImagePolicy, "spacing", "Whole images: mm per pixel of the square, whatever the field of view."),
    Setting(RoiPolicy, "margin", "Manifest columns mask, box, point: mm around the region.", "--roi-margin"),
    Setting(RoiPolicy, "size", "Manifest columns mask, box, point: side in mm, centred on the region.", "--roi-size"),
    Setting(ImagePolicy, "tile", "Flat images: cut into tiles instead of resizing the whole."),
    Setting(Limits, "max_pixels", "Refuse larger images."),
    Setting(Limits, "max_voxels", "Refuse larger volumes."),
    Setting(Limits, "max_unzipped", "Refuse archives that unfold to more bytes."),
    Setting(Limits, "max_unreadable", "Unreadable share above which an input fails."),
    Setting(Limits, "force", "DICOM: read files without preamble."),
)


def _policy(**values: Any) -> Policy:
    return Policy(
        slide=SlidePolicy(**given(_POLICY, values, SlidePolicy)),
        intensity=IntensityPolicy(**given(_POLICY, values, IntensityPolicy)),
        volume=VolumePolicy(**given(_POLICY, values, VolumePolicy)),
        image=ImagePolicy(**given(_POLICY, values, ImagePolicy)),
        roi=RoiPolicy(**given(_POLICY, values, RoiPolicy)),
        limits=Limits(**given(_POLICY, values, Limits)),
    )


def policy_options(command: Any) -> Any:
    """Everything that decides the pixels → ``policy: Policy`` (sizes open where the encoder decides)."""
    options = [setting.option() for setting in _POLICY]
    return gather(command, options, "policy", [setting.key for setting in _POLICY], _policy)


_NAMES = "umedpt, efficientnet-lite0, uni2-h, virchow2, rad-dino …, timm:<name> or hf-hub:<name> (`umedfeat encoders`)."
#: Of the encoder, what does not decide its numbers.
_OF_THE_MACHINE = {"weights", "device", "offline"}
_ENCODER = (
    Setting(EncoderChoice, "name", _NAMES, "-e --encoder"),
    Setting(
        EncoderChoice,
        "weights",
        "Weights file: .safetensors, .pt.zip, or a torch file of tensors.",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
    ),
    Setting(EncoderChoice, "device", "auto (all visible GPUs, else the CPU), cpu, cuda:N, cuda:0,1 or all."),
    Setting(EncoderChoice, "precision", "auto: fp32 on a CPU, bf16 on a GPU that has it."),
    Setting(EncoderChoice, "runtime", "What computes the encoder; auto: the fastest that is installed."),
    Setting(EncoderChoice, "pool_order", "UMedPT: override the registry's order."),
    Setting(EncoderChoice, "compile", "Compile the network first (torch runtime)."),
    Setting(EncoderChoice, "offline", "Never use the network."),
)


def _encoder(**values: Any) -> EncoderChoice:
    return EncoderChoice(**given(_ENCODER, values, EncoderChoice))


def refuse_beside_like() -> None:
    """``--like`` decides the encoder and the pixels: what is said of them beside it would be ignored, even if it is the
    default.

    Raises:
        SetupError: it was, on the command line or in ``--config``; the options are named.
    """
    ctx = click.get_current_context()
    decided = [*_POLICY, *(setting for setting in _ENCODER if setting.field not in _OF_THE_MACHINE), _DTYPE]
    said = {
        setting.key
        for setting in decided
        if setting.owner is not Limits
        and ctx.get_parameter_source(setting.key) in {ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP}
    }
    if said:
        flags = ", ".join(max(param.opts, key=len) for param in ctx.command.params if param.name in said)
        message = f"--like decides the encoder and the pixels, but {flags} was given too"
        raise SetupError(message, remedy="leave out one of them")


def encoder_options(command: Any, default: str = EncoderChoice.name) -> Any:
    """Which network, where and how → ``choice: EncoderChoice``."""
    name, *others = _ENCODER
    options = [name.option(default=default), *(setting.option() for setting in others)]
    return gather(command, options, "choice", [setting.key for setting in _ENCODER], _encoder)


class ShardType(click.ParamType[tuple[int, int]]):
    """ "i/n"."""

    name = "i/n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        try:
            return value if isinstance(value, tuple) else parse_shard(str(value))
        except ValueError as error:
            return self.fail(f"{value!r}: {error}", param, ctx)


_SHARD = Setting(
    RunSettings, "shard", "Only part i of n of the inputs, by size; `umedfeat merge` packs the parts.", type=ShardType()
)
_DTYPE = Setting(RunSettings, "dtype", "Numbers of the feature file.")
_RUN = (
    Setting(RunSettings, "batch_size", "Regions per batch.  [default: what fits the device]"),
    Setting(RunSettings, "workers", "Reading processes.  [default: cores, at most 8]"),
    Setting(RunSettings, "timeout", "Seconds one input may hang."),
    _SHARD,
    Setting(
        RunSettings,
        "shard_out",
        "File of the shard.  [default: OUT.shards/i-of-n.h5]",
        type=click.Path(dir_okay=False, path_type=Path),
    ),
    _DTYPE,
    Setting(
        RunSettings,
        "scratch",
        "Inputs at URLs: folder for them while they are read.  [default: TMPDIR]",
        type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    ),
    Setting(RunSettings, "scratch_size", "Inputs at URLs: what may lie there at once."),
    Setting(RunSettings, "overwrite", "Start anew instead of resuming."),
    Setting(RunSettings, "prune", "Remove items whose inputs are no longer given."),
    Setting(RunSettings, "on_error", "At a failed input: go on with the others, or stop."),
    Setting(RunSettings, "allow_failed", "N or P%: exit 0 although so many inputs failed."),
)


#: "local" is this machine.
_ENGINE = "run_engine"
_CLUSTER = (
    Setting(ClusterSettings, "address", "auto, HOST:PORT or ray://HOST:PORT.", "--ray-address"),
    Setting(ClusterSettings, "workers", "Actors.  [default: as many as the nodes have room for]", "--ray-workers"),
    Setting(ClusterSettings, "cpus_per_worker", "Cores of each actor.  [default: 4, or what a smaller node has]"),
    Setting(ClusterSettings, "gpus_per_worker", "GPUs of each actor.  [default: 1 if the cluster has any]"),
    Setting(
        ClusterSettings,
        "results",
        "driver: features travel to this process; shared: actors write beside --out, which all nodes mount.",
        "--ray-results",
    ),
)


def _run(**values: Any) -> RunSettings:
    return RunSettings(**given(_RUN, values, RunSettings), cluster=_cluster(values))


def _cluster(values: Mapping[str, Any]) -> ClusterSettings | None:
    chosen = given(_CLUSTER, values, ClusterSettings)
    if values[_ENGINE] == "ray":
        return ClusterSettings(**chosen)
    if ignored := [field for field, value in chosen.items() if value != getattr(ClusterSettings(), field)]:
        flags = ", ".join(s.flag or "--" + s.field.replace("_", "-") for s in _CLUSTER if s.field in ignored)
        raise click.UsageError(f"{flags}: of a cluster, but --engine is {values[_ENGINE]} (add --engine ray)")
    return None


def run_options(command: Any) -> Any:
    """How the machine and the output are used → ``run: RunSettings``."""
    engine = click.option(
        "--engine",
        _ENGINE,
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="This machine, or a Ray cluster that runs already (umedfeat[ray]).",
    )
    settings = (*_RUN, *_CLUSTER)
    options = [engine, *(setting.option() for setting in settings)]
    return gather(command, options, "run", [_ENGINE, *(setting.key for setting in settings)], _run)


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
    from umedfeat.keys import load_key
    from umedfeat.naming import Pseudonyms

    if keep_ids:
        log.warning("--keep-ids stores patient and study identifiers readable in the output file")
    options = click.get_current_context().params
    others = options.get(_SHARD.key) is not None or options.get(_ENGINE) == "ray"
    shared = others and not keep_ids
    key = load_key(id_key, make=not options.get("dry_run", False), shared=shared)
    return Pseudonyms(key, keep=keep_ids)


def identity_options(command: Any) -> Any:
    """How patients are told apart → ``pseudonyms: Pseudonyms``. Stands below ``log_options``: it may warn."""
    return gather(command, _IDENTITY_OPTIONS, "pseudonyms", ("id_key", "keep_ids"), _pseudonyms)


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
    return gather(command, _LOG_OPTIONS, "progress", ("verbose", "quiet", "log_json", "progress"), _log)
