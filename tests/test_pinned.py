"""What fixed inputs become does not change by moving code: fingerprints, regions and features, pinned.

The drawn inputs need no download. ``python tests/test_pinned.py`` prints what the present code gives.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import dicom_factory
import nibabel
import numpy as np
import slide_factory
from PIL import Image

import umedfeat
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.store import FeatureFile

PINS = Path(__file__).with_name("pinned.json")


def _inputs(folder: Path) -> None:
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    ramp = np.rint(127 + 100 * np.sin(5 * x) * np.cos(3 * y)).astype(np.uint8)
    Image.fromarray(np.dstack([ramp, ramp.T, 255 - ramp])).save(folder / "colour.png")
    Image.fromarray(ramp.astype(np.uint16) * 200).save(folder / "deep.png")
    dicom_factory.series(folder / "ct", [0.0, 5.0, 10.0], SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2")
    volume = np.hypot(x, y)[..., None] * np.linspace(1, 2, 6) * 1000
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.int16), np.diag([1.0, 1.0, 4.0, 1.0])), folder / "mr.nii.gz")
    slide_factory.write_slide(folder / "slide.tif", slide_factory.tissue_like(1024, 1024), 0.5)


def _facts(folder: Path) -> dict[str, Any]:
    """Fingerprint; item → coordinates of its rows and the first numbers of its embedding."""
    (folder / "in").mkdir()
    (folder / "key").write_text("a fixed key of the test suite")
    (folder / "key").chmod(0o600)
    _inputs(folder / "in")
    choice = EncoderChoice("efficientnet-lite0", device="cpu", runtime="torch")  # with and without extras
    pseudonyms = Pseudonyms(load_key(folder / "key"))
    umedfeat.extract(folder / "in", folder / "out.h5", encoder=choice, policy=Policy(), pseudonyms=pseudonyms)
    with FeatureFile(folder / "out.h5") as file:
        items = {
            str(name): {
                "coords": file.coords(str(name)).tolist(),
                "embedding": [round(float(value), 6) for value in embedding[:8]],
                "norm": round(float(np.linalg.norm(embedding)), 5),
            }
            for name, embedding in zip(file.ids, file.embeddings, strict=True)
        }
        return {"fingerprint": file.fingerprint, "policy": file.policy, "items": items}


def test_fixed_inputs_give_pinned_features(tmp_path: Path) -> None:
    found, pinned = _facts(tmp_path), json.loads(PINS.read_text())
    assert found["policy"] == pinned["policy"]
    assert found["fingerprint"] == pinned["fingerprint"]
    assert found["items"].keys() == pinned["items"].keys()
    for name, facts in pinned["items"].items():
        assert found["items"][name]["coords"] == facts["coords"], name
        # processors and versions of decoders and torch differ in the last digits
        np.testing.assert_allclose(found["items"][name]["embedding"], facts["embedding"], atol=2e-4, err_msg=name)
        np.testing.assert_allclose(found["items"][name]["norm"], facts["norm"], rtol=1e-4, err_msg=name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(_facts(Path(place)), indent=1))  # noqa: T201
