import sys
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.diagnosis.bundle_network import BundleSteps
from custom_components.diagnosis.lung_sources import LUNGMASK_SOURCE, Lungmask, find_lungs
from custom_components.phantom import make_volume
from custom_components.transforms.lungs import segment_lungs
from custom_components.transforms.lungs.fallback_lung_mask import FALLBACK_SOURCE
from custom_components.transforms.lungs.segment_lungs import VBNET_SOURCE
from monai.data import MetaTensor

from tests.bundles.conftest import ROOT
from tests.diagnosis.conftest import PlantedMasks, image_of

ORIENTATIONS = ("LPS", "RAS", "RPI", "PSL")


def stored_as(image: MetaTensor, axcodes: str) -> MetaTensor:
    there = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine.numpy()), nib.orientations.axcodes2ornt(tuple(axcodes))
    )
    turned = np.ascontiguousarray(nib.apply_orientation(image[0].numpy(), there))
    affine = image.affine.numpy() @ nib.orientations.inv_ornt_aff(there, image.shape[1:])
    return MetaTensor(torch.from_numpy(turned)[None], affine=torch.from_numpy(affine))


def middle_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return (affine @ [*np.argwhere(mask).mean(axis=0), 1])[:3]


@pytest.fixture
def by_vbnet(monkeypatch):
    """The steps of the bundle with another function instead of VB-Net."""

    def call(segment):
        monkeypatch.setattr(segment_lungs, "segment_lungs_and_infection", segment)
        return BundleSteps(ROOT / "covid_cap_bundle", segment_ckpt_path="vbnet.pt")

    return call


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


class LMInferer:
    """Replaces the class of the package: returns the lungs of the phantom."""

    seen: list = []  # noqa: RUF012

    def __init__(self, **options):
        self.options = options

    def apply(self, slices: np.ndarray) -> np.ndarray:
        self.seen.append(slices)
        return self.found.astype(np.uint8) * 2


@pytest.fixture
def package(monkeypatch, scan, tmp_path):
    module = ModuleType("lungmask")
    module.__spec__ = object()
    module.LMInferer = LMInferer
    monkeypatch.setattr(LMInferer, "found", scan.lung.transpose(2, 1, 0), raising=False)
    monkeypatch.setattr(LMInferer, "seen", [])
    monkeypatch.setitem(sys.modules, "lungmask", module)
    weights = tmp_path / "unet.pth"
    torch.save({"weight": torch.zeros(1)}, weights)
    return weights


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_threshold_and_morphology_find_both_lungs_in_any_orientation(scan, axcodes):
    image = stored_as(image_of(scan), axcodes)
    masks = find_lungs(image)
    left, right = (middle_mm(masks.lungs == side, image.affine.numpy()) for side in (1, 2))
    assert right[0] - left[0] > 80  # RAS: x grows to the patient's right
    assert masks.lung_source == FALLBACK_SOURCE
    truth = stored_as(MetaTensor(torch.from_numpy(scan.lung)[None], affine=image_of(scan).affine), axcodes)[0].numpy()
    assert dice(masks.lungs > 0, truth > 0) > 0.9
    assert masks.vbnet_infection is None
    assert "Infection was not segmented, and the infection ratio is unknown: VB-Net has no weights" in masks.not_done[0]


def test_lungs_that_touch_are_separated(scan):
    """A bridge of air in front of the heart, three voxels wide, connects them."""
    image, truth = image_of(scan), scan.lung
    sides = find_lungs(image).lungs
    z, y = 24, int(np.argwhere(truth[:, :, 24]).mean(axis=0)[1])
    first, last = np.flatnonzero(truth[:, y - 14 : y, z].any(axis=1))[[0, -1]]
    row = next(row for row in range(y - 14, y) if truth[:, row, z].sum() > 10)
    bridged = image.clone()
    bridged[0, first:last, row : row + 3, z : z + 2] = -800.0
    found = find_lungs(bridged).lungs
    for side in (1, 2):
        assert dice(found == side, sides == side) > 0.9


