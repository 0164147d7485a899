"""DICOM objects of one scan, read by highdicom and by pydicom."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import highdicom
import numpy as np
import pytest
from custom_components import __version__
from custom_components.phantom import make_volume, write_dicom
from custom_components.reports.dicom.objects import write_dicom_objects
from custom_components.reports.dicom.structures import PRIVATE_MEANINGS, PRIVATE_SCHEME
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr import _concepts_dict

from tests.real_data import real_data
from tests.reports.dicom.conftest import TILTED
from tests.reports.dicom.scans import (
    LABELS,
    SCORES,
    SHAPE,
    findings_of,
    groups_of,
    masks_of,
    numbers_of,
    on_the_grid,
    plain_findings,
    series_files,
    volume_ml,
    volume_of,
)
from tests.written_images import ct_image, save

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "dicom_objects.md"
SAMPLING = {"us": "uniform", "ss": "size-balanced"}


def test_highdicom_reads_each_segment_as_its_mask(written):
    findings, paths = written
    segmentation = highdicom.seg.segread(paths["segmentation"])
    assert segmentation.segmentation_type.value == "BINARY"
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == LABELS
    for number, (label, mask) in enumerate(masks_of(findings).items(), 1):
        volume = segmentation.get_volume(segment_numbers=[number])
        found = on_the_grid(findings, volume.array[..., 0], volume.affine, is_lps=True)
        np.testing.assert_array_equal(found, mask, err_msg=label)


def test_pydicom_finds_each_frame_at_the_slice_that_it_refers_to(written):
    findings, paths = written
    segmentation, masks = dcmread(paths["segmentation"]), list(masks_of(findings).values())
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
    found = on_the_grid(findings, volume.array, volume.affine, is_lps=True)
    np.testing.assert_allclose(found, getattr(findings, f"attention_{branch}"), rtol=0, atol=1 / 512)


@pytest.mark.parametrize("branch", ["us", "ss"])
def test_a_map_names_its_branch_and_its_frames_are_in_slice_order(written, branch):
    findings, paths = written
    made = dcmread(paths[f"attention_{branch}"])
    assert made.ContentLabel == f"ATTENTION_{branch.upper()}"
    assert made.SeriesDescription == f"AI attention, {SAMPLING[branch]} sampling, research use only"
    assert made.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1.99"
    pixels = np.frombuffer(made.FloatPixelData, "<f4").reshape(SHAPE[::-1])
    np.testing.assert_allclose(pixels, getattr(findings, f"attention_{branch}").T, rtol=0, atol=1 / 512)
    for file, frame in zip(findings.series.files, made.PerFrameFunctionalGroupsSequence, strict=True):
        assert frame.PlanePositionSequence[0].ImagePositionPatient == dcmread(file).ImagePositionPatient
    numbers = [frame.FrameContentSequence[0].DimensionIndexValues for frame in made.PerFrameFunctionalGroupsSequence]
    assert numbers == list(range(1, 8))


def test_pixels_have_the_size_of_the_source(written):
    findings, paths = written
    image = dcmread(findings.series.files[0])
    for name in ("segmentation", "attention_us", "attention_ss"):
        shared = dcmread(paths[name]).SharedFunctionalGroupsSequence[0]
        measures = shared.PixelMeasuresSequence[0]
        assert measures.PixelSpacing == image.PixelSpacing
        assert measures.SliceThickness == 2.5
        assert measures.SpacingBetweenSlices == pytest.approx(2.5, abs=1e-6)
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == image.ImageOrientationPatient


def test_each_object_is_a_new_series_in_the_study_of_the_source(written):
    findings, paths = written
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


def test_volumes_match_the_masks_in_cubic_cm(written):
    findings, paths = written
    groups = groups_of(paths["measurements"])
    for label, mask in masks_of(findings).items():
        value, unit = volume_of(groups[label])
        assert value == pytest.approx(volume_ml(mask), abs=0.0005)
        assert unit == "cm3"


def test_the_infected_percent_is_that_of_both_lungs(written):
    findings, paths = written
    value, unit = numbers_of(groups_of(paths["measurements"])["Infection"])["INFECTED_PERCENT"]
    assert value == pytest.approx(100 * findings.infection.sum() / (findings.lungs > 0).sum(), abs=0.00005)
    assert unit == "%"


def test_infection_outside_of_the_lungs_is_not_in_the_percentage(axial, tmp_path):
    everywhere = dataclasses.replace(axial, infection=np.ones_like(axial.lungs))
    paths = write_dicom_objects(everywhere, tmp_path / "out")
    assert numbers_of(groups_of(paths["measurements"])["Infection"])["INFECTED_PERCENT"] == (100.0, "%")


def test_volumes_refer_to_their_segments_and_to_the_source(written):
    findings, paths = written
    segmentation = highdicom.seg.segread(paths["segmentation"])
    groups = groups_of(paths["measurements"])
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


def test_the_origin_of_a_mask_is_stored_with_the_networks(written):
    segments = dcmread(written[1]["segmentation"]).SegmentSequence
    algorithms = [segment.SegmentationAlgorithmIdentificationSequence[0] for segment in segments]
    assert all("weights M?ller.pt, sha256 abab" in one.AlgorithmParameters for one in algorithms)
    assert "predicted on 3 slices" in algorithms[3].AlgorithmParameters
    assert {one.AlgorithmVersion for one in algorithms} == {__version__}


def concepts(dataset: Dataset) -> Iterator[Dataset]:
    """Coded concepts of a data set, at any depth."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from concepts(item)
    if "CodeValue" in dataset:
        yield dataset


