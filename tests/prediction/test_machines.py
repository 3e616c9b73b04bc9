"""Another kind of machine: other kernels of the linear algebra, another number of threads, the same probabilities."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from study_cases import gaussian_cases, write_features

from umedfeat.fewshot.files import read_subject
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.prediction.fit import Saving, study_and_fit

#: Stated in docs/saved-probes.md.
TOLERANCE = 1e-6
SCRIPT = """
import json, sys
from pathlib import Path
from umedfeat.prediction.apply import apply_probe
from umedfeat.prediction.saved import SavedProbe
found = [apply_probe(SavedProbe.load(model), Path(sys.argv[1])) for model in sys.argv[2:]]
print(json.dumps([[each.values.tolist(), each.usual.tolist()] for each in found]))
"""
#: Kernels without and with wide vectors: what processors of fifteen years choose.
MACHINES = [{"OPENBLAS_CORETYPE": kernel} for kernel in ("Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen")]
MACHINES += [{"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}]


def _said(feats: Path, models: list[Path], machine: dict[str, str]) -> list[list[np.ndarray]]:
    command = [sys.executable, "-c", SCRIPT, str(feats), *map(str, models)]
    done = subprocess.run(command, env={**os.environ, **machine}, capture_output=True, text=True, check=True)
    return [[np.asarray(part) for part in each] for each in json.loads(done.stdout)]


@pytest.mark.slow
def test_predictions_do_not_depend_on_the_machine(tmp_path: Path) -> None:
    cases = gaussian_cases(60, 1, 256, classes=3)
    noise = np.random.default_rng(0).normal(size=(60, 50, 256)).astype(np.float32)
    rows = [row + own for row, own in zip(cases.features, noise, strict=True)]
    names = [f"{k:03}.png" for k in range(60)]
    feats = write_features(tmp_path / "f.h5", rows, names, patients=cases.patients, meta={"label": cases.labels})
    models = []
    for classifier in ("linear", "knn", "prototype", "abmil"):
        settings = ProbeSettings(fractions=(1.0,), bootstrap=100, pool="abmil" if classifier == "abmil" else "mean")
        _, probe = study_and_fit(read_subject(feats, settings), Saving(classifier))
        assert probe is not None
        models.append(probe.save(tmp_path / f"{len(models)}.safetensors"))
    here = _said(feats, models, {})
    for machine in MACHINES:
        for ours, theirs in zip(here, _said(feats, models, machine), strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(b, a, atol=TOLERANCE, rtol=0, err_msg=str(machine))
