import numpy as np
import pytest
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.images.ct_reader import NOTES
from custom_components.phantom import make_volume
from custom_components.transforms.checks.implausible_lungs import implausible_lungs, warned_of_lungs
from custom_components.transforms.lungs.lung_mask import lung_mask
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from tests.real_data import real_data

PHANTOM = make_volume(seed=1, shape=(50, 42, 25), spacing_mm=(8.0, 8.4, 12.0))  # to Left, Posterior, Superior
X = np.arange(50)[:, None, None]
HU, LUNG, AFFINE = PHANTOM.image_hu, PHANTOM.lung != 0, PHANTOM.affine
LITRES = LUNG.sum() * 8.0 * 8.4 * 12.0 / 1e6


def beside(lung: np.ndarray) -> np.ndarray:
    """With air beside the patient, a tenth as much as the lungs."""
    mask = lung.copy()
    free = np.argwhere(HU[:3] < -950)[: int(0.1 * lung.sum())]
    mask[tuple(free.T)] = True
    return mask


KINDS = {
    "as lungs are": (HU, LUNG, ()),
    "coded 1 and 2": (HU, LUNG * np.where(X < 25, 2, 1), ()),
    "right": (HU, LUNG & (X < 25), ("100 % of it lies in the right half of the body",)),
    "left": (HU, LUNG & (X >= 25), ("100 % of it lies in the left half of the body",)),
    "outside": (HU, beside(LUNG), ("9 % of it lies outside the body",)),
    "dense": (
        np.where(LUNG, -300.0, HU), LUNG, ("its median is -300 HU, expected below -500 HU for aerated lung",)
    ),
    "empty": (HU, LUNG & False, ()),
}  # fmt: skip


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SAR"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_phrase_however_the_scan_is_stored(kind: str, orientation: str) -> None:
    hu, lung, expected = KINDS[kind]
    turn = ornt_transform(io_orientation(AFFINE), axcodes2ornt(tuple(orientation)))
    affine = AFFINE @ inv_ornt_aff(turn, HU.shape)
    assert implausible_lungs(apply_orientation(hu, turn), apply_orientation(lung, turn), affine) == expected


@pytest.mark.parametrize(("scale", "size"), [(0.5, "small"), (1.5, "large")])
def test_the_volume_of_both_lungs_is_between_one_and_nine_litres(scale: float, size: str) -> None:
    affine = AFFINE @ np.diag([scale, scale, scale, 1])
    litres = LITRES * scale**3
    assert (litres < 1, litres > 9) == (size == "small", size == "large")
    assert implausible_lungs(HU, LUNG, affine) == (f"its volume is {litres:.2g} litres, expected 1 to 9",)


def test_of_a_few_slices_neither_volume_nor_side_is_known() -> None:
    some = (slice(None), slice(None), slice(12, 16))
    assert implausible_lungs(HU[some], (LUNG & (X < 25))[some], AFFINE) == ()


def test_the_sentence_names_all_and_is_logged_once_a_case(caplog: pytest.LogCaptureFixture) -> None:
    sentences = {warned_of_lungs("012", np.where(LUNG, -300.0, HU), LUNG & (X < 25), AFFINE) for _ in range(3)}
    phrases = "; ".join(KINDS["dense"][2] + KINDS["right"][2])
    assert sentences == {f"The lung mask is implausible: {phrases}. Check it."}
    assert [record.message for record in caplog.records] == [f"Case 012 has an implausible lung mask: {phrases}."]
    assert warned_of_lungs("013", HU, LUNG, AFFINE) == ""


@pytest.mark.real_data
@pytest.mark.parametrize("patient", [pytest.param("P001", marks=pytest.mark.slow), "cap001"])
def test_lungs_of_real_patients_are_plausible_and_other_air_is_not(patient: str) -> None:
    image = ScanSource(real_data("covid_ct_md", patient)).image()
    assert image.meta[NOTES] == ""
    hu, affine = image[0].numpy(), image.affine.numpy()
    assert implausible_lungs(hu, lung_mask(hu, voxel_sizes(affine)), affine) == ()
    outside, litres = implausible_lungs(hu, hu < -500, affine)
    assert "lies outside the body" in outside
    assert "litres, expected 1 to 9" in litres
