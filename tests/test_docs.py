"""What the pages say of the program is so: messages, commands, datasets, links."""

from __future__ import annotations

import re
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umedfeat.store import schema

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "umedfeat").rglob("*.py")))


#: What the page's package would bring: a network of the signature that it names.
SLIDE_NETWORK = """
import torch

class SlideNetwork(torch.nn.Module):
    sha256 = "b" * 64

    @classmethod
    def load(cls, path):
        return cls()

    def forward(self, features, places):
        return torch.cat([features, places], 2).mean(1).repeat(1, 128)
"""


def test_the_messages_of_the_faq_are_those_of_the_program() -> None:
    quoted = re.findall(r'\*\*"(.+?)"\*\*', (DOCS / "faq.md").read_text(encoding="utf-8"), re.S)
    assert len(quoted) > 25
    assert [text for text in quoted if " ".join(text.split()) not in SOURCE] == []


def test_every_dataset_and_attribute_is_on_the_page_of_the_format() -> None:
    page = (DOCS / "file-format.md").read_text(encoding="utf-8")
    columns = {*schema.ITEM_COLUMNS, *schema.TILE_COLUMNS, *schema.DROPPED_COLUMNS, *schema.FAILURE_COLUMNS}
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+)`", page)}
    assert columns - named == set()
    attributes = set(re.findall(r'file\.attrs\["(\w+)"\] =', SOURCE))
    assert len(attributes) > 10 and attributes - named == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / ".ci" / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = set(re.findall(r": ([\w-]+\.md)", navigation))
    assert listed == {path.name for path in DOCS.glob("*.md")}


def test_the_slide_encoders_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from store_cases import header, item, write

    import umedfeat

    network = types.ModuleType("my_package.network")
    exec(SLIDE_NETWORK, network.__dict__)
    monkeypatch.setitem(sys.modules, "my_package", types.ModuleType("my_package"))
    monkeypatch.setitem(sys.modules, "my_package.network", network)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "feats.h5", [item("a", 3), item("b", 5)], settings=header(name="conch"))
    page = (DOCS / "encoders.md").read_text(encoding="utf-8").partition("## Slide encoders")[2]
    package, notebook = re.findall(r"```python\n(.*?)```", page, re.S)
    names: dict[str, Any] = {}
    exec(compile(package, "encoders.md", "exec"), names)
    loaded = names["load"](umedfeat.EncoderChoice("my-slide-encoder", device="cpu"))
    done = umedfeat.aggregate("feats.h5", "package.h5", replace(loaded, name="my-slide-encoder"))
    assert (done.made, done.dim, done.exit_code) == (2, 768, 0)
    exec(compile(notebook, "encoders.md", "exec"), {})
    with umedfeat.FeatureFile("slides.h5") as slides, umedfeat.FeatureFile("feats.h5") as tiles:
        assert np.array_equal(slides.features("b")[0], tiles.features("b").max(0) / 2)


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 70
