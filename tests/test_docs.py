"""What the pages say of the program is so: messages, commands, datasets, links."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from umedfeat.store import schema

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "umedfeat").rglob("*.py")))


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


def test_the_slide_encoder_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from store_cases import header, item, write

    items = [item(f"{k:02d}/slide", 0 if k == 3 else 4, label="ab"[k % 2]) for k in range(24)]
    items = [
        replace(each, source=replace(each.source, meta={"diagnosis": each.source.meta["label"]})) for each in items
    ]
    items = [replace(each, source=replace(each.source, patient=f"p{k}")) for k, each in enumerate(items)]
    write(tmp_path / "slides.h5", items, settings=header())
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "encoders.md").read_text(encoding="utf-8").partition("## Slide encoders")[2]
    code = re.findall(r"```python\n(.*?)```", page, re.S)[0]
    small = code.replace('encoder="my-slide-encoder"', 'encoder="my-slide-encoder", repeats=1, bootstrap=100')
    names: dict[str, Any] = {}
    exec(compile(small, "encoders.md", "exec"), names)
    assert names["result"].encoder == "my-slide-encoder" and len(names["result"].cohort.ids) == 23


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 70
