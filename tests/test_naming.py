"""No identifier leaves a reader: unique canaries in every text tag, searched for in every byte that a run writes."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from dicom_factory import body, image, save
from nifti_factory import phantom, write
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from slide_factory import tissue_like, write_slide

from umedfeat.cli import run
from umedfeat.discovery import discover
from umedfeat.errors import SetupError
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.store import FeatureFile

ENCODER = ["--encoder", "efficientnet-lite0", "--device", "cpu", "--workers", "1"]
SECRET = b"a secret of the privacy tests"

#: Text VRs of PS3.5 and how a legal, unmistakable value is made of a number.
TEXT = {
    "AE": "QZ{0:06d}AE",
    "AS": "{1:03d}Y",
    "CS": "QZ{0:06d}CS",
    "DA": "1{1:03d}0704",
    "DT": "1{1:03d}0704131719.{0:06d}",
    "LO": "QZ{0:06d}LO",
    "LT": "QZ{0:06d}LT",
    "PN": "QZ{0:06d}Family^QZ{0:06d}Given",
    "SH": "QZ{0:06d}SH",
    "ST": "QZ{0:06d}ST",
    "TM": "131719.{0:06d}",
    "UC": "QZ{0:06d}UC",
    "UI": "1.2.826.0.1.3680043.8.498.777{0:06d}777",
    "UR": "http://example.org/QZ{0:06d}",
    "UT": "QZ{0:06d}UT",
}
#: Every canary but ages (four characters are found in any megabyte).
SONG = re.compile(
    rb"QZ\d{4}|QZ(?:MODALITY|IMAGETYPE|PHOTOMETRIC|CHARSET|RESCALE|SHAPE|VIEW|LATE|SPOI|USER)"
    rb"|1\d{3}0704|131719\.|1\.2\.826\.0\.1\.3680043\.8\.498\.777",
    re.IGNORECASE,
)
#: Without these a file is no image; each is planted in a file of its own (see ``STRUCTURAL``).
NEEDED = {
    "SOPClassUID", "Modality", "PhotometricInterpretation", "ImageType", "SpecificCharacterSet",
    "PresentationLUTShape", "RescaleType", "TransferSyntaxUID",
}  # fmt: skip
STRUCTURAL = {
    "Modality": "QZMODALITY",
    "ImageType": ["DERIVED", "SECONDARY", "QZIMAGETYPE"],
    "PhotometricInterpretation": "QZPHOTOMETRIC",
    "SpecificCharacterSet": "ISO_IR 100",
    "RescaleType": "QZRESCALE",
    "PresentationLUTShape": "QZSHAPE",
    "ViewPosition": "QZVIEW",
    "Laterality": "QZLATE",
    "SOPClassUID": "1.2.826.0.1.3680043.8.498.77700000778",
}


class Canaries:
    """Makes one value after another."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, vr: str) -> str:
        self.number += 1
        return TEXT[vr].format(self.number, self.number % 1000)


def everything(canary: Canaries, dataset: Dataset) -> Dataset:
    """Plant a canary in every text element of the standard's dictionary, in private ones and in sequences."""
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in TEXT and keyword and keyword not in NEEDED and tag >> 16 > 2 and not _is_repeated(tag):
            dataset.add_new(tag, vr, canary(vr))
    for tag, vr in ((0x60001500, "LO"), (0x60000022, "LO"), (0x60020022, "LO"), (0x60020040, "CS")):
        dataset.add_new(tag, vr, canary(vr))
    for tag, vr in ((0x50002500, "LO"), (0x50000022, "LO"), (0x50000030, "SH")):  # curves
        dataset.add_new(tag, vr, canary(vr))
    block = dataset.private_block(0x0029, canary("LO"), create=True)
    for number, vr in enumerate(TEXT):
        block.add_new(number, vr, canary(vr))
    for keyword in ("OtherPatientIDsSequence", "RequestAttributesSequence", "ReferencedImageSequence"):
        inner, innermost = Dataset(), Dataset()
        innermost.PatientName, innermost.InstitutionName = canary("PN"), canary("LO")
        inner.PatientID, inner.AccessionNumber, inner.ReferencedSOPInstanceUID = (
            canary("LO"),
            canary("SH"),
            canary("UI"),
        )
        inner.OtherPatientIDsSequence = [innermost]
        setattr(dataset, keyword, [inner])
    dataset.PatientID = canary("LO")
    dataset.file_meta.ImplementationVersionName = canary("SH")
    dataset.file_meta.SourceApplicationEntityTitle = canary("AE")
    dataset.file_meta.ImplementationClassUID = canary("UI")
    dataset.file_meta.PrivateInformationCreatorUID = canary("UI")
    dataset.file_meta.PrivateInformation = canary("LO").encode()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _is_repeated(tag: int) -> bool:
    return tag in {0x00081150, 0x0008001A} or tag >> 16 in {0x5000, 0x6000, 0x7FE0}


