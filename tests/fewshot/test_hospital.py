"""A hospital's tables join by identifiers that no output, log or message ever holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_factory import body, image, save

import umedfeat
from umedfeat.cli import run
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.hospital import LabelTable, is_identifying, named_identifier
from umedfeat.fewshot.cohort.labelled import Labelled
from umedfeat.fewshot.cohort.sources import label_items
from umedfeat.fewshot.cohort.table import read_table
from umedfeat.keys import load_key
from umedfeat.naming import Pseudonyms, normalised

PATIENTS = 10
UID = "1.2.826.0.1.3680043.8.498.77"


def patient_id(k: int) -> str:
    return f"00{7310550000 + k}"


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT slice and a film of ten patients, as an archive exports them, and their features."""
    folder = tmp_path_factory.mktemp("pacs")
    (folder / "key").write_text("a fixed key of the test suite")
    (folder / "key").chmod(0o600)
    for k in range(PATIENTS):
        tags = {"PatientID": patient_id(k), "AccessionNumber": f"ACC{5500 + k}", "PatientName": f"Canary^Bird{k}"}
        for number, modality in enumerate(("CT", "DX")):
            noise = np.random.default_rng(k).integers(0, 60, (32, 32))  # no two images are alike
            pixels = (body(40 * (k % 2)) + noise).astype(np.int16 if modality == "CT" else np.uint16)
            uids = {"StudyInstanceUID": f"{UID}.{k}", "SeriesInstanceUID": f"{UID}.{k}.{number}"}
            save(image(modality, pixels, **tags, **uids), folder / "DICOM" / f"{k:04d}" / f"I{number}")
    choice, pseudonyms = EncoderChoice("efficientnet-lite0", device="cpu"), Pseudonyms(load_key(folder / "key"))
    umedfeat.extract(folder / "DICOM", folder / "f.h5", encoder=choice, pseudonyms=pseudonyms)
    return folder


def table_of(export: Path, column: str, values: list[str], name: str = "labels.csv", extra: str = "") -> LabelTable:
    rows = [f"{value},{'pos' if k % 2 else 'neg'}{extra}" for k, value in enumerate(values)]
    (export / name).write_text("\n".join([f"{column},label{',PatientName' * bool(extra)}", *rows]) + "\n")
    return LabelTable(export / name, "", export / "key")


def labelled(export: Path, given: LabelTable, unmatched: str = "stop") -> Labelled:
    return label_items(read_table(export / "f.h5"), labels=given, unmatched=unmatched)


SPELLED = {
    "PatientID": [patient_id(k) for k in range(PATIENTS)],
    "patient id": [f"{7310550000 + k}.0" for k in range(PATIENTS)],
    "Patient_ID": [f"  000{7310550000 + k} " for k in range(PATIENTS)],
    "AccessionNumber": [f"ACC{5500 + k}" for k in range(PATIENTS)],
    "StudyInstanceUID": [f"{UID}.{k}" for k in range(PATIENTS)],
}


@pytest.mark.parametrize("column", SPELLED)
def test_one_row_describes_every_item_of_its_patient(export: Path, column: str) -> None:
    found = labelled(export, table_of(export, column, SPELLED[column]))
    assert found.labels.tolist() == [("pos" if k % 2 else "neg") for k in range(PATIENTS) for _ in range(2)]
    assert set(found.meta["modality"].tolist()) == {"CT", "DX"}


def test_series_are_items_of_their_own(export: Path) -> None:
    found = labelled(export, table_of(export, "SeriesInstanceUID", [f"{UID}.{k}.1" for k in range(PATIENTS)]), "skip")
    assert set(found.meta["modality"].tolist()) == {"DX"} and len(found.items) == PATIENTS
    assert found.left_out == "10 items without label row"


def test_unmatched_rows_and_items_are_counted_and_no_value_is_told(export: Path) -> None:
    values = [*SPELLED["AccessionNumber"][:-1], "ACC-SECRET"]
    given = table_of(export, "AccessionNumber", values)
    with pytest.raises(CohortError) as caught:
        labelled(export, given)
    assert "1 of 10 rows match no item by AccessionNumber, and 2 of 20 items no row (lines 11)" in str(caught.value)
    assert "ACC" not in str(caught.value).replace("AccessionNumber", "")
    found = labelled(export, given, "skip")
    assert found.left_out == "1 label rows without item, 2 items without label row"


def test_two_rows_of_one_identifier_are_refused(export: Path) -> None:
    given = table_of(export, "PatientID", [*SPELLED["PatientID"], f"{7310550000}.0"])
    with pytest.raises(CohortError, match="lines 2 and 12 have the same PatientID"):
        labelled(export, given)


@pytest.mark.parametrize("spelled", ["'{}", '"=""{}"""'], ids=["quote", "formula"])
def test_texts_as_spreadsheets_hold_them_are_matched(export: Path, spelled: str) -> None:
    values = [spelled.format(patient_id(k)) for k in range(PATIENTS)]
    assert len(labelled(export, table_of(export, "PatientID", values)).items) == 2 * PATIENTS


@pytest.mark.parametrize("text", ["7.31E+09", '"7,31E+09"'])
def test_a_number_that_a_spreadsheet_has_rounded_is_refused(export: Path, text: str) -> None:
    """Two patients would become one, and keeping one row of each identifier would keep a wrong label."""
    with pytest.raises(CohortError, match="line 2: a spreadsheet has rounded the PatientID") as caught:
        labelled(export, table_of(export, "PatientID", [text] * 2))
    assert "7.31" not in str(caught.value)


