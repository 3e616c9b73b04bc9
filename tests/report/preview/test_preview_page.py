"""The page: what it says, and that nothing from outside gets in or is needed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from umedfeat.contract import Failure, Skipped
from umedfeat.policy import IntensityPolicy, Policy, SlidePolicy
from umedfeat.report.preview.cards import Card, Picture, failed_card, slug
from umedfeat.report.preview.page import render_page

PICTURE = Picture("pictures/a.overlay.png", "caption", 640, 480)


def _card(name: str = "a.svs", status: str = "ready", **changes: object) -> Card:
    values: dict[str, object] = {
        "id": name,
        "name": name,
        "status": status,
        "modality": "WSI",
        "headline": "12 tiles",
        "facts": (("Scale", "0.25 µm/px"),),
        "small": PICTURE,
        "pictures": (PICTURE,),
        "regions": 12,
    }
    return Card(**{**values, **changes})  # type: ignore[arg-type]


class _Checker(HTMLParser):
    """Collects links and checks that tags are balanced."""

    VOID = frozenset({"meta", "img", "input", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.missing_alt = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("href", "src")]
        self.missing_alt += tag == "img" and not dict(attrs).get("alt")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _check(html: str) -> _Checker:
    checker = _Checker()
    checker.feed(html)
    assert checker.open == []
    assert checker.missing_alt == 0
    return checker


def test_page_is_well_formed_and_needs_nothing_but_its_pictures() -> None:
    html = render_page([_card(), _card("b.svs", "look", flags=("only 2 tiles",))], [], Policy())
    assert set(_check(html).references) == {PICTURE.file}
    assert not re.search(r"https?://|@import|url\(", html)


def test_problems_come_first() -> None:
    failure = Failure("z.svs", "plan", "ScaleError", "z.svs: no scale", "--source-mpp 0.25")
    cards = [_card("b.svs"), _card("a.svs"), _card("e.svs", "empty"), _card("y.svs", "look"), failed_card(failure)]
    names = re.findall(r'<article[^>]*data-name="([^"]+)"', render_page(cards, [], Policy()))
    assert names == ["z.svs", "y.svs", "e.svs", "a.svs", "b.svs"]


def test_failure_tells_reason_and_remedy_once() -> None:
    card = failed_card(Failure("z.svs", "plan", "ScaleError", "z.svs: no scale in the file", "--source-mpp 0.25"))
    html = render_page([card], [], Policy())
    assert "no scale in the file" in html
    assert "z.svs: no scale" not in html
    assert "→ --source-mpp 0.25" in html
    assert "failed while planning" in html


def test_many_failures_for_one_reason_are_one_card_and_count_each() -> None:
    failures = [
        Failure(f"s{k:02}.svs", "plan", "ScaleError", f"s{k:02}.svs: no scale", "--source-mpp") for k in range(30)
    ]
    other = Failure("t.svs", "plan", "UnreadableInput", "t.svs: damaged", "copy it again")
    html = render_page([failed_card(failure) for failure in [*failures, other]] + [_card()], [], Policy())
    _check(html)
    assert re.findall(r'<article[^>]*data-name="([^"]+)"', html) == ["s00.svs", "t.svs", "a.svs"]
    assert html.count("no scale") == 1
    assert all(f"<li>s{k:02}.svs</li>" in html for k in range(30))
    text = re.sub(r"<[^>]+>", "", html)
    assert "1 of 32 inputs to embed" in text
    assert "31 failed" in text


def test_names_and_reasons_are_escaped() -> None:
    evil = '<script>alert("x")</script>'
    failure = failed_card(Failure(evil, "plan", "E", f"{evil}: {evil}", evil))
    html = render_page([_card(evil, flags=(evil,), facts=((evil, evil),)), failure], [Skipped(evil, evil)], Policy())
    assert "<script>alert" not in html
    _check(html)


def test_counts_and_settings() -> None:
    cards = [_card(), _card("b.nii", modality="MR", regions=30), _card("c.svs", "empty", regions=0)]
    policy = Policy(SlidePolicy(mpp=0.25, min_tissue=0.5, masks_sha256="x"), IntensityPolicy(ct_window="lung"))
    text = re.sub(r"<[^>]+>", "", render_page(cards, [], policy))
    assert "2 of 3 inputs to embed, 42 regions" in text
    assert "0.25 µm/px, 224 px tiles, tiles with ≥ 50% tissue, external masks" in text
    assert "window lung" in text
    assert "percentiles 2.5 to 97.5" in text


def test_modality_filter_appears_only_when_there_is_a_choice() -> None:
    assert 'id="modality"' not in render_page([_card()], [], Policy())
    assert 'id="modality"' in render_page([_card(), _card("b", modality="CT")], [], Policy())


def test_skipped_files_are_grouped_by_reason() -> None:
    skipped = [Skipped(f"notes/{k}.txt", "no image format") for k in range(450)] + [Skipped("DICOMDIR", "a directory")]
    html = render_page([_card()], skipped, Policy())
    assert "<b>450</b>no image format" in html
    assert "and 250 more" in html
    assert html.index("no image format") < html.index("a directory")


def test_page_without_inputs() -> None:
    html = render_page([], [Skipped("a.txt", "no image format")], Policy())
    _check(html)
    assert "No inputs." in html


def test_slugs_are_safe_and_unique() -> None:
    ids = ["a/b", "a_b", "../../etc/passwd", "ä ö/ü", "x" * 300, "a?b*c|d", "", "CON", "."]
    slugs = [slug(id) for id in ids]
    assert len(set(slugs)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,80}", text) and not text.startswith(".") for text in slugs)
