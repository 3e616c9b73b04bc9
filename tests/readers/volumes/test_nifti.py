"""NIfTI, Analyze, MGH, PAR/REC: what the headers say, which files are images, what is refused."""

from __future__ import annotations

import gzip
import shutil
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.testing import data_path
from nifti_factory import RAS, phantom, reordered, write, write_pair

from umedfeat.contract import Collected, Found, Source
from umedfeat.errors import InputError, TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Limits, Policy, VolumePolicy
from umedfeat.readers.volumes import reader as nifti

CODES = ["".join(c) for axes in permutations(("LR", "AP", "IS")) for c in product(*axes)]


def policy(*, modality: str = "", size: int = 24, limits: Limits | None = None, **volume: str) -> Policy:
    return Policy(
        volume=VolumePolicy(modality=modality, **volume), image=ImagePolicy(size=size), limits=limits or Limits()
    )


def collected(*paths: Path, rows: dict[str, dict[str, str]] | None = None, **volume: str) -> Collected:
    found = [Found(path, path.name, (rows or {}).get(path.name, {})) for path in paths]
    for file in found:
        assert nifti.sniff(file.path, file.path.read_bytes()[:4096])
    return nifti.collect(found, policy(**volume), Pseudonyms(b"key"))


def source_of(path: Path, **fields: str) -> Source:
    return Source(path.stem, "nifti", path, (path,), path.name, **fields)


def read(path: Path, how: Policy | None = None, **fields: str):
    """(plan, images) of one file."""
    reader = nifti.open_source(source_of(path, **fields), how or policy())
    try:
        plan = reader.plan()
        return plan, np.stack(reader.read(plan.regions))
    finally:
        reader.close()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return read(write(tmp_path_factory.mktemp("reference") / "a.nii"))


@pytest.mark.parametrize("codes", CODES)
def test_every_axis_order_gives_the_same_slices(tmp_path, reference, codes):
    plan, images = read(write(tmp_path / "a.nii", *reordered(phantom(), RAS, codes)))
    np.testing.assert_array_equal(images, reference[1])
    np.testing.assert_array_equal(plan.regions, reference[0].regions)
    assert plan.spacing == reference[0].spacing and plan.detail["plane"] == "axial"


@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_either_byte_order_either_version_and_gzip_by_content(tmp_path, reference, endian, zipped, kind):
    path = write(tmp_path / "a.nii", endian=endian, zipped=zipped, kind=kind)
    plan, images = read(path)
    np.testing.assert_array_equal(images, reference[1])
    assert plan.format == ("nifti2" if kind is nibabel.Nifti2Image else "nifti")


def test_a_gz_suffix_without_gzip_is_read(tmp_path, reference):
    np.testing.assert_array_equal(read(write(tmp_path / "a.nii.gz", zipped=False))[1], reference[1])


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64", "int64"])
def test_voxel_types(tmp_path, reference, dtype):
    np.testing.assert_array_equal(read(write(tmp_path / "a.nii", phantom().astype(dtype)))[1], reference[1])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "uint32", "uint64"])
def test_small_and_unsigned_types(tmp_path, dtype):
    data = (phantom() // 20 + 52).clip(0, 120).astype(dtype)
    _, images = read(write(tmp_path / "a.nii", data))
    np.testing.assert_array_equal(images, read(write(tmp_path / "b.nii", data.astype("float32")))[1])


def test_slope_and_intercept_are_applied(tmp_path):
    stored = (phantom() + 2000).astype(np.uint16)
    ct = policy(modality="CT")
    plan, images = read(write(tmp_path / "a.nii", stored, slope=(2.0, -4000.0)), ct)
    np.testing.assert_array_equal(images, read(write(tmp_path / "b.nii", phantom() * 2), ct)[1])
    assert plan.modality == "CT"


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_slopes_that_mean_no_scaling(tmp_path, reference, slope):
    path = write(tmp_path / "a.nii", scl_slope=slope, scl_inter=5.0)
    np.testing.assert_array_equal(read(path)[1], reference[1])


def test_a_slope_without_a_sound_intercept_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match=r"a\.nii"):
        read(write(tmp_path / "a.nii", scl_slope=2.0, scl_inter=np.nan))


