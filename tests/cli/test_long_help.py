"""Help of the long commands in groups; ``--config`` and ``--like``."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

import umedfeat
from umedfeat.cli import COMMANDS, root, run
from umedfeat.cli.config_file import defaults_of, read_config
from umedfeat.cli.long_help import LongCommand
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import SetupError
from umedfeat.policy import Policy, SlidePolicy

CONTEXT = click.Context(root)
LONG = [name for name in COMMANDS if isinstance(root.get_command(CONTEXT, name), LongCommand)]


def command_of(name: str) -> LongCommand:
    command = root.get_command(CONTEXT, name)
    assert isinstance(command, LongCommand)
    return command


def test_every_command_of_many_options_is_grouped() -> None:
    for name in COMMANDS:
        command = root.get_command(CONTEXT, name)
        assert command is not None
        assert name in LONG or len(command.params) <= 20, name


@pytest.mark.parametrize("name", LONG)
def test_every_option_stands_once_and_ten_at_most_first(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = command_of(name)
    groups = command.grouped(click.Context(command))
    shown = [option for options in groups.values() for option in options]
    assert len(shown) == len({option.name for option in shown})
    assert {option.name for option in shown} >= {p.name for p in command.params if isinstance(p, click.Option)}
    assert next(iter(groups)) == "Most used"
    assert len(groups["Most used"]) <= 10
    assert len(groups.get("Further options", [])) <= 3  # new ones, until they have a group
    assert run([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.index("Most used:") < told.index("Output:")
    assert "--config" in told


def test_lines_say_what_the_reader_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["extract", "--help"]) == 0
    told = capsys.readouterr().out
    most, _, rest = told.partition("\nSlides:\n")
    slides = rest.partition("\n\n")[0]
    assert (
        "Slides: µm per pixel" in most
        and "--min-tissue FLOAT " in slides
        and "Slides:" not in slides.replace("Slides of", "")
    )
    assert " RANGE" not in told and "2147483648" not in told


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_keys_are_the_options(tmp_path: Path) -> None:
    text = 'input = ["a", "b"]\ntile-size = 256\nallow_upsample = true\n[probe]\nfraction = [0.01, 1.0]\n'
    content = read_config(write(tmp_path, text))
    with pytest.raises(SetupError, match="no option of `umedfeat probe`"):
        defaults_of(content, command_of("probe"), "study.toml")
    found = defaults_of(content, command_of("extract"), "study.toml")
    assert found == {"inputs": ["a", "b"], "slidepolicy_tile_size": 256, "slidepolicy_allow_upsample": True}
    found = defaults_of({"probe": {**content["probe"], "shots": [1, 2]}}, command_of("probe"), "study.toml")
    assert found == {"fractions": ["0.01", "1.0"], "shots": "1,2"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tile-sise = 3", "did you mean tile-size?"),
        ("[extrct]\nmpp = 1", "did you mean extract?"),
        ("mpp = ", "is not TOML"),
        ('config = "other.toml"', "no option of `umedfeat extract` (see --help)"),
        ("image-size = true", "image-size = true: a value of another kind"),
        ("[extract]\ninput = {path = 'a'}", "another kind (input: A file"),
        ("input = [['a']]", "another kind"),
        ("mpp = 2020-01-01", "another kind"),
        ("overwrite = [true]", "another kind"),
        ("image-size = 1\nimage_size = 2", "image-size and image_size are one option"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        defaults_of(read_config(write(tmp_path, text)), command_of("extract"), "study.toml")
    assert told in f"{caught.value} {caught.value.remedy}"


def test_a_flag_as_a_number_and_a_mark_of_the_byte_order(tmp_path: Path) -> None:
    content = read_config(write(tmp_path, "\ufeffkeep-ids = 0\noverwrite = 'yes'\nverbose = 2"))
    assert defaults_of(content, command_of("extract"), "study.toml") == {
        "keep_ids": "0",
        "runsettings_overwrite": "yes",
        "verbose": 2,
    }


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_the_command_line_wins_over_the_file(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "feats.h5"
    keys = {"input": str(pictures), "out": str(out), "encoder": "efficientnet-lite0", "fit": "crop", "quiet": True}
    lines = [f"{key} = {'true' if value is True else repr(value)}" for key, value in keys.items()]
    config = write(tmp_path, "\n".join([*lines, "image-size = 64", "workers = 1"]))
    assert run(["extract", "--config", str(config), "--image-size", "32"]) == 0
    with umedfeat.FeatureFile(out) as file:
        assert file.header.policy["image"]["fit"] == "crop"
        assert file.header.policy["image"]["size"] == 32
    assert run(["extract", "--config", f"{out}.run.json", "-i", str(pictures), "-o", f"{tmp_path}/again.h5", "-q"]) == 0
    assert (tmp_path / "again.h5").read_bytes() == out.read_bytes()
    config.write_text("image-size = 'large'")
    capsys.readouterr()
    assert run(["extract", "--config", str(config), "--input", str(pictures)]) == 2
    assert "'large' is not a valid integer range. (in study.toml)" in capsys.readouterr().err


def test_what_a_run_wrote_of_itself_holds_no_path_and_asks_for_those_that_it_had(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["extract", "-i", str(pictures), "-q", "--mask-dir", str(tmp_path)]
    asked = ["-e", "efficientnet-lite0", "--image-size", "32", "--slices", "3"]
    assert run([*few, *asked, "--overwrite", "--shard", "1/1", "--shard-out", str(tmp_path / "f.h5")]) == 0
    wrote = tmp_path / "f.h5.run.json"
    said = json.loads(wrote.read_text())
    assert said["options"] == {"encoder": "efficientnet-lite0", "image-size": 32, "slices": "3"}
    assert said["paths"] == ["input", "mask-dir"] and str(tmp_path) not in wrote.read_text()
    capsys.readouterr()
    assert run(["extract", "--config", str(wrote), "-i", str(pictures), "-o", str(tmp_path / "g.h5")]) == 2
    assert "that run was given --mask-dir too\n" in capsys.readouterr().err
    assert run([*few, "--config", str(wrote), "-o", str(tmp_path / "g.h5")]) == 0
    for content in ("{}", "[1]", "no json", '{"options": [], "paths": []}'):
        wrote.write_text(content)
        with pytest.raises(SetupError, match=r"f\.h5\.run\.json"):
            read_config(wrote)


def test_features_like_those_of_a_file(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    few = ["--input", str(pictures), "--workers", "1", "-q"]
    assert run(["extract", *few, "-o", str(first), "-e", "efficientnet-lite0", "--image-size", "32"]) == 0
    assert run(["extract", *few, "-o", str(second), "--like", str(first)]) == 0
    with umedfeat.FeatureFile(first) as one, umedfeat.FeatureFile(second) as two:
        assert one.header.fingerprint == two.header.fingerprint
        assert np.array_equal(one.embeddings, two.embeddings)
    for choice, policy, told in (
        (EncoderChoice("umedfeat-open"), Policy(), "name"),
        (EncoderChoice(), Policy(slide=SlidePolicy(mpp=1.0, overlap=4)), "mpp, overlap"),
    ):
        with pytest.raises(SetupError, match=f"but {told} was given too"):
            umedfeat.extract(pictures, tmp_path / "third.h5", encoder=choice, policy=policy, like=first)
    assert run(["extract", *few, "-o", str(second), "--like", str(first), "--mpp", "1", "--dry-run"]) == 2
    with pytest.raises(SetupError, match="but dtype was given too"):
        umedfeat.extract(pictures, tmp_path / "third.h5", run=umedfeat.RunSettings(dtype="float16"), like=first)
    capsys.readouterr()
    usual = ["--encoder", "umedpt", "--rgb", "grey", "--dtype", "float32"]  # ignored, they would seem to be obeyed
    assert run(["extract", *few, "-o", str(second), "--like", str(first), *usual, "--device", "cpu"]) == 2
    assert "but --encoder, --rgb, --dtype was given too" in capsys.readouterr().err
