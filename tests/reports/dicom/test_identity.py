"""The patient's identity: kept in the DICOM objects, shown nowhere else."""

import logging
import warnings

import pytest
from custom_components.dicom.identifiers import MAY_BE_EMPTY
from custom_components.reports.dicom.objects import write_dicom_objects
from custom_components.reports.scan.findings import ScanFindings
from pydicom import config, dcmread

from tests.reports.dicom.scans import findings_of, series_files

# The name has no caret; DICOM does not know the date and the sex.
IDENTITY = {
    "PatientName": "Fëatherstonehaugh",
    "PatientID": "ID-4711-" + "9" * 70,
    "PatientBirthDate": "1931.02.30",
    "PatientSex": "UNK",
    "PatientComments": "allergic to Featherstone",
    "OtherPatientNames": "Othername",
    "AccessionNumber": "ACC-NUMBER-LONGER-THAN-IT-MAY-BE",
    "ReferringPhysicianName": "Doctorow",
    "StudyDate": "20.04.2020",
    "SpecificCharacterSet": "ISO_IR 192",
}


@pytest.fixture
def identified(tmp_path) -> ScanFindings:
    with config.disable_value_validation():
        return findings_of(series_files(tmp_path / "ct", **IDENTITY))


def test_the_identity_is_copied_into_dicom_unchanged(identified, tmp_path):
    paths = write_dicom_objects(identified, tmp_path / "out")
    with config.disable_value_validation():
        for path in paths.values():
            made = dcmread(path)
            assert {name: str(made[name].value) for name in IDENTITY} == IDENTITY


def test_the_identity_is_shown_nowhere_else(identified, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        paths = write_dicom_objects(identified, tmp_path / "out")
    said = [caplog.text, *map(str, caught), *map(str, paths), *capfd.readouterr()]
    for value in IDENTITY.values():
        assert value not in "\n".join(said)
    assert [record for record in caplog.records if record.name.startswith("highdicom")] == []


def test_an_unreadable_patient_attribute_is_reported_by_the_case_only(tmp_path):
    folder = series_files(tmp_path / "ct", PregnancyStatus=17)
    for path in folder.iterdir():
        whole, broken = b"\x10\x00\xc0\x21US\x02\x00", b"\x10\x00\xc0\x21FL\x02\x00"  # a float of 2 bytes
        assert path.read_bytes().count(whole) == 1
        path.write_bytes(path.read_bytes().replace(whole, broken))
    message = r"^Case 012: patient and study attributes of 0\.dcm cannot be read\."
    with pytest.raises(ValueError, match=message) as caught:
        write_dicom_objects(findings_of(folder), tmp_path / "out")
    assert caught.value.__suppress_context__
    assert not list((tmp_path / "out").iterdir())


def test_a_name_in_japanese_is_kept(tmp_path):
    sets = ["ISO 2022 IR 6", "ISO 2022 IR 87"]
    name = "Yamada^Tarou=山田^太郎"
    findings = findings_of(series_files(tmp_path / "ct", SpecificCharacterSet=sets, PatientName=name))
    for path in write_dicom_objects(findings, tmp_path / "out").values():
        made = dcmread(path)
        assert (str(made.PatientName), list(made.SpecificCharacterSet)) == (name, sets)


def test_a_source_without_patient_attributes_gets_empty_ones(tmp_path):
    folder = series_files(tmp_path / "ct", PatientName=None, PatientID=None)
    for path in folder.iterdir():
        image = dcmread(path)
        del image.StudyDate, image.StudyTime, image.StudyID
        image.save_as(path)
    for path in write_dicom_objects(findings_of(folder), tmp_path / "out").values():
        made = dcmread(path)
        assert [name for name in MAY_BE_EMPTY if made[name].value] == []


def test_derived_identifiers_of_a_series_are_the_same_each_time(tmp_path):
    findings = findings_of(series_files(tmp_path / "ct", FrameOfReferenceUID=None))
    made = [dcmread(write_dicom_objects(findings, tmp_path / out)["segmentation"]) for out in ("one", "other")]
    assert made[0].FrameOfReferenceUID == made[1].FrameOfReferenceUID
    assert made[0].FrameOfReferenceUID.startswith("2.25.")
