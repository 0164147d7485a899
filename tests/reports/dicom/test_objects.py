"""DICOM objects of one scan: read back by highdicom, by pydicom alone, by dcmqi, and checked by dciodvfy."""

import dataclasses
import importlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
from custom_components import __version__
from custom_components.dicom.chest_series import Series
from custom_components.dicom.identifiers import MAY_BE_EMPTY
from custom_components.dicom.series import check_dicom_series
from custom_components.phantom import make_volume, write_dicom
from custom_components.reports.dicom.objects import write_dicom_objects
from custom_components.reports.dicom.structures import PRIVATE_MEANINGS, PRIVATE_SCHEME, STRUCTURES
from custom_components.reports.scan.findings import Model, ScanFindings, Scores
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.sr import _concepts_dict
from pydicom.sr.codedict import codes

from tests.real_data import real_data
from tests.written_images import AXIAL, ct_image, save

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "dicom_objects.md"
SHAPE = (13, 11, 7)
# Rows and columns of the patient's axes, tilted; and rows to the right, so that slices run from head to feet.
TILTED = (1, 0, 0, 0, np.cos(0.3), np.sin(0.3))
HEAD_FIRST = (-1, 0, 0, 0, 1, 0)
UIDS = {
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1",
    "series_uid": "1.2.826.0.1.3680043.8.498.2",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.3",
    "StudyDate": "20200401",
    "StudyTime": "120000",
    "StudyID": "1",
}
LABELS = ["Left lung", "Right lung", "Infection", "Ground glass", "Consolidation", "Pleural effusion"]
SCORES = Scores(p_us=0.71236, p_ss=0.25, p_final=0.48118, weight_us=0.5)
MODEL = Model("lungs and infection (VB-Net)", "0.3.0", "Müller.pt", "ab" * 32, "phantoms")


def series_files(folder: Path, orientation=AXIAL, **changes) -> Path:
    """A series of SHAPE with pixels that are not square, its files in no order."""
    normal = np.cross(orientation[:3], orientation[3:])
    for index in range(SHAPE[2]):
        position = np.array([-31.5, 17.25, 1402.125]) + 2.5 * index * normal
        identity = {**UIDS, "orientation": orientation, "number": index, **changes}
        image = ct_image(np.full(SHAPE[:2], index), position, (0.75, 0.625, 2.5), **identity)
        save(image, folder / f"{index * 3 % SHAPE[2]}.dcm")
    return folder


def findings_of(folder: Path, **changes) -> ScanFindings:
    """Findings without symmetry; the infection lies in a lung, lesions overlap it, two slices are empty."""
    series = check_dicom_series(folder)
    rng = np.random.default_rng(4)
    lungs = rng.integers(0, 3, series.shape).astype(np.uint8)
    lungs[:, :, 0] = lungs[:, :, 4] = 0
    infection = ((rng.random(series.shape) < 0.3) & (lungs > 0)).astype(np.uint8)
    values = {
        "case_id": "012",
        "image_hu": np.zeros(series.shape, np.float32),
        "affine": series.affine,
        "lungs": lungs,
        "lung_source": "VB-Net",
        "infection": infection,
        "infection_source": "VB-Net",
        "lesions": rng.integers(0, 4, series.shape).astype(np.uint8),
        "lesion_slices": (1, 2, 3),
        "attention_us": rng.random(series.shape, dtype=np.float32),
        "attention_ss": rng.random(series.shape, dtype=np.float32) ** 2,
        "scores": SCORES,
        "series": Series("1.2.3", "1.2", "Thorax, 7 slices", "the only one", series.files),
        "models": (MODEL,),
    }
    return ScanFindings(**{**values, **changes})


def masks_of(findings: ScanFindings) -> dict[str, np.ndarray]:
    """Mask of each label, written down once more."""
    found = {"Left lung": findings.lungs == 1, "Right lung": findings.lungs == 2, "Infection": findings.infection == 1}
    lesions = findings.lesions
    return found | {label: lesions == value for value, label in enumerate(LABELS[3:], 1)}