def place(canary: Canaries, folder: Path, dataset: Dataset, name: str = "") -> Path:
    """Where archives would put it: folders and files named after patient, accession number, birth and UIDs."""
    patient = f"{dataset.PatientID}-{str(dataset.PatientName).replace('^', '_')}"
    study = f"{dataset.AccessionNumber} {dataset.PatientBirthDate} {dataset.StudyInstanceUID}"
    return folder / patient / study / (name or f"{dataset.SOPInstanceUID}.dcm")


def dicom_files(canary: Canaries, folder: Path) -> None:
    """Sound files and every way of ending as failed or skipped."""
    pixels = body(3).astype(np.uint16)
    for k in range(2):
        film = everything(canary, image("DX", pixels + np.uint16(k)))
        save(film, place(canary, folder, film))
    series = canary("UI")
    for k in range(3):
        slice_ = everything(canary, image("CT", body(k)))
        slice_.SeriesInstanceUID = series
        slice_.ImageOrientationPatient, slice_.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 5.0 * k]
        slice_.PixelSpacing = [1, 1]
        save(slice_, place(canary, folder / "ct", slice_))
    for name, value in STRUCTURAL.items():
        odd = everything(canary, image("CT", body(1)))
        setattr(odd, name, value)
        odd.file_meta.MediaStorageSOPClassUID = odd.SOPClassUID
        path = save(odd, place(canary, folder, odd))
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"QZCHARSET "))
    for name in ("RescaleSlope", "NumberOfFrames", "Rows", "PixelSpacing", "WindowCenter", "EchoTime"):
        odd = everything(canary, image("CT", body(1), RescaleSlope=2, NumberOfFrames=2, WindowCenter=3, EchoTime=4))
        odd.PixelSpacing = [1, 1]
        path = save(odd, place(canary, folder, odd))
        _spoil(path, pydicom.datadict.tag_for_keyword(name) or 0)
    dicom_slides(canary, folder / "slides")
    damaged(canary, folder)


def dicom_slides(canary: Canaries, folder: Path) -> None:
    """Whole slides that OpenSlide refuses (its message quotes the file) and a label; each named after its patient."""
    for kind in (["ORIGINAL", "PRIMARY", "VOLUME"], ["ORIGINAL", "PRIMARY", "LABEL"]):
        slide = everything(canary, image("CT", body(1)))
        slide.SOPClassUID = slide.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
        slide.ImageType = kind
        save(slide, place(canary, folder, slide))


