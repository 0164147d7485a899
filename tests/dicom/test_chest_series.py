from collections import Counter

import numpy as np
import pytest
from custom_components.dicom.chest_series import find_chest_series
from custom_components.dicom.header_text import safe_description
from custom_components.dicom.volume import series_volume
from custom_components.images.ct_reader import CTReader
from custom_components.phantom import write_localizer
from pydicom import Dataset, config, dcmread

from tests.diagnosis.conftest import PATIENT_ID, PATIENT_NAME, change_series, thin_phantom, write_series


@pytest.fixture(scope="module")
def phantom():
    return thin_phantom()


def reasons(found) -> dict[str, str]:
    """Why each series was left out, by its description."""
    return {name.split("(")[1].split(")")[0]: why for name, why in found.series.left_out.items()}


def test_one_series_is_taken_with_its_files_in_slice_order(phantom, tmp_path):
    uid = write_series(phantom, tmp_path / "a" / "b")
    found = find_chest_series(tmp_path)
    assert (found.series.uid, found.series.study_uid, found.series.left_out) == (uid, "1.2.3", {})
    heights = [float(dcmread(path).ImagePositionPatient[2]) for path in found.series.files]
    assert heights == sorted(heights)
    assert len(heights) == 50
    assert {path.parent for path in found.series.files} == {tmp_path / "a" / "b"}
    assert "the only axial CT" in found.series.reason
    assert found.series.description == "Synthetic chest CT, 50 slices, 10 x 11 x 2.9 mm"


def test_each_header_is_read_once_for_selection_checks_and_voxels(phantom, tmp_path, monkeypatch):
    write_series(phantom, tmp_path / "study")
    reads: Counter = Counter()

    def counted(file, **options):
        reads[file.name] += options.get("specific_tags") != ["PixelData"]  # the digest's one image
        return dcmread(file, **options)

    monkeypatch.setattr("pydicom.dcmread", counted)
    found = find_chest_series(tmp_path)
    volume, _ = series_volume(found.volume, "1.2")
    assert reads == {str(path): 1 for path in found.series.files}
    assert volume.shape == phantom.image_hu.shape
    reads.clear()
    CTReader().get_data((tmp_path / "study",))
    assert reads == {str(path): 1 for path in found.series.files}