def test_sform_is_preferred_and_a_disagreement_recorded(tmp_path, reference):
    plan, images = read(write(tmp_path / "a.nii", qform_code=1, qoffset_x=7.0))
    np.testing.assert_array_equal(images, reference[1])
    assert plan.detail["orientation_source"] == "sform"
    assert plan.detail["sform_qform_difference"] > 1
    assert "sform_qform_difference" not in reference[0].detail


def test_qform_where_there_is_no_sform_or_a_broken_one(tmp_path, reference):
    for name, fields in {"none": {"sform_code": 0}, "flat": {"sform_code": 1, "srow_z": [0, 0, 0, 0]}}.items():
        plan, images = read(write(tmp_path / f"{name}.nii", **fields))
        assert plan.detail["orientation_source"] == "qform"
        np.testing.assert_allclose(images, reference[1], atol=1e-6)


def test_without_orientation_it_says_what_was_assumed(tmp_path):
    plan, _ = read(write(tmp_path / "a.nii", sform_code=0, qform_code=0, pixdim=[1, 1, 1, 2.5, 1, 1, 1, 1]))
    assert str(plan.detail["orientation_source"]).startswith("none")
    assert plan.spacing == "2.5\\1\\1"


def test_other_units_become_millimetres(tmp_path, reference):
    in_metres = RAS.copy()
    in_metres[:3] /= 1000
    plan, images = read(write(tmp_path / "a.nii", affine=in_metres, xyzt_units=1))
    np.testing.assert_allclose(plan.regions["position"], reference[0].regions["position"], rtol=1e-5)
    np.testing.assert_allclose(images, reference[1], atol=1e-6)


def test_positions_in_millimetres_lps(reference):
    np.testing.assert_allclose(reference[0].regions["position"], -20 + 2.5 * np.arange(8))


def test_the_declared_slice_direction_decides_where_spacing_does_not(tmp_path):
    data, isotropic = phantom((10, 11, 12)), np.diag([1.0, 1, 1, 1])
    plain, _ = read(write(tmp_path / "a.nii", data, isotropic))
    assert (plain.detail["plane"], plain.detail["slice_axis"]) == ("axial", "axial (isotropic)")
    sagittal, _ = read(write(tmp_path / "b.nii", data, isotropic, dim_info=1 << 4))
    assert (sagittal.detail["plane"], sagittal.depth) == ("sagittal", 10)


def test_planes(tmp_path):
    path = write(tmp_path / "a.nii")
    for plane, depth in {"axial": 8, "coronal": 20, "sagittal": 24}.items():
        plan, images = read(path, policy(plane=plane))
        assert plan.depth == len(images) == depth and plan.detail["plane"] == plane


def test_four_dimensions_need_a_choice(tmp_path):
    data = np.stack([phantom(seed=s) + 50 * s for s in range(3)], axis=-1)
    path = write(tmp_path / "a.nii", data)
    with pytest.raises(UnsupportedInput, match=r"a\.nii.*3 volumes.*--volume-index"):
        read(path)
    for v in range(3):
        plan, images = read(path, policy(volume_index=str(v)))
        np.testing.assert_array_equal(images, read(write(tmp_path / "b.nii", data[..., v]))[1])
        assert plan.detail["volume"] == str(v)
    mean = data.astype(np.float64).mean(axis=-1)
    np.testing.assert_allclose(
        read(path, policy(volume_index="mean"))[1], read(write(tmp_path / "c.nii", mean))[1], atol=1e-6
    )
    with pytest.raises(UnsupportedInput, match="no volume 9"):
        read(path, policy(volume_index="9"))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_all_volumes_become_items_of_their_own(tmp_path, name):
    data = np.stack([phantom(seed=s) for s in range(11)], axis=-1)
    path = write(tmp_path / name, data)
    sources = collected(path, volume_index="all").sources
    assert [s.id for s in sources][:2] == ["a/volume-00", "a/volume-01"] and len(sources) == 11
    hashes = set()
    for v, source in enumerate(sources):
        reader = nifti.open_source(source, policy(volume_index="all"))
        plan = reader.plan()
        hashes.add(plan.part)
        if v in (0, 10):
            np.testing.assert_array_equal(
                np.stack(reader.read(plan.regions)), read(write(tmp_path / "b.nii", data[..., v]))[1]
            )
        reader.close()
    assert len(hashes) == 11


