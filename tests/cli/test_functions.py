"""Every command is one public function: there, documented, with the command's defaults, and with the same outcome."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from store_cases import header, item, write

import umedfeat
from umedfeat.cli import COMMANDS, root, run
from umedfeat.fewshot import ProbeSettings
from umedfeat.fewshot.cohort.sources import Labelling

DOCS = Path(__file__).resolve().parents[2] / "docs"

#: Command → the function that does everything it does, and those for its other ways of working.
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "demo": ("run_demo",),
    "extract": ("extract", "forecast"),
    "aggregate": ("aggregate",),
    "preview": ("preview",),
    "info": ("describe",),
    "report": ("overview",),
    "probe": ("probe_and_report", "plan_probe"),
    "compare": ("compare_and_report", "compare_models_and_report"),
    "predict": ("predict_and_report",),
    "similar": ("similar_and_report",),
    "verify": ("verify",),
    "merge": ("merge",),
    "export": ("export",),
    "pretrain": ("pretrain_and_report", "forecast_training"),
    "doctor": ("examine",),
    "key new": ("new_key",),
    "key check": ("check_key",),
    "encoders": ("list_encoders", "list_slide_encoders"),
    "weights list": ("list_encoders",),
    "weights fetch": ("fetch_weights",),
    "weights verify": ("verify_weights",),
    "weights convert": ("convert_weights",),
}
#: Nothing but a path that is printed.
NO_FUNCTION = {"weights where"}
#: Those that take time say how far they are.
LONG = [
    "demo",
    "extract",
    "aggregate",
    "preview",
    "probe",
    "compare",
    "predict",
    "merge",
    "export",
    "pretrain",
    "verify",
]
#: Options whose parameter is called otherwise.
ALIASES = {"file": "features", "inputs": "inputs", "folder": "folder", "val": "validation", "out": "out"}


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", each) for part, each in command.commands.items())
        else:
            yield name, command


LEAVES = dict(_commands())


def _function(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(umedfeat, name)
    return function


def test_every_command_has_its_function() -> None:
    assert set(LEAVES) == set(FUNCTIONS) | NO_FUNCTION
    public = set(umedfeat.__all__)
    assert {name for names in FUNCTIONS.values() for name in names} <= public


def test_the_pages_tell_which() -> None:
    """docs/python.md has the table; every public name stands in the reference."""
    page, reference = ((DOCS / name).read_text(encoding="utf-8") for name in ("python.md", "api.md"))
    rows = {cells[0].strip("` "): cells[1] for cells in re.findall(r"^\| (`[a-z ]+`) \| (.+?) \|", page, re.M)}
    for command, names in FUNCTIONS.items():
        assert [name for name in names if f"`{name}`" not in rows[command]] == [], command
    missing = [
        name
        for name in umedfeat.__all__
        if name != "__version__" and not re.search(rf"::: \S+\.{name}$", reference, re.M)
    ]
    assert missing == []


@pytest.mark.parametrize("name", sorted({name for names in FUNCTIONS.values() for name in names}))
def test_each_says_what_it_takes_and_gives(name: str) -> None:
    function = _function(name)
    assert inspect.getdoc(function)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(each.annotation is not inspect.Parameter.empty for each in signature.parameters.values())


@pytest.mark.parametrize("command", LONG)
def test_those_that_take_time_say_how_far_they_are(command: str) -> None:
    parameters = inspect.signature(_function(FUNCTIONS[command][0])).parameters
    assert {"progress", "show_progress", "tell", "on_rows"} & set(parameters)


def _plain(value: object) -> object:
    """One word for "not given", and paths as text."""
    unset = getattr(click.core, "UNSET", None)  # of click 8.3 and newer
    return None if value in (None, "", (), False, unset) else str(value)


@pytest.mark.parametrize("command", [name for name in FUNCTIONS if name in LEAVES])
def test_options_and_parameters_of_one_name_have_one_default(command: str) -> None:
    parameters = inspect.signature(_function(FUNCTIONS[command][0])).parameters
    shared = 0
    for option in LEAVES[command].params:
        parameter = parameters.get(ALIASES.get(str(option.name), str(option.name)))
        if parameter is None or parameter.default is inspect.Parameter.empty or str(option.name) == "progress":
            continue
        shared += 1
        assert _plain(option.default) == _plain(parameter.default), (command, option.name)
    assert (
        shared
        or not LEAVES[command].params
        or command in ("info", "verify", "doctor", "encoders", "extract")
        or " " in command
    )


def test_a_wrong_name_is_told_before_images_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(umedfeat.errors.SetupError, match="unknown encoder 'conhc'") as caught:
        umedfeat.extract(tmp_path / "not there", tmp_path / "f.h5", encoder="conhc")
    assert "did you mean conch" in caught.value.remedy
    with pytest.raises(umedfeat.errors.SetupError, match="unknown encoder 'conhc'"):
        umedfeat.forecast(tmp_path / "not there", encoder="conhc")


# ---- the same outcome ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def feats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("feats")
    items = [item(f"{k:02d}/slide", 0 if k == 5 else 3, label=["benign", "malignant"][k % 2]) for k in range(24)]
    return write(folder / "feats.h5", items, settings=header())


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_export(feats: Path, tmp_path: Path) -> None:
    assert run(["export", str(feats), "--layout", "trident", "--label", "label", "--out", str(tmp_path / "c")]) == 0
    report = umedfeat.export(feats, "trident", tmp_path / "f", label="label")
    assert _tree(tmp_path / "c") == _tree(tmp_path / "f")
    assert [path.name for path in report.tables] == ["k=all.tsv", "config.yaml"] and report.exported.items == 24


def test_merge(feats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["merge", str(feats), "--out", str(tmp_path / "c.h5"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    done = umedfeat.merge([feats], tmp_path / "f.h5")
    assert (tmp_path / "c.h5").read_bytes() == (tmp_path / "f.h5").read_bytes()
    assert told | {"out": ""} == done._asdict() | {"out": ""}
    with pytest.raises(umedfeat.errors.OutputError, match="exists"):
        umedfeat.merge([feats], tmp_path / "f.h5")


def test_probe_and_predict_and_compare(feats: Path, tmp_path: Path) -> None:
    """Tables to the byte; pages but for the time and the command."""
    options = ["--fraction", "1", "--repeats", "2", "--bootstrap", "100", "--label", "label", "--unmatched", "skip"]
    options += ["--patient", "none"]
    assert run(["probe", "-f", str(feats), *options, "--out", str(tmp_path / "c")]) == 0
    where = Labelling("label", unmatched="skip", patient="none")
    settings = ProbeSettings(fractions=(1.0,), repeats=2, bootstrap=100)
    study = umedfeat.probe_and_report(feats, tmp_path / "f", labelling=where, settings=settings)
    made, same = _tree(tmp_path / "c"), _tree(study.folder)
    assert made.keys() == same.keys() and "report.html" in made
    for name in ("results.csv", "predictions.csv", "splits.json", "model.safetensors"):
        assert made[name] == same[name], name
    assert (
        run(["predict", str(feats), "--model", str(study.folder / "model.safetensors"), "-o", str(tmp_path / "pc")])
        == 0
    )
    report = umedfeat.predict_and_report(feats, study.folder / "model.safetensors", tmp_path / "pf")
    assert _tree(tmp_path / "pc").keys() == _tree(tmp_path / "pf").keys()
    assert (tmp_path / "pc" / "predictions.csv").read_bytes() == report.table.read_bytes()
    items = [item(f"{k:02d}/slide", 0 if k == 5 else 3, label=["benign", "malignant"][k % 2]) for k in range(24)]
    turned = [replace(each, features=each.features[::-1].copy()) for each in items]
    other = write(tmp_path / "other.h5", turned, settings=header(name="other"))
    assert run(["compare", str(feats), str(other), *options, "--out", str(tmp_path / "cc")]) == 0
    compared = umedfeat.compare_and_report([feats, other], tmp_path / "cf", labelling=where, settings=settings)
    assert (tmp_path / "cc" / "differences.csv").read_bytes() == (compared.folder / "differences.csv").read_bytes()


def test_similar(feats: Path, tmp_path: Path) -> None:
    assert run(["similar", "03/slide", "--in", str(feats), "--out", str(tmp_path / "c")]) == 0
    report = umedfeat.similar_and_report("03/slide", feats, tmp_path / "f")
    assert _tree(tmp_path / "c") == _tree(report.page.parent)
