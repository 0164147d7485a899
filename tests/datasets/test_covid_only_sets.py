"""STOIC2021, MosMedData and COVID-19-20: COVID-19 without CAP."""

import itk
import nibabel
import numpy as np
import pytest
from custom_components.datalists.scans import list_scans
from custom_components.datasets.covid19_20 import convert_covid19_20
from custom_components.datasets.mosmed import convert_mosmed
from custom_components.datasets.stoic2021 import convert_stoic2021

from tests.datasets.published import cases_of, chest, flipped, reasons_of, save

ONE, TWO = chest(1), chest(2)


def upright(path):
    """Voxels to Left, Posterior, Superior."""
    image = nibabel.load(path)
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt("LPS")
    ))  # fmt: skip
    return np.asarray(turned.dataobj), turned.affine


def write_mha(path, phantom, facts):
    """A MetaImage of int16 as the challenge has it: compressed, sex and age in the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = itk.image_from_array(np.ascontiguousarray(np.rint(phantom.image_hu).astype(np.int16).T))
    image.SetSpacing([float(step) for step in phantom.spacing_mm])
    image.SetOrigin((np.diag([-1, -1, 1]) @ phantom.affine[:3, 3]).tolist())
    for key, value in facts.items():
        image[key] = value
    itk.imwrite(image, str(path), compression=True)


@pytest.fixture
def stoic(tmp_path):
    """Patients 2 and 10 are positive, 3 negative, 4 not listed, 5 with another label."""
    root = tmp_path / "stoic"
    for patient, facts in {
        "2": {"PatientSex": "F", "PatientAge": "055Y"}, "10": {}, "3": {}, "4": {}, "5": {},
    }.items():  # fmt: skip
        write_mha(root / "data" / "mha" / f"{patient}.mha", TWO if patient == "10" else ONE, facts)
    (root / "metadata").mkdir()
    (root / "metadata" / "reference.csv").write_text(
        "PatientID,probCOVID,probSevere\n2,1,0\n10,1.0,1.0\n3,0,0\n5,0.5,0\n"
    )
    return root


def test_stoics_positive_patients_are_converted_with_their_outcome(stoic, tmp_path):
    path = convert_stoic2021(stoic, tmp_path / "out")
    cases = cases_of(path)
    assert list(cases) == ["stoic_2", "stoic_10"]
    assert cases["stoic_2"] == {
        "case_id": "stoic_2", "patient_id": "stoic_2", "image": "images/stoic_2.nii.gz", "label": "covid",
        "severe": 0, "sex": "F", "age": 55,
    }  # fmt: skip
    assert (cases["stoic_10"]["severe"], "age" in cases["stoic_10"]) == (1, False)
    for name, phantom in {"stoic_2": ONE, "stoic_10": TWO}.items():
        hu, affine = upright(path.parent / cases[name]["image"])
        np.testing.assert_array_equal(hu, np.rint(phantom.image_hu))
        np.testing.assert_allclose(affine, phantom.affine, atol=1e-3)
    assert [scan["label"] for scan in list_scans(path, labelled=False)] == [1, 1]


def test_stoics_other_patients_are_left_out_with_the_reason(stoic, tmp_path):
    whole = stoic / "data" / "mha" / "10.mha"
    whole.write_bytes(whole.read_bytes()[:400])
    reasons = reasons_of(convert_stoic2021(stoic, tmp_path / "out"))
    assert "RT-PCR test was negative: neither COVID-19 nor CAP" in reasons["stoic_3"]
    assert reasons["stoic_4"] == "Case stoic_4: it is not in reference.csv."
    assert reasons["stoic_5"] == "Case stoic_5: its labels in reference.csv are not 0 or 1."
    assert "10.mha is truncated or not a MetaImage" in reasons["stoic_10"]


def test_stoics_table_must_be_the_published_one(stoic, tmp_path):
    (stoic / "metadata" / "reference.csv").write_text("PatientID,label\n2,1\n")
    with pytest.raises(ValueError, match="Expected PatientID, probCOVID, probSevere"):
        convert_stoic2021(stoic, tmp_path / "out")
    (stoic / "metadata" / "reference.csv").unlink()
    with pytest.raises(ValueError, match=r"has 5 \.mha files and 0 reference\.csv"):
        convert_stoic2021(stoic, tmp_path / "out")


@pytest.fixture
def mosmed(tmp_path):
    """0255 with a mask stored in another orientation, 0300 without, 0001 of CT-0."""
    root = tmp_path / "COVID19_1110"
    for place, phantom in {"CT-0/study_0001": TWO, "CT-1/study_0255": ONE, "CT-3/study_0300": TWO}.items():
        save(root / "studies" / f"{place}.nii.gz", np.rint(phantom.image_hu).astype(np.int16), phantom.affine)
    save(root / "masks" / "study_0255_mask.nii.gz", *flipped(ONE.infection.astype(float), ONE.affine, 1))
    return root


def test_mosmeds_grades_are_kept_and_masks_lie_on_the_lungs(mosmed, tmp_path):
    path = convert_mosmed(mosmed, tmp_path / "out")
    cases = cases_of(path)
    assert {name: (case["label"], case["grade"], "infection" in case) for name, case in cases.items()} == {
        "study_0255": ("covid", "CT-1", True), "study_0300": ("covid", "CT-3", False)
    }  # fmt: skip
    np.testing.assert_array_equal(upright(path.parent / cases["study_0255"]["infection"])[0], ONE.infection)
    np.testing.assert_array_equal(upright(path.parent / cases["study_0255"]["image"])[0], np.rint(ONE.image_hu))
    assert reasons_of(path)["study_0001"].startswith("Normal: ")
    assert len(list_scans(path, labelled=False)) == 2


def test_mosmeds_scans_without_findings_or_masks_are_options(mosmed, tmp_path):
    path = convert_mosmed(mosmed, tmp_path / "all", normals=True)
    assert cases_of(path)["study_0001"]["label"] == "normal"
    path = convert_mosmed(mosmed, tmp_path / "masked", masks_only=True)
    assert set(cases_of(path)) == {"study_0255"}
    assert reasons_of(path)["study_0300"] == "There is no infection mask."


def test_mosmeds_odd_files_are_left_out_with_the_reason(mosmed, tmp_path):
    save(mosmed / "masks" / "study_0300_mask.nii.gz", TWO.infection[..., 1:], TWO.affine)
    save(mosmed / "masks" / "study_0400_mask.nii.gz", TWO.infection, TWO.affine)
    save(mosmed / "studies" / "study_0500.nii.gz", TWO.image_hu, TWO.affine)
    (mosmed / "studies" / "CT-2").mkdir()
    (mosmed / "studies" / "CT-2" / "study_0600.nii.gz").write_bytes(b"\x1f\x8b")
    path = convert_mosmed(mosmed, tmp_path / "out")
    assert set(cases_of(path)) == {"study_0255"}
    reasons = reasons_of(path)
    assert "infection is 64 x 56 x 25 but the image is 64 x 56 x 26" in reasons["study_0300"]
    assert "there are 0 scans, 1 masks and the grade unknown" in reasons["study_0400"]
    assert "there are 1 scans, 0 masks and the grade unknown" in reasons["study_0500"]
    assert "truncated or not a NIfTI file" in reasons["study_0600"]


@pytest.fixture
def challenge(tmp_path):
    """Two volumes of patient 0070, one without a mask."""
    root = tmp_path / "COVID-19-20_v2"
    for place, phantom in {"Train/volume-covid19-A-0003": ONE, "Train/volume-covid19-A-0070_1": TWO}.items():
        save(root / f"{place}_ct.nii.gz", np.rint(phantom.image_hu).astype(np.int16), phantom.affine)
        save(root / f"{place}_seg.nii.gz", *flipped(phantom.infection, phantom.affine, 0))
    save(root / "Validation/volume-covid19-A-0070_2_ct.nii.gz", TWO.image_hu.astype(np.int16), TWO.affine)
    return root


def test_the_challenges_masks_are_those_of_the_volumes(challenge, tmp_path):
    path = convert_covid19_20(challenge, tmp_path / "out")
    cases = cases_of(path)
    assert list(cases) == ["volume-covid19-A-0003", "volume-covid19-A-0070_1"]
    for name, phantom in zip(cases, (ONE, TWO), strict=True):
        np.testing.assert_array_equal(upright(path.parent / cases[name]["infection"])[0], phantom.infection)
        np.testing.assert_array_equal(upright(path.parent / cases[name]["image"])[0], np.rint(phantom.image_hu))
    assert "there is no mask. Set --without_masks" in reasons_of(path)["volume-covid19-A-0070_2"]
    cases = cases_of(convert_covid19_20(challenge, tmp_path / "all", without_masks=True))
    assert [case["patient_id"][-4:] for case in cases.values()] == ["0003", "0070", "0070"]
    assert "infection" not in cases["volume-covid19-A-0070_2"]


def test_an_empty_mask_stays_empty(challenge, tmp_path):
    save(challenge / "Train" / "volume-covid19-A-0003_seg.nii.gz", ONE.infection * 0, ONE.affine)
    path = convert_covid19_20(challenge, tmp_path / "out")
    assert not upright(path.parent / cases_of(path)["volume-covid19-A-0003"]["infection"])[0].any()


def test_a_mask_of_another_volume_is_left_out(challenge, tmp_path):
    outside = np.zeros_like(ONE.infection)
    outside[:3] = 1
    save(challenge / "Train" / "volume-covid19-A-0003_seg.nii.gz", outside, ONE.affine)
    save(challenge / "copy" / "volume-covid19-A-0070_1_ct.nii.gz", TWO.image_hu.astype(np.int16), TWO.affine)
    path = convert_covid19_20(challenge, tmp_path / "out", without_masks=True)
    reasons = reasons_of(path)
    assert "0% of the infection mask lies in the lungs. Expected 50% or more" in reasons["volume-covid19-A-0003"]
    assert "2 volumes and 1 masks. Expected one of each" in reasons["volume-covid19-A-0070_1"]


@pytest.mark.parametrize("convert", [convert_stoic2021, convert_mosmed, convert_covid19_20])
def test_another_folder_is_rejected_and_nothing_is_written(tmp_path, convert):
    save(tmp_path / "in" / "scan.nii.gz", ONE.label, ONE.affine)
    with pytest.raises(ValueError, match=r"^Data set .* has .*\. Expected "):
        convert(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