def _spoil(path: Path, tag: int) -> None:
    """A text in place of a number."""
    raw = bytearray(path.read_bytes())
    start = raw.find((tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little"), 132) + 8
    length = int.from_bytes(raw[start - 2 : start], "little")
    raw[start : start + length] = b"QZSPOILT"[:length]
    path.write_bytes(raw)


def damaged(canary: Canaries, folder: Path) -> None:
    """Cut, truncated, bare, unknown: what a run lists with names."""
    for kind in ("cut", "truncated", "bare", "transfer", "report", "scout", "copy", "constant"):
        dataset = everything(canary, image("CT", body(1)))
        if kind == "truncated":
            dataset.PixelData = dataset.PixelData[:100]
        if kind == "report":
            dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        if kind == "scout":
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        if kind == "constant":
            dataset.PixelData = bytes(len(dataset.PixelData))
        path = save(dataset, place(canary, folder, dataset))
        raw = path.read_bytes()
        if kind == "cut":
            path.write_bytes(raw[:9000])
            (path.parent / "whole.dcm").write_bytes(raw)
        if kind == "bare":
            path.write_bytes(raw[132:])
        if kind == "transfer":
            path.write_bytes(raw.replace(b"1.2.840.10008.1.2.1\0", b"1.2.826.0.1.368004\0\0"))
        if kind == "copy":
            (path.parent / "again.dcm").write_bytes(raw)


def other_files(canary: Canaries, folder: Path) -> None:
    """Volumes, flat images and a slide with text wherever the formats hold any."""
    folder.mkdir(parents=True)
    texts = {"descrip": canary("LO"), "intent_name": canary("SH"), "aux_file": canary("LO"), "db_name": canary("SH")}
    write(folder / "sound.nii", **texts)
    write(folder / "four.nii", np.stack([phantom(), phantom()], -1), **texts)
    write(folder / "cut.nii", **texts)
    (folder / "cut.nii").write_bytes((folder / "cut.nii").read_bytes()[:2000])
    extended = nibabel.Nifti1Image(phantom(), np.eye(4))
    for code in (2, 4, 6, 44):
        extended.header.extensions.append(
            nibabel.nifti1.Nifti1Extension(6 if code == 2 else code, canary("UT").encode())
        )
    nibabel.save(extended, folder / "extended.nii")
    with (folder / "named.nii.gz").open("wb") as raw_stream, gzip.GzipFile(canary("LO"), "wb", 1, raw_stream) as stream:
        stream.write((folder / "sound.nii").read_bytes())
    flat_images(canary, folder)
    pixels = tissue_like(600, 700)
    write_slide(folder / "slide.svs", pixels, 0.5, levels=1, flavour="svs", compression=None)
    raw = (folder / "slide.svs").read_bytes()
    assert b"Image Library v11" in raw
    (folder / "slide.svs").write_bytes(raw.replace(b"Image Library v11", b"Im|User=QZUSER|x=", 1))


def flat_images(canary: Canaries, folder: Path) -> None:
    picture = Image.fromarray(tissue_like(60, 70))
    exif = Image.Exif()
    for tag in (270, 271, 272, 305, 315, 33432, 37510):
        exif[tag] = canary("LO")
    texts = PngInfo()
    texts.add_text("Patient", canary("LO"))
    texts.add_itxt("Comment", canary("UT"))
    texts.add_text("Zipped", canary("UT"), zip=True)
    picture.save(folder / "text.png", pnginfo=texts, exif=exif)
    picture.save(folder / "text.jpg", exif=exif, comment=canary("LO").encode())
    picture.save(folder / "text.webp", exif=exif)
    tifffile.imwrite(
        folder / "text.tif",
        np.asarray(picture),
        description=canary("LT"),
        software=canary("LO"),
        extratags=[(tag, "s", 0, canary("LO"), True) for tag in (269, 285, 315, 316, 33432)],
    )
    for name in ("text.png", "text.jpg", "text.webp", "text.tif"):
        (folder / name).rename(folder / name.replace("text", name[-3:] + "-text"))
        name = name.replace("text", name[-3:] + "-text")
        (folder / f"cut-{name}").write_bytes((folder / name).read_bytes()[: (folder / name).stat().st_size * 2 // 3])


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file and file name under a folder; strings of HDF5 files as text too, whatever their filters."""
    for path in sorted(folder.rglob("*")):
        yield f"the name {path.name}", path.name.encode()
        if not path.is_file():
            continue
        raw = path.read_bytes()
        yield path.name, raw
        if path.suffix == ".html":
            for block in re.findall(rb"base64,([A-Za-z0-9+/=]+)", raw):
                yield f"a picture in {path.name}", base64.b64decode(block)
        if raw[:8] == b"\x89HDF\r\n\x1a\n":
            yield f"the strings of {path.name}", "\n".join(_strings(path)).encode()


def _strings(path: Path) -> Iterator[str]:
    with h5py.File(path) as file:
        found: list[Any] = []
        file.visititems(lambda name, node: found.append((name, node)))
        for name, node in [("/", file), *found]:
            yield name
            yield from (f"{key}={value!r}" for key, value in node.attrs.items())
            if isinstance(node, h5py.Dataset) and node.dtype.kind in "OSV":
                yield repr(np.asarray(node[()]).tolist())


def leaks(name: str, raw: bytes) -> list[str]:
    return [
        f"{match.group().decode()} in {name}: …{raw[max(0, match.start() - 60) : match.end() + 40]!r}"
        for match in SONG.finditer(raw)
    ]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "id-key"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(path))
    return path


def test_no_text_of_any_tag_reaches_an_output(tmp_path: Path, key: Path, capfd: pytest.CaptureFixture[str]) -> None:
    canary, out = Canaries(), tmp_path / "out"
    out.mkdir()
    dicom_files(canary, tmp_path / "in")
    other_files(canary, tmp_path / "in" / "others")
    features, source = str(out / "f.h5"), str(tmp_path / "in")
    extract = ["extract", "--input", source, "--out", features, *ENCODER, "--preview", str(out / "look")]
    assert run([*extract, "-vv", "--log-json"]) == 1
    assert run([*extract, "--overwrite", "--on-error", "continue", "--force", "--include-derived", "-vv"]) == 1
    assert run(["extract", "--input", source, *ENCODER, "--dry-run"]) == 1
    assert run(["preview", source, "--out", str(out / "preview"), "--geojson", "--workers", "1"]) == 1
    for option in ("--items", "--failures", "--skipped", "--dropped", "--json"):
        assert run(["info", features, option]) == 0
    for layout in ("clam", "trident", "stamp", "pt"):
        assert run(["export", features, "--layout", layout, "--out", str(out / layout)]) == 0
    assert run([*extract[:4], str(out / "stopped.h5"), *ENCODER, "--on-error", "stop", "-vv"], debug=True) == 1
    with FeatureFile(features) as file:
        assert {"CT", "DX", "WSI", "photo", "unknown"} <= set(file.items["modality"])
    printed = capfd.readouterr()
    texts = [("stdout", printed.out.encode()), ("stderr", printed.err.encode()), *written(out)]
    found = [leak for name, raw in texts for leak in leaks(name, raw)]
    assert not found, "\n".join(found[:20])
    assert not [name for name, raw in texts if SECRET in raw]


def test_a_study_of_patients_of_a_manifest_tells_none_of_them(
    tmp_path: Path, key: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    canary, rows, out = Canaries(), ["path,patient,label"], tmp_path / "out"
    out.mkdir()
    for k in range(12):
        film = image("DX", (body(k) + 3 * k * np.eye(32)).astype(np.uint16))
        film.PatientID, film.PatientName = canary("LO"), canary("PN")
        path = save(film, tmp_path / "in" / str(film.PatientID) / f"{k}.dcm")
        rows.append(f"{path},{canary('LO')},{'ab'[k % 2]}")
    (tmp_path / "study.csv").write_text("\n".join(rows))
    features = str(out / "f.h5")
    assert run(["extract", "--input", str(tmp_path / "study.csv"), "--out", features, *ENCODER, "-vv"]) == 0
    study = ["--fraction", "0.5", "--repeats", "2", "--bootstrap", "100", "--classifier", "knn", "--jobs", "1"]
    assert run(["probe", "--features", features, *study, "--out", str(out / "probe")]) == 0
    assert (out / "probe").is_dir()
    printed = capfd.readouterr()
    texts = [("stdout", printed.out.encode()), ("stderr", printed.err.encode()), *written(out)]
    assert not [leak for name, raw in texts for leak in leaks(name, raw)]
    with FeatureFile(features) as file:
        assert len(set(file.items["patient"])) == 12
        assert Pseudonyms(SECRET).of("QZ000003LO") in file.items["patient"]  # the manifest's, not the header's


def test_the_search_finds_what_is_planted() -> None:
    canary = Canaries()
    for vr in set(TEXT) - {"AS"}:
        assert leaks("here", b"before" + canary(vr).encode() + b"after"), vr
    assert leaks("here", b"qzphotometric") and not leaks("here", b"QZ, 1984 and 13:17")


def test_keep_ids_warns_and_keeps_them(tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = image("DX", body(3).astype(np.uint16))
    save(film, tmp_path / "in" / "ID-4711" / "film.dcm")
    extract = ["extract", "--input", str(tmp_path / "in"), *ENCODER, "--progress", "none"]
    assert run([*extract, "--out", str(tmp_path / "keyed.h5")]) == 0
    assert "--keep-ids" not in capsys.readouterr().err
    assert run([*extract, "--out", str(tmp_path / "kept.h5"), "--keep-ids"]) == 0
    assert "WARNING: --keep-ids stores patient and study identifiers readable" in capsys.readouterr().err
    with FeatureFile(tmp_path / "kept.h5") as kept, FeatureFile(tmp_path / "keyed.h5") as keyed:
        assert kept.items["patient"].tolist() == ["ID-4711"]
        assert kept.items["study"].tolist() == [film.StudyInstanceUID]
        assert list(kept.ids) == ["ID-4711/film"]
        assert keyed.items["patient"].tolist() == [Pseudonyms(SECRET).of("ID-4711")]
        assert "4711" not in keyed.ids[0]


def test_the_same_key_gives_the_same_pseudonyms_and_another_key_others() -> None:
    ours, again, theirs = Pseudonyms(b"a" * 16), Pseudonyms(b"a" * 16), Pseudonyms(b"b" * 16)
    assert ours.of("4711") == again.of("4711") == ours.of(" 4711 ")
    assert ours.of("4711") != theirs.of("4711")
    assert ours.of("4711") != ours.of("4711", kind="study")
    assert re.fullmatch("[0-9a-f]{16}", ours.of("4711"))
    assert ours.of("") == ours.of("  ") == ""
    assert Pseudonyms(b"a" * 16, keep=True).of("4711") == "4711"


def test_a_key_must_be_there_and_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UMEDFEAT_ID_KEY", raising=False)
    short = tmp_path / "short"
    short.write_bytes(b"fifteen bytes..")
    for path, told in ((tmp_path / "missing", "no key"), (short, "needs 16 bytes, this has 15"), (tmp_path, "no key")):
        with pytest.raises(SetupError, match=told) as caught:
            load_key(path)
        assert "--id-key" in caught.value.remedy
        assert "fifteen" not in str(caught.value)
    short.write_bytes(b"  sixteen bytes ...\n")
    assert load_key(short) == b"sixteen bytes ..."
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(tmp_path / "missing"))
    with pytest.raises(SetupError, match="no key"):
        load_key()


def test_the_users_own_key_is_made_once_and_readable_by_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UMEDFEAT_ID_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = load_key()
    assert len(made) == 64 and load_key() == made
    assert (tmp_path / "umedfeat" / "id-key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "umedfeat").iterdir()] == ["id-key"]


def test_a_key_that_others_can_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "id-key"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    load_key(path)
    assert not caplog.records
    path.chmod(0o644)
    load_key(path)
    assert "can be read by others" in caplog.text and SECRET.decode() not in caplog.text


def test_neighbours_of_dicom_files_lose_the_identifiers_of_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "Canary_Bird-ID-4711" / "series"
    save(image("DX", body(3).astype(np.uint16)), folder / "film.dcm")
    Image.new("RGB", (8, 8)).save(folder / "photo.png")
    (folder.parent / "notes.txt").write_text("nothing")
    (folder / "lost.dcm").write_bytes(b"")
    (tmp_path / "in" / "elsewhere.txt").write_text("nothing")
    found = discover([tmp_path / "in"], Policy(), Pseudonyms(SECRET))
    everything_told = repr((found.skipped, found.failures, [(s.id, s.name) for s in found.sources]))
    for part in ("Canary", "Bird", "4711"):
        assert part not in everything_told
    assert "elsewhere.txt" in everything_told
    assert len({name.rpartition("/")[0] for name in (s.name for s in found.sources)}) == 1
    kept = discover([tmp_path / "in"], Policy(), Pseudonyms(SECRET, keep=True))
    assert {s.id for s in kept.sources} == {f"Canary_Bird-ID-4711/series/{name}" for name in ("film", "photo")}