def test_codes_are_from_the_dictionary_or_declared_as_private(written):
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
    assert all(len(value) <= 16 and len(meaning) <= 64 for value, meaning in PRIVATE_MEANINGS.items())  # DICOM's limits


def test_a_lesion_that_was_not_found_has_no_segment_and_no_volume(axial, tmp_path):
    lesions = np.where(axial.lesions == 2, 0, axial.lesions)
    paths = write_dicom_objects(dataclasses.replace(axial, lesions=lesions), tmp_path / "out")
    segmentation = highdicom.seg.segread(paths["segmentation"])
    labels = [one.SegmentLabel for one in segmentation.SegmentSequence]
    assert labels == ["Left lung", "Right lung", "Infection", "Ground glass", "Pleural effusion"]
    np.testing.assert_array_equal(segmentation.get_volume(segment_numbers=[5]).array.sum(), (lesions == 3).sum())
    groups = groups_of(paths["measurements"])
    assert numbers_of(groups["Consolidation"]) == {"118565006": (0, "cm3")}
    assert groups["Pleural effusion"].referenced_segment[0].referenced_segment_numbers == [5]


def test_structures_that_were_not_searched_are_not_reported(axial, tmp_path):
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


def test_a_scan_without_lungs_has_volumes_of_zero(axial, tmp_path):
    empty = np.zeros_like(axial.lungs)
    nothing = dataclasses.replace(axial, lungs=empty, infection=empty, lesions=empty)
    paths = write_dicom_objects(nothing, tmp_path / "out")
    assert "segmentation" not in paths
    groups = groups_of(paths["measurements"])
    assert [numbers_of(groups[label]) for label in LABELS] == [{"118565006": (0, "cm3")}] * 6


def test_one_slice_is_enough(tmp_path):
    save(ct_image(np.zeros((5, 6)), (1, 2, 3), (0.5, 0.75, 3.5)), tmp_path / "ct" / "only.dcm")
    paths = write_dicom_objects(plain_findings(tmp_path / "ct", np.ones), tmp_path / "out")
    assert dcmread(paths["segmentation"]).pixel_array.sum() == 30
    assert volume_of(groups_of(paths["measurements"])["Left lung"]) == (0.039, "cm3")


def test_a_series_without_thickness_and_with_rounded_orientations_is_accepted(tmp_path):
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
    turned = dataclasses.replace(axial, series=dataclasses.replace(axial.series, files=axial.series.files[::-1]))
    first, second = (write_dicom_objects(one, tmp_path / name) for one, name in ((axial, "a"), (turned, "b")))
    np.testing.assert_array_equal(
        dcmread(first["segmentation"]).pixel_array, dcmread(second["segmentation"]).pixel_array
    )


def test_the_input_is_not_changed(axial, tmp_path):
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