def test_what_is_no_axial_chest_ct_is_left_out_and_says_why(phantom, tmp_path):
    taken = write_series(phantom, tmp_path / "ct")
    write_localizer(phantom, tmp_path / "localizer")
    change_series(tmp_path / "localizer")
    few = thin_phantom(slices=3, spacing_mm=50.0)
    others = {
        "topo": {"SeriesDescription": "topo", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "Scout": {"SeriesDescription": "Scout"},
        "screen": {"SeriesDescription": "screen", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        "dose": {"SeriesDescription": "dose", "Modality": "SR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67"},
        "PET": {"SeriesDescription": "PET", "Modality": "PT"},
        "coronal": {"SeriesDescription": "coronal", "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
        "thin MIP": {"SeriesDescription": "thin MIP"},
        "slab": {"SeriesDescription": "slab", "ImageType": ["DERIVED", "SECONDARY", "MIP"]},
        "fused": {"SeriesDescription": "fused", "SamplesPerPixel": 3},
        "enhanced": {"SeriesDescription": "enhanced", "NumberOfFrames": 40},
        "no place": {"SeriesDescription": "no place", "ImageOrientationPatient": None},
    }
    for name, tags in others.items():
        write_series(few, tmp_path / name, **tags)
    write_series(thin_phantom(slices=5), tmp_path / "bolus", SeriesDescription="bolus")
    found = find_chest_series(tmp_path)
    assert found.series.uid == taken
    why = reasons(found)
    expected = {
        "Localizer": "localizer", "topo": "localizer", "Scout": "localizer", "screen": "screenshot",
        "dose": "dose report", "PET": "not CT (modality PT)", "coronal": "not axial", "thin MIP": "projection",
        "slab": "projection", "fused": "colour", "enhanced": "multi-frame", "no place": "orientation",
        "bolus": "too short, 12 mm",
    }  # fmt: skip
    assert set(why) == set(expected)
    for name, words in expected.items():
        assert words in why[name]


PREFERENCES = [
    ({"SeriesDescription": "Lung 1.0", "SeriesNumber": 9}, {"SeriesDescription": "Abdomen", "BodyPartExamined": ""},
     "names the chest"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "SeriesNumber": 9}, {"ImageType": ["DERIVED", "SECONDARY"]},
     "derived"),
    ({"ConvolutionKernel": "LUNG", "SeriesNumber": 9}, {"ConvolutionKernel": "BONEPLUS"}, "kernel"),
    ({"SeriesNumber": 4}, {"SeriesNumber": 11}, "higher series number"),
]  # fmt: skip


@pytest.mark.parametrize(("better", "worse", "words"), PREFERENCES)
@pytest.mark.parametrize("first", ["better", "worse"])
def test_of_several_axial_series_one_is_preferred_by_rule(phantom, tmp_path, better, worse, words, first):
    """Whichever lies first in the folder."""
    for name, tags in (("better", better), ("worse", worse)):
        write_series(phantom, tmp_path / f"{'0' if name == first else '1'}_{name}", **tags)
    found = find_chest_series(tmp_path)
    assert all("better" in path.parent.name for path in found.series.files)
    assert "the best of 2" in found.series.reason
    (why,) = found.series.left_out.values()
    assert words in why


def test_thin_slices_win_over_many_and_more_slices_over_few(phantom, tmp_path):
    thick = thin_phantom(slices=40, spacing_mm=5.0)
    fewer = thin_phantom(slices=45)
    write_series(thick, tmp_path / "thick", SeriesDescription="thick", SeriesNumber=1)
    write_series(fewer, tmp_path / "fewer", SeriesDescription="fewer", SeriesNumber=2)
    uid = write_series(phantom, tmp_path / "thin", SeriesNumber=3, BodyPartExamined="CHEST")
    found = find_chest_series(tmp_path)
    assert found.series.uid == uid
    assert reasons(found) == {"thick": "slices of 5 mm, another series has thinner ones", "fewer": "fewer slices"}


def test_thick_slices_are_taken_when_there_are_no_others(tmp_path):
    uid = write_series(thin_phantom(slices=30, spacing_mm=8.0), tmp_path)
    assert find_chest_series(tmp_path).series.uid == uid


def test_a_series_with_a_hole_gives_way_to_the_next(phantom, tmp_path):
    write_series(phantom, tmp_path / "holed", SeriesNumber=1, SeriesDescription="holed chest")
    uid = write_series(thin_phantom(slices=45), tmp_path / "whole", SeriesNumber=2)
    middle = sorted((tmp_path / "holed").iterdir(), key=lambda path: dcmread(path).InstanceNumber)[25]
    middle.unlink()
    found = find_chest_series(tmp_path)
    assert found.series.uid == uid
    assert "spacing is uneven" in reasons(found)["holed chest"]


def test_a_localizer_within_the_series_is_parted_from_it(phantom, tmp_path):
    uid = write_series(phantom, tmp_path / "ct")
    write_localizer(phantom, tmp_path / "more")
    change_series(tmp_path / "more", SeriesInstanceUID=uid)
    found = find_chest_series(tmp_path)
    assert (found.series.uid, len(found.series.files)) == (uid, 50)
    assert list(found.series.left_out.values()) == ["a localizer (scout view)"]


def test_an_image_that_is_there_twice_counts_once(phantom, tmp_path):
    write_series(phantom, tmp_path / "ct")
    copied = next((tmp_path / "ct").iterdir())
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "again.dcm").write_bytes(copied.read_bytes())
    assert len(find_chest_series(tmp_path).series.files) == 50


def test_files_that_cannot_be_read_are_counted_and_other_files_passed_over(phantom, tmp_path):
    write_series(phantom, tmp_path / "ct")
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / ".hidden.dcm").write_bytes(b"no DICOM")
    assert find_chest_series(tmp_path).series.left_out == {"1 files": "no readable DICOM header"}


def test_two_studies_are_refused_with_their_list(phantom, tmp_path):
    write_series(phantom, tmp_path / "a", study="1.2.3")
    write_series(phantom, tmp_path / "b", study="1.2.4")
    listed = r"2 studies and 1 patients(.|\n)*study 1.2.3: 50 images(.|\n)*study 1.2.4"
    with pytest.raises(ValueError, match=listed) as caught:
        find_chest_series(tmp_path)
    assert_no_identity(str(caught.value))


