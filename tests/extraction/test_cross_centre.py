"""Real chest films: of the same hospital few are flagged as unlike the training data, of another most."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import umedfeat
from umedfeat.fewshot.files import read_subject
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.prediction.apply import apply_probe
from umedfeat.prediction.fit import Saving, study_and_fit


def _extracted(folder: Path, out: Path, most: int, classes: dict[str, str]) -> Path:
    rows = [
        row
        for row in csv.DictReader((folder / "labels.csv").read_text(encoding="utf-8").splitlines())
        if row["label"] in classes
    ]
    rows = rows[:: max(1, len(rows) // most)]
    manifest = out.with_suffix(".csv")
    lines = [f"{(folder / row['path']).resolve()},{classes[row['label']]},{row['path']}" for row in rows]
    manifest.write_text("path,label,patient\n" + "\n".join(lines) + "\n")
    return umedfeat.extract(manifest, out, encoder="umedfeat-open").out


@pytest.mark.slow
def test_films_of_another_centre_are_flagged(shared_dir: Path, tmp_path: Path) -> None:
    children, adults = shared_dir / "pretrain" / "kermany_cxr", shared_dir / "ood" / "nih_cxr_pneumonia"
    if not children.is_dir() or not adults.is_dir():
        pytest.skip("no chest films of two centres")
    classes = {"normal": "normal", "bacteria": "pneumonia"}
    feats = _extracted(children, tmp_path / "children.h5", 150, classes)
    other = _extracted(adults, tmp_path / "adults.h5", 50, {"no_finding": "normal", "pneumonia": "pneumonia"})
    settings = ProbeSettings(fractions=(1.0,), classifiers=("linear",), bootstrap=100)
    result, probe = study_and_fit(read_subject(feats, settings), Saving())
    assert probe is not None
    own = apply_probe(probe, feats)
    tested = np.isin(own.table.ids, result.cohort.ids[result.predictions[0].items])
    assert own.flagged[tested].mean() < 0.2
    assert apply_probe(probe, other).flagged.mean() > 0.6
