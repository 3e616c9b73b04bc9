"""The page: every input as a card, problems first, skipped files with their reasons."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from typing import NamedTuple

from umedfeat._version import __version__
from umedfeat.contract import Skipped
from umedfeat.policy import IntensityPolicy, Policy
from umedfeat.report.preview.cards import Card
from umedfeat.report.templating import page_environment

__all__ = ["render_page"]

#: Status → (sign, word, what it means); in the order of the filter buttons and of the cards.
STATUSES = {
    "failed": ("✕", "Failed", "cannot be embedded"),
    "look": ("▲", "Look", "flagged: will be embedded, deserves a look"),
    "empty": ("○", "Empty", "no tile with enough tissue: nothing to embed"),
    "ready": ("●", "Ready", "will be embedded as shown"),
}
_SKIPPED_LISTED = 200
#: So many failures for one reason become one card.
_ALIKE = 4


class SkippedGroup(NamedTuple):
    """Files skipped for one reason; ``more``: how many are not listed by name."""

    reason: str
    names: list[str]
    more: int

    @property
    def files(self) -> int:
        """How many files."""
        return len(self.names) + self.more


def render_page(cards: Sequence[Card], skipped: Sequence[Skipped], policy: Policy) -> str:
    """The HTML of ``index.html``; pictures are referred to by relative paths, everything else is inside."""
    template = page_environment().from_string(
        files("umedfeat.report.preview").joinpath("page.html").read_text(encoding="utf-8")
    )
    order = list(STATUSES)
    counts = Counter(card.status for card in cards)
    return template.render(
        cards=_gathered(sorted(cards, key=lambda card: (order.index(card.status), card.name))),
        inputs=len(cards),
        statuses=[(key, *STATUSES[key], counts[key]) for key in order if counts[key]],
        signs={key: value[:2] for key, value in STATUSES.items()},
        modalities=sorted({card.modality for card in cards if card.modality}),
        regions=sum(card.regions for card in cards),
        embedded=counts["ready"] + counts["look"],
        skipped=_grouped(skipped),
        settings=_settings(policy),
        version=__version__,
    )


def _gathered(cards: Sequence[Card]) -> list[Card]:
    """Failures that share reason and remedy as one card, in the place of the first."""
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for card in cards:
        if card.status == "failed":
            names[card.reason, card.remedy].append(card.name)
    shown = []
    for card in cards:
        alike = names[card.reason, card.remedy] if card.status == "failed" else []
        if len(alike) < _ALIKE:
            shown.append(card)
        elif alike[0] == card.name:
            shown.append(replace(card, alike=tuple(alike[1:])))
    return shown


def _grouped(skipped: Sequence[Skipped]) -> list[SkippedGroup]:
    names: dict[str, list[str]] = defaultdict(list)
    for file in skipped:
        names[file.reason].append(file.name)
    groups = [SkippedGroup(r, sorted(n)[:_SKIPPED_LISTED], max(0, len(n) - _SKIPPED_LISTED)) for r, n in names.items()]
    return sorted(groups, key=lambda group: -group.files)


def _settings(policy: Policy) -> list[tuple[str, str]]:
    policy = policy.sized()
    slide, intensity, volume, image = policy.slide, policy.intensity, policy.volume, policy.image
    tissue = "every tile" if slide.tissue == "none" else f"tiles with ≥ {slide.min_tissue:.0%} tissue"
    masks = ", external masks" if slide.masks_sha256 else ""
    overlap = f", {slide.overlap} px overlap" if slide.overlap else ""
    return [
        ("Slides", f"{slide.mpp:g} µm/px, {slide.tile_size} px tiles{overlap}, {tissue}{masks}"),
        ("CT", f"window {intensity.ct_window}"),
        ("Other grey images", _window(intensity)),
        ("Volumes", f"{volume.plane} plane, slices: {volume.slices}"),
        ("Whole images", f"{image.size} × {image.size} px, {_scale(policy)}"),
    ]


def _scale(policy: Policy) -> str:
    image, roi, rgb = policy.image, policy.roi, policy.intensity.rgb
    how = f"{image.spacing:g} mm per pixel" if image.spacing else image.fit
    region = f"{roi.size:g} mm wide" if roi.size else f"with a margin of {roi.margin:g} mm" if roi.margin else ""
    colours = {"grey": "", "neighbours": "neighbouring slices as colours", "windows": "CT: three windows as colours"}
    return ", ".join(filter(None, (how, region and f"regions of interest {region}", colours[rgb])))


def _window(intensity: IntensityPolicy) -> str:
    percentiles = "percentiles {:g} to {:g}".format(*intensity.percentiles)
    named = {"percentile": percentiles, "auto": f"PET in SUV {intensity.suv.replace(',', ' to ')}, else {percentiles}"}
    return named.get(intensity.window, f"window {intensity.window}")