def test_two_patients_in_one_study_are_refused(phantom, tmp_path):
    write_series(phantom, tmp_path / "a")
    write_series(phantom, tmp_path / "b", PatientID="another")
    with pytest.raises(ValueError, match="1 studies and 2 patients"):
        find_chest_series(tmp_path)


def test_a_study_without_chest_ct_is_refused_with_what_is_there(phantom, tmp_path):
    write_series(phantom, tmp_path / "a", SeriesDescription="cor", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    with pytest.raises(
        ValueError, match=r"no axial chest CT(.|\n)*series 2 \(cor\): 50 images: not axial(.|\n)*Export"
    ):
        find_chest_series(tmp_path)


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match="No DICOM images in the folder"):
        find_chest_series(tmp_path)


@pytest.mark.parametrize("words", ["CT of Quirrel", "chest zz-40711"])
def test_a_description_that_names_the_patient_is_withheld(phantom, tmp_path, words):
    write_series(phantom, tmp_path, SeriesDescription=words)
    found = find_chest_series(tmp_path)
    assert found.series.description.startswith("description withheld")
    assert found.patient_id == PATIENT_ID


@pytest.mark.parametrize("words", ["Thorax \x10\0\x10\0PN\x08\0Quirrel", "Quirrel" + "x" * 60])
def test_a_description_with_a_damaged_length_is_withheld(words):
    header = Dataset()
    with config.disable_value_validation():
        header.SeriesDescription = words
    assert safe_description(header) == "damaged text, withheld"


def test_neither_messages_nor_warnings_name_the_patient(phantom, tmp_path, recwarn, caplog):
    folder = tmp_path / PATIENT_NAME
    write_series(phantom, folder, PatientID=PATIENT_ID + "\\x" * 40)
    truncated = next(folder.iterdir())
    truncated.rename(folder / f"{PATIENT_ID}.dcm").write_bytes((folder / f"{PATIENT_ID}.dcm").read_bytes()[:-900])
    with pytest.raises(ValueError, match="truncated") as caught:
        find_chest_series(folder)
    for text in (str(caught.value), caplog.text, *(str(one.message) for one in recwarn.list)):
        assert_no_identity(text)


def assert_no_identity(text: str) -> None:
    for part in (PATIENT_ID, *PATIENT_NAME.split("^")):
        assert part.lower() not in text.lower()


def test_the_affine_is_that_of_the_phantom(phantom, tmp_path):
    write_series(phantom, tmp_path)
    assert np.allclose(find_chest_series(tmp_path).volume.affine, phantom.affine)


def test_series_that_wrongly_share_a_uid_are_separated_by_their_other_attributes(phantom, tmp_path):
    write_series(phantom, tmp_path / "sharp", SeriesInstanceUID="1.2.9", SeriesNumber=3, ConvolutionKernel="BONE")
    write_series(phantom, tmp_path / "soft", SeriesInstanceUID="1.2.9", SeriesNumber=4, ConvolutionKernel="SOFT")
    found = find_chest_series(tmp_path)
    assert {path.parent.name for path in found.series.files} == {"soft"}
    assert len(found.series.files) == 50


def test_a_series_without_uid_is_named_after_its_content(phantom, tmp_path):
    write_series(phantom, tmp_path / "one", SeriesInstanceUID="", SOPInstanceUID="", StudyInstanceUID="")
    write_series(
        thin_phantom(slices=49), tmp_path / "two", SeriesInstanceUID="", SOPInstanceUID="", StudyInstanceUID=""
    )
    one, again, two = (find_chest_series(tmp_path / name).series for name in ("one", "one", "two"))
    assert one.uid == again.uid != two.uid
    assert one.uid.startswith("2.25.")
    assert len({one.uid, one.study_uid, two.uid, two.study_uid}) == 4


def test_images_of_one_series_with_other_studies_and_patients_are_one_series(phantom, tmp_path):
    """A de-identification that draws new identifiers for each file."""
    write_series(phantom, tmp_path)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        image = dcmread(path)
        image.StudyInstanceUID, image.SeriesInstanceUID = f"1.2.5.{number}", f"1.2.6.{number}"
        image.PatientID = f"anonymous {number}"
        image.save_as(path)
    found = find_chest_series(tmp_path)
    assert len(found.series.files) == 50
    assert "SeriesInstanceUID differs from image to image" in found.volume.notes