def test_vbnet_gives_lungs_and_infection(scan, by_vbnet):
    masks = find_lungs(image_of(scan), by_vbnet(PlantedMasks(scan)))
    assert set(np.unique(masks.lungs)) == {0, 1, 2}
    assert np.array_equal(masks.lungs > 0, scan.lung > 0)
    assert np.array_equal(masks.vbnet_infection, scan.infection)
    assert (masks.lung_source, masks.not_done) == (VBNET_SOURCE, ())


def test_if_vbnet_finds_no_lungs_morphology_replaces_it_with_a_note(scan, by_vbnet):
    def segment(*_):
        raise ValueError("Case a: VB-Net finds 0.01 litres of lung.")

    masks = find_lungs(image_of(scan), by_vbnet(segment))
    assert masks.lung_source == FALLBACK_SOURCE
    assert masks.vbnet_infection is None
    assert masks.not_done == (
        "Lungs and infection by VB-Net: Case a: VB-Net finds 0.01 litres of lung. Infection and its ratio are unknown.",
    )


def test_other_errors_of_vbnet_are_raised(scan, by_vbnet):
    def segment(*_):
        raise RuntimeError("convolution failed")

    with pytest.raises(RuntimeError, match="convolution failed"):
        find_lungs(image_of(scan), by_vbnet(segment))


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_lungmask_gets_slices_of_an_upright_patient_and_its_mask_is_turned_back(scan, package, axcodes):
    image = stored_as(image_of(scan), axcodes)
    masks = find_lungs(image, lungmask=Lungmask(package))
    (slices,) = LMInferer.seen
    assert np.array_equal(slices, scan.image_hu.transpose(2, 1, 0))
    back = stored_as(MetaTensor(torch.from_numpy(masks.lungs)[None], affine=image.affine), "LPS")[0].numpy()
    assert np.array_equal(back > 0, scan.lung > 0)
    assert set(np.unique(back)) == {0, 1, 2}
    assert masks.lung_source == LUNGMASK_SOURCE


def test_with_lungmask_the_infection_of_vbnet_is_limited_to_its_lungs(scan, package, monkeypatch, by_vbnet):
    smaller = scan.lung.copy()
    smaller[:, : scan.lung.shape[1] // 2] = 0
    monkeypatch.setattr(LMInferer, "found", smaller.transpose(2, 1, 0))
    masks = find_lungs(image_of(scan), by_vbnet(PlantedMasks(scan)), Lungmask(package))
    assert np.array_equal(masks.vbnet_infection, scan.infection * smaller)
    assert masks.lung_source == LUNGMASK_SOURCE


def test_lungmask_reads_its_weights_from_the_file_and_downloads_nothing(package):
    options = Lungmask(package)._inferer.options
    assert options["modelpath"] == str(package)
    assert "modelname" not in options


def test_lungmask_without_package_or_weights_is_an_error(package, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="No weights of lungmask at"):
        Lungmask(tmp_path / "missing.pth")
    monkeypatch.setitem(sys.modules, "lungmask", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install lungmask"):
        Lungmask(package)


def test_the_installed_package_accepts_these_slices_and_weights(scan, tmp_path):
    resunet = pytest.importorskip("lungmask.resunet", reason="the package lungmask is not installed")
    network = resunet.UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    torch.save(network.state_dict(), tmp_path / "unet.pth")
    image = image_of(scan)[..., :2]
    found = Lungmask(tmp_path / "unet.pth")(image)
    assert (found.shape, found.dtype) == (tuple(image.shape[1:]), np.uint8)


def test_a_scan_without_lungs_is_an_error():
    phantom = make_volume(1, (40, 36, 20), (9.0, 10.0, 14.0), lesions_ml={})
    image = image_of(phantom)
    image[image < 0] = 40.0
    with pytest.raises(ValueError, match="no plausible lungs found"):
        find_lungs(image)
