"""Each row of docs/bad_input_dicom.md: what is done with a folder of hostile or broken DICOM files."""

import re
from pathlib import Path

import numpy as np
import pytest
from custom_components.datalists.slices import list_cases
from custom_components.diagnosis.queue import scan_sources
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.images.ct_reader import CTReader
from pydicom import dcmread

from tests.bad_input.broken_series import EXPECTED_HU, HU, SIZE, SPOIL, files
from tests.bundles.conftest import ROOT, digests

IDENTITY = ("secret", "person", "id-secret")
READ = "read"
LINES = re.findall(
    r"^\| (.+) \| (.+) \| (.+) \| `(\w+)` \|$", (ROOT / "docs/bad_input_dicom.md").read_text(encoding="utf-8"), re.M
)
# By name, what each program does: "read", or words of its message.
ROWS = {name: {"inference": one.strip("`"), "diagnose": two.strip("`")} for _, one, two, name in LINES}


def read_for_inference(folder: Path) -> np.ndarray:
    """As the inference of covid_seg_bundle lists and loads a folder."""
    (case,) = list_cases(folder, require_labels=False, check_files=False)
    reader = CTReader()
    return reader.get_data(reader.read(case["image"]))[0]


def read_for_diagnose(folder: Path) -> np.ndarray:
    (source,) = scan_sources(folder)
    return source.image()[0].numpy()


PROGRAMS = {"inference": read_for_inference, "diagnose": read_for_diagnose}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", ROWS)
def test_a_folder_is_read_or_refused_with_a_message(name, program, tmp_path, caplog, recwarn):
    place, words = tmp_path / "in" / "scan", ROWS[name][program]
    place.parent.mkdir()
    SPOIL[name](place)
    before, warned_before = digests(tmp_path), len(recwarn)
    caplog.clear()
    message = ""
    if words == READ:
        np.testing.assert_array_equal(PROGRAMS[program](place), EXPECTED_HU.get(name, HU))
    else:
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            PROGRAMS[program](place)
        message = str(caught.value)
        assert all(line.isprintable() and len(line) < 1000 for line in message.splitlines())
    warnings = " ".join(str(one.message) for one in recwarn.list[warned_before:])
    assert not [part for part in IDENTITY if part in f"{message} {caplog.text} {warnings}".lower()]
    assert digests(tmp_path) == before


def test_the_page_has_a_line_for_each_folder():
    assert [name for *_, name in LINES] == list(SPOIL)
    assert len({given for given, *_ in LINES}) == len(LINES)
    assert all(len(words) > 5 for row in ROWS.values() for words in row.values() if words != READ)


OBJECTS = [
    "long_name", "name_with_markup", "name_with_control_signs", "name_in_unicode", "name_in_no_charset",
    "no_image_uid", "image_uid_with_path", "no_series_uid", "no_study_uid", "uuids", "empty_identifiers",
    "one_uid_for_all", "series_uid_for_each_image", "series_uid_too_long", "no_modality",
]  # fmt: skip
REFUSED = {"name_in_no_charset": "the headers are in the character set ISO_IR 4711, which DICOM does not have"}


def assert_refers_consistently(segmentation, measurements, series) -> None:
    """All identifiers are valid, each image has one of its own, and both objects name the same study and series."""
    (referred,) = segmentation.ReferencedSeriesSequence
    images = [item.ReferencedSOPInstanceUID for item in referred.ReferencedInstanceSequence]
    assert len(set(images)) == SIZE[2]
    assert all(uid.is_valid for uid in (*images, referred.SeriesInstanceUID, segmentation.FrameOfReferenceUID))
    assert referred.SeriesInstanceUID == series.uid
    assert segmentation.StudyInstanceUID == measurements.StudyInstanceUID == series.study_uid
    assert segmentation.StudyInstanceUID.is_valid


@pytest.mark.parametrize("name", OBJECTS)
def test_dicom_objects_of_a_series_are_written_or_refused_with_a_message(name, tmp_path, caplog, recwarn):
    pytest.importorskip("highdicom")
    from custom_components.reports.dicom.objects import write_dicom_objects
    from custom_components.reports.scan.findings import ScanFindings

    (tmp_path / "in").mkdir()
    SPOIL[name](tmp_path / "in" / "scan")
    source = ScanSource(tmp_path / "in" / "scan")
    image = source.image()
    lungs = np.zeros(image.shape[1:], np.uint8)
    lungs[10:20, 10:30, 2:6], lungs[30:40, 10:30, 2:6] = 1, 2
    findings = ScanFindings("012", image[0].numpy(), image.affine.numpy(), lungs, "by hand", series=source.series)
    caplog.clear()
    recwarn.clear()
    if name in REFUSED:
        with pytest.raises(ValueError, match=f"^Case 012: {REFUSED[name]}"):
            write_dicom_objects(findings, tmp_path / "out")
    else:
        write_dicom_objects(findings, tmp_path / "out")
        original = dcmread(files(tmp_path / "in" / "scan")[0])
        segmentation = dcmread(tmp_path / "out" / "segmentation.dcm")
        assert segmentation.PatientName == original.PatientName
        assert_refers_consistently(segmentation, dcmread(tmp_path / "out" / "measurements.dcm"), source.series)
    logged = " ".join([caplog.text, *(str(one.message) for one in recwarn.list)]).lower()
    assert not [part for part in IDENTITY if part in logged]