def test_a_single_volume_in_a_fourth_dimension_is_a_volume(tmp_path, reference):
    np.testing.assert_array_equal(read(write(tmp_path / "a.nii", phantom()[..., None]))[1], reference[1])


def test_two_dimensions_are_one_slice(tmp_path):
    assert read(write(tmp_path / "a.nii", phantom()[:, :, 3]))[0].depth == 1


def test_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (24, 24, 3, 3), dtype=np.uint8)
    stored = colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    plan, images = read(write(tmp_path / "a.nii", stored, np.diag([-1.0, -1, 3, 1])))
    np.testing.assert_allclose(images, colours.transpose(2, 1, 0, 3) / 255, atol=1e-6)
    assert plan.detail["voxel_type"] == "rgb"
    alpha = np.full((24, 24, 3, 1), 51, np.uint8)
    stored = np.concatenate([colours, alpha], -1).view([(c, "u1") for c in "RGBA"])[..., 0]
    _, images = read(write(tmp_path / "b.nii", stored, np.diag([-1.0, -1, 3, 1])))
    np.testing.assert_allclose(images, colours.transpose(2, 1, 0, 3) / 255 / 5, atol=1e-6)


def test_complex_voxels_are_refused(tmp_path):
    with pytest.raises(UnsupportedInput, match=r"a\.nii.*complex"):
        read(write(tmp_path / "a.nii", phantom().astype(np.complex64)))


def test_nonfinite_voxels_are_counted_and_black(tmp_path):
    data = phantom().astype(np.float32)
    data[0, 0, :3] = [np.nan, np.inf, -np.inf]
    plan, images = read(write(tmp_path / "a.nii", data))
    assert plan.detail["intensity"]["nonfinite"] == 3
    assert np.isfinite(images).all()


def test_the_display_range_of_the_header_is_the_stored_window(tmp_path):
    how = Policy(image=ImagePolicy(size=24), intensity=IntensityPolicy(window="file"))
    path = write(tmp_path / "a.nii", cal_min=-100.0, cal_max=200.0)
    lo_hi = Policy(image=ImagePolicy(size=24), intensity=IntensityPolicy(window="-100,200"))
    np.testing.assert_allclose(read(path, how)[1], read(path, lo_hi)[1], atol=1e-6)
    with pytest.raises(UnsupportedInput, match="no window"):
        read(write(tmp_path / "b.nii"), how)


def test_the_modality_is_declared_never_guessed(tmp_path):
    path = write(tmp_path / "a.nii")
    undeclared, _ = read(path)
    assert undeclared.modality == "unknown"
    assert "declare modality CT" in undeclared.detail["intensity"]["hint"]
    declared, _ = read(path, modality="ct")
    assert declared.modality == "CT" and declared.detail["intensity"]["window"] == "soft-tissue"
    assert read(path, policy(modality="CT"))[0].modality == "CT"


@pytest.mark.parametrize("zipped", [False, True])
def test_truncated_files_fail(tmp_path, zipped):
    path = write(tmp_path / "a.nii", zipped=zipped)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UnreadableInput, match=r"a\.nii.*(truncated|damaged gzip)"):
        read(path)


