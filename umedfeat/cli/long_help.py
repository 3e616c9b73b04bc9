"""``--help`` of the long commands: what matters first on top, the other options in groups. And ``--config``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

from umedfeat.cli.config_file import config_option, refuse_missing_paths

__all__ = ["GROUPS", "LongCommand"]

#: The groups in the order of the help. One option means the same in every command, so it has one group for all.
GROUPS: Mapping[str, str] = {
    "Input": "--input --features --in --model --images --regions --unit --row --top --other-patients --like --config",
    "Labels and patients": "--label --labels --event --by --patient --unmatched --label-of --where --drop-class --merge"
    " --order --ordinal --task --subgroup --known --class",
    "Budgets and draws": "--fraction --shots --repeats --test-size --split --splits --cv --cv-repeats --external"
    " --train --test --loco --on-missing-class --seed",
    "Classifiers": "--classifier --pool --scale --weights --calibrate --threshold --save --save-on --no-model"
    " --no-novelty",
    "Statistics": "--bootstrap --permutations --sanity --baseline --margin",
    "Encoder": "--encoder --precision --runtime --pool-order --compile --offline --tokens",
    "Training": "--minutes --rounds --batch --trainable --lr --alpha --holdout --storage",
    "Slides": "--mpp --tile-size --overlap --tissue --min-tissue --mask-dir --source-mpp --allow-upsample"
    " --max-upsample --focus --channel --icc",
    "Volumes": "--window --suv --hu-offset --plane --slices --volume-index --frames --include-derived --for-processing"
    " --join-slices --modality --max-voxels --force",
    "Images": "--image-size --fit --spacing --tile --grey-window --rgb --roi-margin --roi-size --max-pixels",
    "Machine": "--device --workers --batch-size --timeout --shard --shard-out --jobs --scratch --scratch-size"
    " --max-unzipped",
    "Output": "--out --dtype --overwrite --prune --on-error --allow-failed --max-unreadable --preview --pictures"
    " --explain --explain-most --geojson --dry-run --json --help --verbose --quiet --log-json --progress",
    "Cluster": "--engine --ray-address --ray-workers --cpus-per-worker --gpus-per-worker --ray-results",
    "Privacy": "--id-key --keep-ids --item-pseudonyms --private",
}
_GROUP_OF = {flag: name for name, flags in GROUPS.items() for flag in flags.split()}
_OTHERS = "Further options"
#: Where a command means something else by an option.
_ELSEWHERE = {("predict", "--weights"): "Encoder", ("similar", "--weights"): "Encoder"}
_ELSEWHERE |= {("extract", "--weights"): "Encoder", ("pretrain", "--weights"): "Encoder"}
_ELSEWHERE |= {("pretrain", "--image-size"): "Training", ("pretrain", "--seed"): "Training"}


class LongCommand(click.Command):
    """A command with many options.

    Args:
        first: the options that matter first, at most ten, in their order.
    """

    def __init__(self, *args: Any, first: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.first = first.split()
        self.params.append(config_option())

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        refuse_missing_paths(ctx)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options in groups; a group without options is not there."""
        for title, options in self.grouped(ctx).items():
            records = (record for option in options if (record := option.get_help_record(ctx)))
            with formatter.section(title):
                formatter.write_dl([_readable(title, *record) for record in records])

    def grouped(self, ctx: click.Context) -> dict[str, list[click.Parameter]]:
        """Title → options, each option once."""
        options = {_flag(option): option for option in self.get_params(ctx) if option.param_type_name == "option"}
        groups: dict[str, list[click.Parameter]] = {title: [] for title in ("Most used", *GROUPS, _OTHERS)}
        groups["Most used"] = [options.pop(flag) for flag in self.first]
        for flag, option in options.items():
            groups[_ELSEWHERE.get((str(self.name), flag)) or _GROUP_OF.get(flag, _OTHERS)].append(option)
        return {title: found for title, found in groups.items() if found}


def _readable(title: str, flags: str, text: str) -> tuple[str, str]:
    """A line of the help without what the reader knows: "Slides:" under Slides, RANGE, limits that nobody reaches."""
    limits = _LIMITS.search(text)
    if limits is not None and all(abs(float(end)) >= _NOBODY for end in limits.groups()):
        text = text[: limits.start()].rstrip() + text[limits.end() :]
    known, told = f"{title}: ", text
    if text.startswith(known):
        told = text[len(known) :]
        told = told[:1].upper() + told[1:]
    return flags.replace(" RANGE", ""), told


_LIMITS = re.compile(r"\[(-[\d.]+)<=x<=([\d.]+)\]")
_NOBODY = 1e9


def _flag(option: click.Parameter) -> str:
    """The long name of an option."""
    return max(option.opts, key=len)