@pytest.fixture(scope="module", params=[AXIAL, TILTED, HEAD_FIRST], ids=["axial", "tilted", "head first"])
def written(request, tmp_path_factory) -> tuple[ScanFindings, dict[str, Path]]:
    """Objects of one scan, whichever way it lies."""
    findings = findings_of(series_files(tmp_path_factory.mktemp("ct"), orientation=request.param))
    return findings, write_dicom_objects(findings, tmp_path_factory.mktemp("out") / "dicom")


@pytest.fixture
def axial(tmp_path) -> ScanFindings:
    return findings_of(series_files(tmp_path / "ct"))


def on_the_grid(findings: ScanFindings, array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Bring a volume with an affine (RAS mm) of its own to the CT's grid; every voxel must fall on one."""
    to_index = np.linalg.inv(findings.affine) @ affine
    turn = nib.io_orientation(to_index)
    to_index = to_index @ nib.orientations.inv_ornt_aff(turn, array.shape)
    first = np.rint(to_index[:3, 3]).astype(int)
    np.testing.assert_allclose(to_index, nib.affines.from_matvec(np.eye(3), first), atol=1e-3)
    array = nib.apply_orientation(array, turn)
    volume = np.zeros(findings.image_hu.shape, array.dtype)
    volume[tuple(slice(start, start + size) for start, size in zip(first, array.shape, strict=True))] = array
    return volume


def to_ras(affine: np.ndarray) -> np.ndarray:
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def test_highdicom_reads_each_segment_as_its_mask(written):
    findings, paths = written
    segmentation = highdicom.seg.segread(paths["segmentation"])
    assert segmentation.segmentation_type.value == "BINARY"
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == LABELS
    for number, (label, mask) in enumerate(masks_of(findings).items(), 1):
        volume = segmentation.get_volume(segment_numbers=[number])
        found = on_the_grid(findings, volume.array[..., 0], to_ras(volume.affine))
        np.testing.assert_array_equal(found, mask, err_msg=label)


def test_pydicom_finds_each_frame_at_the_slice_that_it_refers_to(written):
    findings, paths = written
    segmentation, masks = dcmread(paths["segmentation"]), list(masks_of(findings).values())
    assert findings.series is not None
    images = [dcmread(file) for file in findings.series.files]
    slices = {image.SOPInstanceUID: index for index, image in enumerate(images)}
    seen = set()
    for pixels, frame in zip(segmentation.pixel_array, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        index = slices[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == images[index].ImagePositionPatient
        for x, y in np.ndindex(SHAPE[:2]):
            assert pixels[y, x] == masks[number - 1][x, y, index]
        seen.add((number, index))
    full = {(number, k) for number, mask in enumerate(masks, 1) for k in range(SHAPE[2]) if mask[:, :, k].any()}
    assert seen == full
    assert len(segmentation.PerFrameFunctionalGroupsSequence) == len(full)


@pytest.mark.parametrize("branch", ["us", "ss"])
def test_highdicom_reads_the_attention_to_half_a_step(written, branch):
    findings, paths = written
    volume = highdicom.pm.ParametricMap.from_file(paths[f"attention_{branch}"]).get_volume()
    found = on_the_grid(findings, volume.array, to_ras(volume.affine))
    np.testing.assert_allclose(found, getattr(findings, f"attention_{branch}"), rtol=0, atol=1 / 512)


@pytest.mark.parametrize("branch", ["us", "ss"])
def test_the_frames_of_a_map_follow_the_slices(written, branch):
    findings, paths = written
    made = dcmread(paths[f"attention_{branch}"])
    assert made.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1.99"
    pixels = np.frombuffer(made.FloatPixelData, "<f4").reshape(SHAPE[::-1])
    np.testing.assert_allclose(pixels, getattr(findings, f"attention_{branch}").T, rtol=0, atol=1 / 512)
    assert findings.series is not None
    for file, frame in zip(findings.series.files, made.PerFrameFunctionalGroupsSequence, strict=True):
        assert frame.PlanePositionSequence[0].ImagePositionPatient == dcmread(file).ImagePositionPatient
    numbers = [frame.FrameContentSequence[0].DimensionIndexValues for frame in made.PerFrameFunctionalGroupsSequence]
    assert numbers == list(range(1, 8))


@pytest.mark.parametrize(("branch", "sampling"), [("us", "uniform"), ("ss", "size-balanced")])
def test_a_map_says_whose_attention_it_shows(written, branch, sampling):
    made = dcmread(written[1][f"attention_{branch}"])
    assert made.ContentLabel == f"ATTENTION_{branch.upper()}"
    assert made.SeriesDescription == f"AI attention, {sampling} sampling, research use only"


def test_pixels_are_as_large_as_the_sources(written):
    findings, paths = written
    assert findings.series is not None
    image = dcmread(findings.series.files[0])
    for name in ("segmentation", "attention_us", "attention_ss"):
        shared = dcmread(paths[name]).SharedFunctionalGroupsSequence[0]
        measures = shared.PixelMeasuresSequence[0]
        assert measures.PixelSpacing == image.PixelSpacing
        assert measures.SliceThickness == 2.5
        assert measures.SpacingBetweenSlices == pytest.approx(2.5, abs=1e-6)
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == image.ImageOrientationPatient


def test_each_object_is_a_series_of_its_own_in_the_study_of_the_source(written):
    findings, paths = written
    assert findings.series is not None
    images = [dcmread(file) for file in findings.series.files]
    made = {name: dcmread(path) for name, path in paths.items()}
    assert list(made) == ["segmentation", "measurements", "attention_us", "attention_ss"]
    assert len({one.SeriesInstanceUID for one in [*made.values(), images[0]]}) == 5
    assert {one.StudyInstanceUID for one in made.values()} == {images[0].StudyInstanceUID}
    assert {one.FrameOfReferenceUID for one in made.values() if one.Modality != "SR"} == {images[0].FrameOfReferenceUID}
    for name in ("segmentation", "attention_us", "attention_ss"):
        (referenced,) = made[name].ReferencedSeriesSequence
        assert referenced.SeriesInstanceUID == images[0].SeriesInstanceUID
        found = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
        assert found == {image.SOPInstanceUID for image in images}


def test_all_objects_say_that_they_are_for_research_only(written):
    for path in written[1].values():
        made = dcmread(path)
        assert made.SeriesDescription.startswith("AI ")
        assert made.SeriesDescription.endswith(", research use only")
        assert made.SoftwareVersions == __version__
        if made.Modality == "SR":
            assert (made.VerificationFlag, made.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
        else:
            assert made.ContentDescription == "Research use only, not for diagnosis"


def groups_of(path: Path) -> dict[str, highdicom.sr.MeasurementsAndQualitativeEvaluations]:
    """Measurement groups by tracking identifier."""
    content = highdicom.sr.srread(path).content
    groups = [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]
    return {group.tracking_identifier: group for group in groups}


def numbers_of(group: highdicom.sr.MeasurementsAndQualitativeEvaluations) -> dict[str, tuple[float, str]]:
    """Value and unit of each measurement, by code."""
    return {one.name.value: (float(one.value), one.unit.value) for one in group.get_measurements()}


def test_volumes_are_those_of_the_masks_in_cubic_cm(written):
    findings, paths = written
    groups = groups_of(paths["measurements"])
    for label, mask in masks_of(findings).items():
        value, unit = numbers_of(groups[label])[codes.SCT.Volume.value]
        assert value == pytest.approx(mask.sum() * 0.75 * 0.625 * 2.5 / 1000, abs=0.0005)
        assert unit == "cm3"


def test_the_infected_percent_is_that_of_both_lungs(written):
    findings, paths = written
    assert findings.infection is not None
    value, unit = numbers_of(groups_of(paths["measurements"])["Infection"])["INFECTED_PERCENT"]
    assert value == pytest.approx(100 * findings.infection.sum() / (findings.lungs > 0).sum(), abs=0.00005)
    assert unit == "%"


def test_infection_outside_of_the_lungs_has_no_share_of_them(axial, tmp_path):
    everywhere = dataclasses.replace(axial, infection=np.ones_like(axial.lungs))
    paths = write_dicom_objects(everywhere, tmp_path / "out")
    assert numbers_of(groups_of(paths["measurements"])["Infection"])["INFECTED_PERCENT"] == (100.0, "%")


def test_volumes_refer_to_their_segments_and_to_the_source(written):
    findings, paths = written
    segmentation = highdicom.seg.segread(paths["segmentation"])
    groups = groups_of(paths["measurements"])
    assert findings.series is not None
    series_uid = dcmread(findings.series.files[0]).SeriesInstanceUID
    for number, label in enumerate(LABELS, 1):
        reference = groups[label].referenced_segment
        assert reference.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert reference[0].referenced_segment_numbers == [number]
        description = segmentation.get_segment_description(number)
        assert groups[label].tracking_uid == description.tracking_uid
        assert groups[label].finding_type == description.segmented_property_type
        assert reference.source_series_for_segmentation.value == series_uid


def test_scores_are_measurements_of_the_whole_scan(written):
    numbers = numbers_of(groups_of(written[1]["measurements"])["COVID-19 or community-acquired pneumonia"])
    assert numbers == {"P_US": (0.7124, "1"), "P_SS": (0.25, "1"), "P_FINAL": (0.4812, "1")}


def test_lungs_have_a_side_and_lesions_a_site(written):
    segments = dcmread(written[1]["segmentation"]).SegmentSequence
    sides = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in segments[:2]]
    assert [one.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning for one in sides] == ["Left", "Right"]
    sites = [segment.AnatomicRegionSequence[0].CodeMeaning for segment in segments]
    assert sites == ["Lung"] * 5 + ["Pleura"]
    groups = groups_of(written[1]["measurements"])
    assert [groups[label].finding_sites[0].value.meaning for label in LABELS] == sites
    assert [groups[label].finding_sites[0].laterality.meaning for label in LABELS[:2]] == ["Left", "Right"]


def test_what_made_a_mask_is_told_with_the_networks(written):
    segments = dcmread(written[1]["segmentation"]).SegmentSequence
    told = [segment.SegmentationAlgorithmIdentificationSequence[0] for segment in segments]
    assert all("weights M?ller.pt, sha256 abab" in one.AlgorithmParameters for one in told)
    assert "predicted on 3 slices" in told[3].AlgorithmParameters
    assert {one.AlgorithmVersion for one in told} == {__version__}


def concepts(dataset: Dataset) -> Iterator[Dataset]:
    """Coded concepts of a data set, at any depth."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from concepts(item)
    if "CodeValue" in dataset:
        yield dataset


def test_codes_are_those_of_the_dictionary_or_are_named_as_private(written):
    privates = set()
    for path in written[1].values():
        made = dcmread(path)
        schemes = [item.CodingSchemeDesignator for item in made.get("CodingSchemeIdentificationSequence", [])]
        for code in concepts(made):
            scheme, value, meaning = code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning
            if scheme == PRIVATE_SCHEME:
                assert scheme in schemes
                assert PRIVATE_MEANINGS[value] == meaning
                privates.add(value)
            elif scheme == "RFC5646":
                assert value == "en-US"
            else:
                assert any(value in entries for entries in _concepts_dict.concepts[scheme].values()), code
    assert privates == set(PRIVATE_MEANINGS)


def test_private_codes_fit_where_dicom_puts_them():
    assert PRIVATE_SCHEME.startswith("99")
    for value, meaning in PRIVATE_MEANINGS.items():
        assert len(value) <= 16
        assert len(meaning) <= 64


def test_a_lesion_that_was_not_found_has_no_segment_and_no_volume(axial, tmp_path):
    assert axial.lesions is not None
    lesions = np.where(axial.lesions == 2, 0, axial.lesions)
    paths = write_dicom_objects(dataclasses.replace(axial, lesions=lesions), tmp_path / "out")
    segmentation = highdicom.seg.segread(paths["segmentation"])
    labels = [one.SegmentLabel for one in segmentation.SegmentSequence]
    assert labels == ["Left lung", "Right lung", "Infection", "Ground glass", "Pleural effusion"]
    np.testing.assert_array_equal(segmentation.get_volume(segment_numbers=[5]).array.sum(), (lesions == 3).sum())
    groups = groups_of(paths["measurements"])
    assert numbers_of(groups["Consolidation"]) == {codes.SCT.Volume.value: (0, "cm3")}
    assert groups["Pleural effusion"].referenced_segment[0].referenced_segment_numbers == [5]


def test_what_nobody_looked_for_is_not_reported(axial, tmp_path):
    bare = dataclasses.replace(
        axial, infection=None, infection_source=None, lesions=None, attention_ss=None, scores=None, models=()
    )
    paths = write_dicom_objects(bare, tmp_path / "out")
    assert list(paths) == ["segmentation", "measurements", "attention_us"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths.values())
    assert list(groups_of(paths["measurements"])) == ["Left lung", "Right lung"]


def test_without_a_ratio_there_is_no_final_probability(axial, tmp_path):
    scores = dataclasses.replace(SCORES, p_final=None, weight_us=None)
    paths = write_dicom_objects(dataclasses.replace(axial, scores=scores), tmp_path / "out")
    numbers = numbers_of(groups_of(paths["measurements"])["COVID-19 or community-acquired pneumonia"])
    assert list(numbers) == ["P_US", "P_SS"]


def test_of_a_scan_without_any_lung_volumes_of_zero_are_reported(axial, tmp_path):
    empty = np.zeros_like(axial.lungs)
    nothing = dataclasses.replace(axial, lungs=empty, infection=empty, lesions=empty)
    paths = write_dicom_objects(nothing, tmp_path / "out")
    assert "segmentation" not in paths
    groups = groups_of(paths["measurements"])
    assert [numbers_of(groups[label]) for label in LABELS] == [{codes.SCT.Volume.value: (0, "cm3")}] * 6


def test_one_slice_is_enough(tmp_path):
    image = ct_image(np.zeros((5, 6)), (1, 2, 3), (0.5, 0.75, 3.5))
    save(image, tmp_path / "ct" / "only.dcm")
    paths = write_dicom_objects(findings_of_one(tmp_path / "ct"), tmp_path / "out")
    assert dcmread(paths["segmentation"]).pixel_array.sum() == 30
    assert numbers_of(groups_of(paths["measurements"])["Left lung"])[codes.SCT.Volume.value] == (0.039, "cm3")


def findings_of_one(folder: Path) -> ScanFindings:
    series = check_dicom_series(folder)
    lungs, hu = np.ones(series.shape, np.uint8), np.zeros(series.shape, np.float32)
    return ScanFindings("1", hu, series.affine, lungs, "x", series=Series("1", "2", "", "", series.files))


def test_a_series_without_thickness_and_with_orientations_that_differ_in_a_last_digit_is_taken(tmp_path):
    folder = series_files(tmp_path / "ct", orientation=TILTED, SliceThickness=None)
    file = folder / "3.dcm"
    image = dcmread(file)
    image.ImageOrientationPatient[4] += 1e-5
    image.PixelSpacing[0] += 1e-6
    image.save_as(file)
    paths = write_dicom_objects(findings_of(folder), tmp_path / "out")
    shared = dcmread(paths["segmentation"]).SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].SliceThickness == 2.5


def test_files_in_another_order_give_the_same_segments(axial, tmp_path):
    assert axial.series is not None
    turned = dataclasses.replace(axial, series=dataclasses.replace(axial.series, files=axial.series.files[::-1]))
    first, second = (write_dicom_objects(one, tmp_path / name) for one, name in ((axial, "a"), (turned, "b")))
    np.testing.assert_array_equal(
        dcmread(first["segmentation"]).pixel_array, dcmread(second["segmentation"]).pixel_array
    )


# Nothing of these may leave the DICOM files: no caret in the name, a date and a sex that DICOM does not know.
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


def test_identity_goes_into_dicom_as_it_was(identified, tmp_path):
    paths = write_dicom_objects(identified, tmp_path / "out")
    with config.disable_value_validation():
        for path in paths.values():
            made = dcmread(path)
            assert {name: str(made[name].value) for name in IDENTITY} == IDENTITY


def test_identity_goes_nowhere_else(identified, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        paths = write_dicom_objects(identified, tmp_path / "out")
    said = [caplog.text, *map(str, caught), *map(str, paths), *capfd.readouterr()]
    for value in IDENTITY.values():
        assert value not in "\n".join(said)
    assert [record for record in caplog.records if record.name.startswith("highdicom")] == []


def test_a_patient_that_cannot_be_read_is_told_by_the_case_alone(tmp_path):
    folder = series_files(tmp_path / "ct", PregnancyStatus=17)
    for path in folder.iterdir():
        whole, broken = b"\x10\x00\xc0\x21US\x02\x00", b"\x10\x00\xc0\x21FL\x02\x00"  # a float of 2 bytes
        assert path.read_bytes().count(whole) == 1
        path.write_bytes(path.read_bytes().replace(whole, broken))
    with pytest.raises(
        ValueError, match=r"^Case 012: patient and study attributes of 0\.dcm cannot be read\."
    ) as caught:
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


def test_a_source_stripped_of_the_patient_gets_empty_attributes(tmp_path):
    folder = series_files(tmp_path / "ct", PatientName=None, PatientID=None)
    for path in folder.iterdir():
        image = dcmread(path)
        del image.StudyDate, image.StudyTime, image.StudyID
        image.save_as(path)
    for path in write_dicom_objects(findings_of(folder), tmp_path / "out").values():
        made = dcmread(path)
        assert [name for name in MAY_BE_EMPTY if made[name].value] == []


def test_the_input_is_left_as_it_was(axial, tmp_path):
    assert axial.series is not None
    before = [file.read_bytes() for file in axial.series.files]
    arrays = {name: getattr(axial, name).copy() for name in ("lungs", "infection", "lesions", "attention_us")}
    write_dicom_objects(axial, tmp_path / "out")
    assert [file.read_bytes() for file in axial.series.files] == before
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(axial, name), array)


def test_a_second_run_replaces_the_files(axial, tmp_path):
    first = {name: dcmread(path).SOPInstanceUID for name, path in write_dicom_objects(axial, tmp_path).items()}
    second = {name: dcmread(path).SOPInstanceUID for name, path in write_dicom_objects(axial, tmp_path).items()}
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())


def test_a_scan_that_is_no_dicom_series_is_refused(axial, tmp_path):
    with pytest.raises(ValueError, match=r"^Case 012 is not a DICOM series, .* Give the folder of the scan's DICOM"):
        write_dicom_objects(dataclasses.replace(axial, series=None), tmp_path / "out")


def test_arrays_beside_the_images_are_refused(axial, tmp_path):
    turned = dataclasses.replace(axial, affine=axial.affine @ np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"^Case 012: Image .* on the CT's own grid"):
        write_dicom_objects(turned, tmp_path / "out")


def test_a_missing_file_is_refused(axial, tmp_path):
    assert axial.series is not None
    fewer = dataclasses.replace(axial, series=dataclasses.replace(axial.series, files=axial.series.files[1:]))
    with pytest.raises(ValueError, match=r"^Case 012: .* shape \(13, 11, 7\), expected \(13, 11, 6\)"):
        write_dicom_objects(fewer, tmp_path / "out")


def test_identifiers_made_for_a_series_are_the_same_each_time(tmp_path):
    findings = findings_of(series_files(tmp_path / "ct", FrameOfReferenceUID=None))
    made = [dcmread(write_dicom_objects(findings, tmp_path / out)["segmentation"]) for out in ("one", "other")]
    assert made[0].FrameOfReferenceUID == made[1].FrameOfReferenceUID
    assert made[0].FrameOfReferenceUID.startswith("2.25.")


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan])
def test_an_attention_beyond_0_to_1_is_refused(axial, tmp_path, value):
    assert axial.attention_us is not None
    axial.attention_us[3, 2, 1] = value
    with pytest.raises(ValueError, match=r"^Case 012: attention ranges from .* Expected 0 to 1"):
        write_dicom_objects(axial, tmp_path / "out")


def test_without_highdicom_the_error_says_how_to_get_it(axial, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ValueError, match=r"^Case 012: .*pip install 'highdicom>=0.28'"):
        write_dicom_objects(axial, tmp_path / "out")


def test_the_modules_can_be_imported_without_highdicom_and_pydicom(monkeypatch):
    for name in list(sys.modules):
        if name.split(".")[0] in ("highdicom", "pydicom"):
            monkeypatch.setitem(sys.modules, name, None)
        if name.startswith(("custom_components.reports.dicom", "custom_components.dicom")):
            monkeypatch.delitem(sys.modules, name)
    importlib.import_module("custom_components.reports.dicom.objects")


def test_the_code_of_the_document_runs(axial, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.S | re.M)
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block.replace("/path/to/results", str(tmp_path)), {"findings": axial})
    inflated = dcmread(tmp_path / "attention_us_inflated.dcm")
    assert inflated.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert inflated.FloatPixelData == dcmread(tmp_path / "attention_us.dcm").FloatPixelData


def test_the_document_names_every_code():
    text = DOCUMENT.read_text(encoding="utf-8")
    for structure in STRUCTURES:
        assert f"| {structure.label} | ({code_of(structure.kind)}" in text
    for value, meaning in PRIVATE_MEANINGS.items():
        assert f"| {value} | {meaning} |" in text


def code_of(kind: tuple[str, str]) -> str:
    scheme, keyword = kind
    return f"{keyword if scheme == PRIVATE_SCHEME else getattr(getattr(codes, scheme), keyword).value}, {scheme}, "


# Programs of other people: pip install ".[dicom-check]".


@pytest.fixture
def program() -> Callable[..., str]:
    """Run a program of dcmqi or dicom3tools; what it said."""

    def call(name: str, *arguments: object) -> str:
        found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
        if found is None:
            pytest.skip(f"{name} is not there: pip install '.[dicom-check]'")
        done = subprocess.run(
            [found, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return call


def test_dcmqi_reads_each_segment_as_its_mask(written, program, tmp_path):
    findings, paths = written
    program("segimage2itkimage", "--inputDICOM", paths["segmentation"], "--outputDirectory", tmp_path, "-t", "nii")
    meta = json.loads((tmp_path / "meta.json").read_text())
    labels = [segment["SegmentLabel"] for group in meta["segmentAttributes"] for segment in group]
    assert sorted(labels) == sorted(LABELS)
    for number, group in enumerate(meta["segmentAttributes"], 1):
        image = nib.load(tmp_path / f"{number}.nii.gz")
        found = on_the_grid(findings, np.asarray(image.dataobj), image.affine)
        for segment in group:
            mask = masks_of(findings)[segment["SegmentLabel"]]
            np.testing.assert_array_equal(found == segment["labelID"], mask, err_msg=segment["SegmentLabel"])


@pytest.mark.parametrize("branch", ["us", "ss"])
def test_dcmqi_reads_the_attention_to_half_a_step(written, program, tmp_path, branch):
    findings, paths = written
    program(
        "paramap2itkimage", "--inputDICOM", paths[f"attention_{branch}"], "--outputDirectory", tmp_path, "-t", "nii"
    )
    image = nib.load(tmp_path / "pmap.nii.gz")
    found = on_the_grid(findings, np.asarray(image.dataobj), image.affine)
    np.testing.assert_allclose(found, getattr(findings, f"attention_{branch}"), rtol=0, atol=1 / 512)


def test_dcmqi_reads_the_measurements(written, program, tmp_path):
    findings, paths = written
    program("tid1500reader", "--inputDICOM", paths["measurements"], "--outputMetadata", tmp_path / "sr.json")
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    found = {one["TrackingIdentifier"]: float(one["measurementItems"][0]["value"]) for one in groups}
    for label, mask in masks_of(findings).items():
        assert found[label] == pytest.approx(mask.sum() * 0.75 * 0.625 * 2.5 / 1000, abs=0.0005)
    assert [one["ReferencedSegment"] for one in groups[:6]] == [1, 2, 3, 4, 5, 6]


def test_dciodvfy_finds_no_error(written, program, tmp_path):
    for path in written[1].values():
        made = dcmread(path)
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"  # dciodvfy cannot inflate
        made.save_as(tmp_path / path.name)
        said = program("dciodvfy", tmp_path / path.name).splitlines()
        unknown_scheme = f"Unrecognized defined term <{PRIVATE_SCHEME}>"
        assert [line for line in said[1:] if unknown_scheme not in line] == []


@pytest.mark.real_data
def test_on_a_public_patient_the_segments_are_the_masks(tmp_path):
    series = check_dicom_series(real_data("covid_ct_md", "P001"))
    x, y, z = np.ogrid[tuple(map(slice, series.shape))]
    near = (x - 150) ** 2 + (y - 250) ** 2 + 16 * (z - 70) ** 2 < 90**2
    lungs = (2 * near + ((x - 350) ** 2 + (y - 260) ** 2 + 9 * (z - 75) ** 2 < 80**2)).astype(np.uint8)
    attention = np.where(near, np.float32(0.3), np.float32(0))
    findings = ScanFindings(
        "P001",
        np.zeros(series.shape, np.float32),
        series.affine,
        lungs,
        "balls",
        attention_us=attention,
        series=Series("1", "2", "", "", series.files),
    )
    paths = write_dicom_objects(findings, tmp_path)
    segmentation = highdicom.seg.segread(paths["segmentation"])
    assert segmentation.StudyInstanceUID == dcmread(series.files[0], stop_before_pixels=True).StudyInstanceUID
    for number in (1, 2):
        volume = segmentation.get_volume(segment_numbers=[number])
        found = on_the_grid(findings, volume.array[..., 0], to_ras(volume.affine))
        assert np.array_equal(found, lungs == number)
    volume = highdicom.pm.ParametricMap.from_file(paths["attention_us"]).get_volume()
    assert np.abs(on_the_grid(findings, volume.array, to_ras(volume.affine)) - attention).max() <= 1 / 512


def test_a_phantom_that_was_written_compressed_gets_its_objects(tmp_path):
    phantom = make_volume(5, (72, 60, 18), (5.0, 5.4, 15.0))
    series = check_dicom_series(write_dicom(phantom, tmp_path / "ct", compressed=True))
    findings = ScanFindings(
        "phantom",
        phantom.image_hu,
        series.affine,
        np.where(np.arange(72)[:, None, None] > 36, phantom.lung, 2 * phantom.lung).astype(np.uint8),
        "truth",
        infection=phantom.infection,
        lesions=phantom.label,
        series=Series("1", "2", "", "", series.files),
    )
    paths = write_dicom_objects(findings, tmp_path / "out")
    groups = groups_of(paths["measurements"])
    found = [numbers_of(groups[label])[codes.SCT.Volume.value][0] for label in LABELS[3:]]
    assert found == pytest.approx(list(phantom.lesion_volumes_ml.values()), abs=0.0005)
    percent = numbers_of(groups["Infection"])["INFECTED_PERCENT"][0]
    assert percent == pytest.approx(100 * phantom.infection_ratio, abs=0.00005)