CHANGES = {
    "is not a DICOM series, .* Give the folder of the scan's DICOM": lambda axial: {"series": None},
    ": Image .* on the CT's own grid": lambda axial: {"affine": axial.affine @ np.diag([-1.0, 1, 1, 1])},
    r": .* shape \(13, 11, 7\), expected \(13, 11, 6\)": lambda axial: {
        "series": dataclasses.replace(axial.series, files=axial.series.files[1:])
    },
}


@pytest.mark.parametrize("message", CHANGES)
def test_findings_that_do_not_match_their_series_are_rejected(axial, tmp_path, message):
    with pytest.raises(ValueError, match=rf"^Case 012 ?{message}"):
        write_dicom_objects(dataclasses.replace(axial, **CHANGES[message](axial)), tmp_path / "out")


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan])
def test_an_attention_outside_0_to_1_is_rejected(axial, tmp_path, value):
    axial.attention_us[3, 2, 1] = value
    with pytest.raises(ValueError, match=r"^Case 012: attention ranges from .* Expected 0 to 1"):
        write_dicom_objects(axial, tmp_path / "out")


def test_without_highdicom_the_error_says_how_to_get_it(axial, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ValueError, match=r"^Case 012: .*pip install 'highdicom>=0.28'"):
        write_dicom_objects(axial, tmp_path / "out")


def test_the_modules_can_be_imported_without_highdicom_and_pydicom():
    hide = "import sys; sys.modules.update(highdicom=None, pydicom=None)"
    subprocess.run([sys.executable, "-c", f"{hide}; import custom_components.reports.dicom.objects"], check=True)


def test_the_code_of_the_document_runs(axial, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.S | re.M)
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block.replace("/path/to/results", str(tmp_path)), {"findings": axial})
    inflated = dcmread(tmp_path / "attention_us_inflated.dcm")
    assert inflated.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert inflated.FloatPixelData == dcmread(tmp_path / "attention_us.dcm").FloatPixelData


@pytest.mark.real_data
def test_on_a_public_patient_the_segments_are_the_masks(tmp_path):
    def balls(shape):
        x, y, z = np.ogrid[tuple(map(slice, shape))]
        near = (x - 150) ** 2 + (y - 250) ** 2 + 16 * (z - 70) ** 2 < 90**2
        return 2 * near + ((x - 350) ** 2 + (y - 260) ** 2 + 9 * (z - 75) ** 2 < 80**2)

    findings = plain_findings(real_data("covid_ct_md", "P001"), balls)
    attention = np.float32(0.3) * (findings.lungs > 1)
    paths = write_dicom_objects(dataclasses.replace(findings, attention_us=attention), tmp_path)
    segmentation = highdicom.seg.segread(paths["segmentation"])
    source = dcmread(findings.series.files[0], stop_before_pixels=True)
    assert segmentation.StudyInstanceUID == source.StudyInstanceUID
    for number in (1, 2):
        volume = segmentation.get_volume(segment_numbers=[number])
        found = on_the_grid(findings, volume.array[..., 0], volume.affine, is_lps=True)
        assert np.array_equal(found, findings.lungs == number)
    volume = highdicom.pm.ParametricMap.from_file(paths["attention_us"]).get_volume()
    assert np.abs(on_the_grid(findings, volume.array, volume.affine, is_lps=True) - attention).max() <= 1 / 512


def test_a_compressed_series_gets_its_objects(tmp_path):
    phantom = make_volume(5, (72, 60, 18), (5.0, 5.4, 15.0))
    folder = write_dicom(phantom, tmp_path / "ct", compressed=True)
    sides = phantom.lung * np.where(np.arange(72) > 36, 1, 2)[:, None, None]
    masks = {"infection": phantom.infection, "lesions": phantom.label}
    groups = groups_of(write_dicom_objects(plain_findings(folder, lambda _: sides, **masks), tmp_path)["measurements"])
    found = [volume_of(groups[label])[0] for label in LABELS[3:]]
    assert found == pytest.approx(list(phantom.lesion_volumes_ml.values()), abs=0.0005)
    percent = numbers_of(groups["Infection"])["INFECTED_PERCENT"][0]
    assert percent == pytest.approx(100 * phantom.infection_ratio, abs=0.00005)
