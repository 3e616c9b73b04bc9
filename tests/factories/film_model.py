"""Films that are dark or light, a probe that tells them apart, and new films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import umedfeat
from umedfeat.fewshot.files import read_subject
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.policy import ImagePolicy, Policy
from umedfeat.prediction.fit import Saving, study_and_fit

__all__ = ["write_films"]


def write_films(folder: Path, encoder: str = "random") -> Path:
    """Labelled films (``old.csv``, ``feats.h5``), the probe fitted to them (``model.safetensors``), and ``new/``."""
    rng = np.random.default_rng(0)
    for name, count in (("old", 12), ("new", 5)):
        (folder / name).mkdir()
        for number in range(count):
            base = 60 if number % 2 else 160
            pixels = np.clip(rng.normal(base, 20, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    rows = [f"old/{number:02}.png,{'dark' if number % 2 else 'light'},{number}" for number in range(12)]
    (folder / "old.csv").write_text("path,label,patient\n" + "\n".join(rows) + "\n")
    policy = Policy(image=ImagePolicy(size=32))
    umedfeat.extract(folder / "old.csv", folder / "feats.h5", encoder=encoder, policy=policy)
    settings = ProbeSettings(fractions=(1.0,), classifiers=("linear",), bootstrap=100)
    _, probe = study_and_fit(read_subject(folder / "feats.h5", settings), Saving())
    assert probe is not None
    probe.save(folder / "model.safetensors")
    return folder
