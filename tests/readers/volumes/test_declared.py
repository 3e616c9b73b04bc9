"""NIfTI that is no picture, and CT whose units were only declared."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from nifti_factory import phantom, write

from umedfeat.contract import Found
from umedfeat.errors import UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Policy, VolumePolicy
from umedfeat.readers.volumes import reader as nifti


def shown(path: Path, **intensity: float) -> tuple[str, np.ndarray]:
    policy = Policy(
        volume=VolumePolicy(modality="CT"), image=ImagePolicy(size=24), intensity=IntensityPolicy(**intensity)
    )
    source = nifti.collect([Found(path, path.name, {})], policy, Pseudonyms(b"key")).sources[0]
    with contextlib.closing(nifti.open_source(source, policy)) as reader:
        plan = reader.plan()
        images = np.stack(reader.read(plan.regions))
    return plan.detail["intensity"]["window"], images  # type: ignore[index,call-overload,return-value]


def test_a_ct_without_air_is_asked_about(tmp_path: Path) -> None:
    """Stored as 0…, where Hounsfield units begin at −1024: windowed blindly, air would be white."""
    told = shown(write(tmp_path / "a.nii.gz", phantom()))
    shifted = write(tmp_path / "b.nii.gz", phantom() + np.int16(1100))
    with pytest.raises(UnsupportedInput, match="no value lies below -200") as caught:
        shown(shifted)
    assert "--hu-offset -1024" in caught.value.remedy
    same = shown(shifted, hu_offset=-1100.0)
    assert same[0] == told[0] == "soft-tissue" and np.allclose(same[1], told[1], atol=1e-6)
    assert shown(shifted, hu_offset=0.0)[0] == "soft-tissue"


@pytest.mark.parametrize(("intent", "what"), [(1007, "a vector field"), (1006, "a displacement field"), (1005, "symm")])
def test_vectors_and_tensors_are_refused_as_what_they_are(tmp_path: Path, intent: int, what: str) -> None:
    path = write(tmp_path / "a.nii.gz", phantom(), intent_code=intent)
    with pytest.raises(UnsupportedInput, match=what):
        shown(path)