def test_a_flipped_bit_in_gzip_fails_instead_of_giving_other_voxels(tmp_path):
    path = write(tmp_path / "a.nii.gz")
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1  # the checksum
    path.write_bytes(raw)
    with pytest.raises(UnreadableInput, match="damaged gzip"):
        read(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"dim": [3, 0, 20, 8, 1, 1, 1, 1]},
        {"dim": [3, -24, 20, 8, 1, 1, 1, 1]},
        {"dim": [9, 24, 20, 8, 1, 1, 1, 1]},
        {"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]},
        {"vox_offset": np.nan},
        {"vox_offset": 10},
        {"vox_offset": 1e30},
        {"datatype": 12345},
        {"datatype": 1},
        {"sform_code": 1, "srow_x": [np.nan] * 4, "qform_code": 0},
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_absurd_headers_fail_with_a_named_error(tmp_path, fields, name):
    path = write(tmp_path / name, **fields)
    try:
        plan, _ = read(path)
    except InputError as error:
        assert "a.nii" in str(error) and str(tmp_path) not in str(error)
    else:
        assert "srow_x" in fields and str(plan.detail["orientation_source"]).startswith("none")


def test_more_voxels_than_the_limit_are_refused(tmp_path):
    with pytest.raises(TooLarge, match="24x20x8"):
        read(write(tmp_path / "a.nii"), policy(limits=Limits(max_voxels=1000)))


def test_pairs_are_one_input_and_their_voxel_file_is_listed(tmp_path, reference):
    header, voxels = write_pair(tmp_path)
    found = collected(header, voxels)
    assert [s.path for s in found.sources] == [header] and found.sources[0].files == (header, voxels)
    assert [(s.name, s.reason) for s in found.skipped] == [("pair.img", "the voxels of pair.hdr")]
    np.testing.assert_array_equal(read(header)[1], reference[1])
    voxels.unlink()
    with pytest.raises(UnreadableInput, match=r"pair\.hdr.*missing"):
        read(header)


def test_analyze(tmp_path):
    header, voxels = write_pair(tmp_path, kind=nibabel.AnalyzeImage)
    assert len(collected(header, voxels).sources) == 1
    plan, images = read(header)
    assert plan.format == "analyze" and len(images) == 8


@pytest.mark.parametrize("name", ["a.mgh", "a.mgz"])
def test_mgh(tmp_path, reference, name):
    nibabel.save(nibabel.MGHImage(phantom(), RAS.astype(np.float32)), tmp_path / name)
    assert len(collected(tmp_path / name).sources) == 1
    plan, images = read(tmp_path / name)
    assert plan.format == "mgh"
    np.testing.assert_allclose(images, reference[1], atol=1e-6)


@pytest.mark.parametrize("stem", ["phantom_EPI_asc_CLEAR_2_1", "phantom_varscale"])
def test_par_rec_equals_nibabel(tmp_path, stem):
    for suffix in (".PAR", ".REC"):
        shutil.copy(Path(data_path) / f"{stem}{suffix}", tmp_path)
    par, rec = tmp_path / f"{stem}.PAR", tmp_path / f"{stem}.REC"
    assert len(collected(par, rec).sources) == 1
    with pytest.raises(UnsupportedInput, match="3 volumes"):
        read(par)
    plan, images = read(par, policy(volume_index="1", size=64))
    assert (plan.format, plan.depth, plan.spacing) == ("parrec", 9, "8\\3.75\\3.75")
    image = nibabel.parrec.load(str(par))
    with rec.open("rb"):
        volume = np.asarray(image.dataobj[..., 1], np.float32)
    image.dataobj.file_like.close()
    write(tmp_path / "same.nii", volume, image.affine)
    np.testing.assert_allclose(images, read(tmp_path / "same.nii", policy(size=64))[1], atol=1e-5)


def test_damaged_par_rec(tmp_path):
    par = tmp_path / "a.PAR"
    shutil.copy(Path(data_path) / "phantom_EPI_asc_CLEAR_2_1.PAR", par)
    with pytest.raises(UnreadableInput, match=r"REC.*missing"):
        read(par)
    (tmp_path / "a.REC").write_bytes(b"\0" * 100)
    with pytest.raises(UnreadableInput, match="100 bytes"):
        read(par, policy(volume_index="0"))


def labels() -> np.ndarray:
    return ((phantom() > 100).astype(np.int16) * 2 + (phantom() > 200)).astype(np.uint8)


def test_a_label_map_beside_its_image_is_skipped_with_the_reason(tmp_path):
    image, segmentation = write(tmp_path / "ct.nii"), write(tmp_path / "seg.nii.gz", labels())
    found = collected(image, segmentation)
    assert [s.path for s in found.sources] == [image]
    assert "label map" in found.skipped[0].reason


def test_a_label_map_with_many_classes_is_known_by_its_flat_regions(tmp_path):
    blocks = np.kron(np.random.default_rng(0).integers(0, 150, (6, 5, 2)), np.ones((4, 4, 4))).astype(np.int16)
    found = collected(write(tmp_path / "ct.nii"), write(tmp_path / "seg.nii", blocks))
    assert [s.id for s in found.sources] == ["ct"]


def test_images_are_not_taken_for_label_maps(tmp_path):
    noisy = (phantom(seed=3) // 20 + 60).clip(0, 255).astype(np.uint8)  # few values, but noise
    found = collected(write(tmp_path / "ct.nii"), write(tmp_path / "t1.nii", noisy))
    assert len(found.sources) == 2 and not found.skipped


def test_what_cannot_be_told_is_embedded(tmp_path):
    alone = collected(write(tmp_path / "seg.nii", labels()))
    assert len(alone.sources) == 1
    other_grid = collected(write(tmp_path / "ct.nii", phantom((10, 10, 5))), write(tmp_path / "seg.nii", labels()))
    assert len(other_grid.sources) == 2
    both = collected(write(tmp_path / "a.nii", labels()), write(tmp_path / "b.nii", labels()))
    assert len(both.sources) == 2


def test_a_header_that_says_label_and_a_manifest_that_says_image(tmp_path):
    path = write(tmp_path / "a.nii", intent_code=1002)
    assert not collected(path).sources
    assert collected(path, rows={"a.nii": {"modality": "MR"}}).sources


def test_cifti_is_not_an_image(tmp_path):
    path = Path(data_path) / "row_major.dconn.nii"
    assert "CIFTI" in collected(path).skipped[0].reason


def test_other_files_are_not_claimed(tmp_path):
    for head in (b"", b"hello", gzip.compress(b"hello" * 200), b"\x1f\x8b\x08", b"\0" * 4096):
        path = tmp_path / "x.bin"
        path.write_bytes(head)
        assert not nifti.sniff(path, head)


def test_scratch_on_disk_equals_memory(tmp_path, reference, monkeypatch):
    monkeypatch.setattr("umedfeat.readers.stacks.spool._IN_MEMORY", 0)
    np.testing.assert_array_equal(read(write(tmp_path / "a.nii.gz"))[1], reference[1])


REAL = {
    "AIL": ("unknown", 67),
    "CT_pitch": ("unknown", 58),
    "FLAIR": ("unknown", 140),
    "anatomical": ("unknown", 25),
    "chris_MRA": ("unknown", 120),
    "ct_perfusion": ("unknown", 15),
    "example_ct_sm": ("unknown", 30),
    "low_res": ("unknown", 3),
}


def test_real_files(data_dir):
    found = collected(*sorted((data_dir / "nifti").iterdir()))
    assert [s.name for s in found.skipped] == ["lesion.nii.gz"]
    planned, refused = {}, {}
    for source in found.sources:
        try:
            reader = nifti.open_source(source, policy())
        except UnsupportedInput as error:
            refused[source.id] = error.message
            continue
        plan = reader.plan()
        planned[source.id] = (plan.modality, plan.depth)
        assert np.isfinite(np.stack(reader.read(plan.regions[:2]))).all()
        reader.close()
    assert REAL.items() <= planned.items()
    assert set(refused) == {"complex", "example4d", "example_nifti2", "test"}