def test_blank_rows_and_utf_16_are_read_and_shifted_cells_refused(export: Path) -> None:
    given = table_of(export, "PatientID", SPELLED["PatientID"])
    text = given.path.read_text().replace("\n", "\n,\n", 1) + ",\n"
    given.path.write_text(text, encoding="utf-16")
    assert len(labelled(export, given).items) == 2 * PATIENTS
    given.path.write_text(text.replace(",pos", ",0,5,pos"))  # a comma of decimals moves the label
    with pytest.raises(CohortError, match="line 4: more cells than the 2 columns"):
        labelled(export, given)
    given.path.write_text(text.replace(",pos", ',"pos', 1))
    with pytest.raises(CohortError, match="the table cannot be read"):
        labelled(export, given)


def test_another_key_is_told(export: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("another fixed key of the test suite")
    (tmp_path / "other").chmod(0o600)
    given = table_of(export, "PatientID", SPELLED["PatientID"])
    with pytest.raises(CohortError, match="another key") as caught:
        labelled(export, given._replace(id_key=tmp_path / "other"))
    assert "--id-key" in caught.value.remedy


def test_columns_are_found_by_their_names_or_asked_for() -> None:
    columns = ["Patient-ID", "accession no", "label"]
    found = named_identifier(columns, "", "t.csv")
    assert found is not None and found[0] == "accession no" and found[1].keyword == "AccessionNumber"
    assert named_identifier(columns, "PatientID", "t.csv")[0] == "Patient-ID"  # type: ignore[index]
    assert named_identifier(["a", "b"], "", "t.csv") is None
    with pytest.raises(CohortError, match="no column 'StudyInstanceUID'"):
        named_identifier(columns, "StudyInstanceUID", "t.csv")
    with pytest.raises(CohortError, match="no identifier"):
        named_identifier(columns, "label", "t.csv")
    assert is_identifying("Patient's Name") and is_identifying("DOB") and not is_identifying("age")


def test_spellings_of_one_identifier_have_one_pseudonym() -> None:
    pseudonyms = Pseudonyms(b"a key of the tests")
    assert len({pseudonyms.of(text) for text in ("0042", "42", " 42 ", "42.0", "42.00", "42\0")}) == 1
    assert pseudonyms.of("MRN007") != pseudonyms.of("MRN7")
    assert normalised("000") == "0" and normalised("1.2.840.0") == "1.2.840.0" and normalised("a  b ") == "a b"
    assert Pseudonyms(b"", keep=True).of(" 0042 ") == "0042"


def test_from_the_table_to_the_report_without_a_trace(
    export: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No identifier of the table or of the images in any output, on the screen or in the log."""
    given = table_of(export, "AccessionNumber", SPELLED["AccessionNumber"], extra=",Canary^Bird")
    arguments = ["-f", str(export / "f.h5"), "--labels", str(given.path), "--id-key", str(export / "key")]
    options = ["--fraction", "100%", "--bootstrap", "100", "-o", str(export / "out")]
    assert run(["info", str(export / "f.h5"), "--items", str(export / "items.csv")]) == 0
    assert run(["probe", *arguments, *options]) == 0
    told = "".join(capsys.readouterr()) + caplog.text
    assert "patients have items of several modalities (CT, DX)" in told
    written = [path for path in [*(export / "out").rglob("*"), export / "items.csv", export / "f.h5"] if path.is_file()]
    assert any(path.name == "report.html" for path in written)
    for canary in ("Canary", "ACC55", "731055", UID):
        assert canary not in told.replace(str(export), ""), canary
        assert not [path.name for path in written if canary.encode() in path.read_bytes()], canary


def test_the_table_of_items_can_be_filled_in_and_read(export: Path, tmp_path: Path) -> None:
    assert run(["info", str(export / "f.h5"), "--items", str(tmp_path / "items.csv")]) == 0
    lines = (tmp_path / "items.csv").read_text().splitlines()
    filled = [lines[0], *(line + ("pos" if k % 4 > 1 else "neg") for k, line in enumerate(lines[1:]))]
    (tmp_path / "items.csv").write_text("\n".join(filled))
    found = label_items(read_table(export / "f.h5"), labels=tmp_path / "items.csv")
    assert len(found.items) == 2 * PATIENTS
    assert run(["info", str(export / "f.h5"), "--items", str(tmp_path / "items.csv")]) == 2


def test_the_drawn_pacs_joins_each_of_its_tables(shared_dir: Path, tmp_path: Path) -> None:
    case = shared_dir / "cases" / "pacs"
    if not case.is_dir():
        pytest.skip("no drawn cases")
    (tmp_path / "key").write_text("a fixed key of the test suite")
    (tmp_path / "key").chmod(0o600)
    choice, pseudonyms = EncoderChoice("efficientnet-lite0", device="cpu"), Pseudonyms(load_key(tmp_path / "key"))
    umedfeat.extract(case / "DICOM", tmp_path / "f.h5", encoder=choice, pseudonyms=pseudonyms)
    for name in ("patient", "accession", "study"):
        given = LabelTable(case / f"labels_{name}.csv", "", tmp_path / "key")
        found = label_items(read_table(tmp_path / "f.h5"), labels=given)
        assert len(found.items) == 24 and found.left_out == ""
