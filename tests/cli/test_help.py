"""Help is instant, complete, and with examples."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

import umedfeat
from umedfeat.cli import COMMANDS, root


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", part) for sub, part in command.commands.items())
        yield name, command


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_has_a_description_and_examples(name: str, command: click.Command) -> None:
    assert command.help
    assert "umedfeat " + name.partition(" ")[0] in (command.epilog or "")


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_option_is_described(name: str, command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"


#: What makes a start slow; help needs none of it.
@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_help_fits_a_terminal_of_80_columns(name: str, command: click.Command) -> None:
    with command.make_context(name, [], resilient_parsing=True, terminal_width=80, max_content_width=80) as context:
        wide = [line for line in command.get_help(context).splitlines() if len(line) > 80]
    assert wide == []


HEAVY = {"torch", "numpy", "h5py", "sklearn", "scipy", "pydicom", "nibabel", "PIL", "tifffile", "openslide", "timm"}


@pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"], ["probe", "--help"], ["weights", "list"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom umedfeat.cli import run\n"
        f"run({arguments!r})\nprint(*({HEAVY!r} & sys.modules.keys()), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stderr.split() == []


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_help_says_limits_not_kinds_of_ranges(name: str, command: click.Command) -> None:
    with command.make_context(name, [], resilient_parsing=True) as context:
        assert " RANGE" not in command.get_help(context)


def test_what_a_group_says_is_left_out_and_a_sentence_is_left() -> None:
    command = root.get_command(click.Context(root), "extract")
    assert command is not None
    with command.make_context("extract", [], resilient_parsing=True) as context:
        told = command.get_help(context)
    assert "Pixels shared by neighbours." in told and "Slides: pixels" not in told


def test_public_names() -> None:
    assert set(umedfeat.__all__) == {
        "EncoderChoice",
        "FeatureFile",
        "Labelling",
        "Policy",
        "ProbeSettings",
        "Pseudonyms",
        "RunSettings",
        "SavedProbe",
        "Saving",
        "Showing",
        "SlideEncoder",
        "TrainSettings",
        "Truth",
        "UmedfeatExtractor",
        "Wish",
        "__version__",
        "aggregate",
        "check_key",
        "compare",
        "compare_and_report",
        "compare_models_and_report",
        "convert_weights",
        "describe",
        "examine",
        "export",
        "extract",
        "fetch_weights",
        "forecast",
        "forecast_training",
        "list_encoders",
        "list_slide_encoders",
        "load_encoder",
        "load_slide_encoder",
        "merge",
        "new_key",
        "overview",
        "plan_probe",
        "predict",
        "predict_and_report",
        "pretrain",
        "pretrain_and_report",
        "preview",
        "probe",
        "probe_and_report",
        "run_demo",
        "similar",
        "similar_and_report",
        "verify",
        "verify_weights",
    }
    for name in umedfeat.__all__:
        assert getattr(umedfeat, name) is not None
