"""What the pages say of the program is so: messages, commands, datasets, links."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 70
