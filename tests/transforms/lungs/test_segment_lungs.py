import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from custom_components.diagnosis.pipeline import SEGMENT_WEIGHTS
from custom_components.images.ct_reader import CTReader
from custom_components.labels import LEFT, RIGHT
from custom_components.networks.vbnet import VBNet
from custom_components.phantom import make_scan
from custom_components.transforms.lungs.segment_lungs import SegmentLungsd, segment_lungs_and_infection
from monai.data import MetaTensor
from monai.transforms import LoadImage
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy.ndimage import binary_erosion, label
from sklearn.metrics import roc_auc_score
from torch import nn

from tests.real_data import real_data

SPACING_MM = (4.2, 4.4, 6.0)
# Of the stand-in's grid: finer than the phantom, so that nothing is lost.
GRID_MM = (3.0, 3.5, 4.0)
WINDOW_HU = (-1350.0, 150.0)
# A window that takes the phantom in at once.
PATCH = (128, 128, 80)


class ByThreshold(nn.Module):
    """Stand-in for a trained VB-Net: classes by HU with sharp logits, if asked also a false lung near the origin."""

    def __init__(self, low=0.1, high=0.6, stray=False):
        super().__init__()
        self.low, self.high, self.stray = low, high, stray
        self.seen = []

    def forward(self, x):
        self.seen.append((tuple(x.shape), float(x.min()), float(x.max()), self.training))
        lung = (x > 0.2) & (x < 0.5)
        infection = (x >= 0.5) & (x < 0.8)
        if self.stray:
            lung[:, :, 2:4, 2:4, 2:4] = True
        return torch.cat([~(lung | infection), lung, infection], dim=1).float() * 20


@pytest.fixture(scope="module")
def painted():
    """A phantom's masks as a CT: tissue 0 HU, lung -850 HU, infection -400 HU, x to Left."""
    phantom = make_scan("covid", 0.15, 5, (88, 80, 44), SPACING_MM)
    hu = np.where(phantom.lung > 0, -850.0, 60.0)
    hu[phantom.infection > 0] = -400.0
    return phantom, hu.astype(np.float32)


def tensor(array, affine):
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(array))[None], affine=torch.from_numpy(affine))


def run(array, affine, network=None, **settings):
    settings = {"spacing_mm": GRID_MM, "window_hu": WINDOW_HU, "amp": False, "patch_size": PATCH, **settings}
    return segment_lungs_and_infection(tensor(array, affine), network or ByThreshold(), **settings)


def dice(first, second):
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_planted_lungs_and_infection_are_found_on_the_grid_of_the_ct(painted):
    phantom, hu = painted
    lungs, infection = run(hu, phantom.affine)
    assert lungs.shape == infection.shape == (1, *hu.shape)
    assert lungs.dtype == infection.dtype == torch.uint8
    assert torch.equal(lungs.affine, torch.from_numpy(phantom.affine))
    assert dice(lungs[0], phantom.lung) > 0.96
    assert dice(infection[0], phantom.infection) > 0.75  # the stand-in takes the lungs' blurred rim for infection
    assert (lungs > 0).sum() == pytest.approx(phantom.lung.sum(), rel=0.05)


def test_left_and_right_are_those_of_the_patient(painted):
    phantom, hu = painted
    lungs = run(hu, phantom.affine)[0][0].numpy()
    assert set(np.unique(lungs)) == {0, LEFT, RIGHT}
    for side, sign in ((LEFT, -1), (RIGHT, 1)):
        middle = phantom.affine @ [*np.argwhere(lungs == side).mean(axis=0), 1]
        assert middle[0] * sign > 20


@pytest.mark.parametrize(
    "orientation", [[[0, -1], [1, -1], [2, 1]], [[2, -1], [0, 1], [1, 1]], [[1, 1], [2, 1], [0, -1]]]
)
def test_the_storage_order_changes_nothing(painted, orientation):
    phantom, hu = painted
    orientation = np.array(orientation)
    stored = apply_orientation(hu, orientation)
    affine = phantom.affine @ inv_ornt_aff(orientation, hu.shape)
    wanted, found = run(hu, phantom.affine), run(stored, affine)
    for one, other in zip(wanted, found, strict=True):
        assert (apply_orientation(one[0].numpy(), orientation) == other[0].numpy()).mean() > 0.9999


def test_infection_lies_in_the_lungs(painted):
    phantom, hu = painted
    outside = hu.copy()
    outside[:, :4, :8] = -450.0  # a fold of blanket, say
    lungs, infection = run(outside, phantom.affine)
    assert not (infection[lungs == 0] > 0).any()
    assert not infection[0, :, :4, :8].any()


def test_specks_and_air_outside_the_lungs_are_removed(painted):
    phantom, hu = painted
    plain, stray = (run(hu, phantom.affine, ByThreshold(stray=value))[0] for value in (False, True))
    assert torch.equal(plain, stray)


def test_a_hole_in_the_lungs_is_filled(painted):
    phantom, hu = painted
    deep = np.argwhere(binary_erosion(phantom.lung > 0, iterations=4))
    place, holed = deep[len(deep) // 2], hu.copy()
    holed[tuple(slice(index - 1, index + 2) for index in place)] = 60.0
    assert run(holed, phantom.affine)[0][0][tuple(place)] > 0


def test_the_network_gets_patches_of_the_body_in_its_hu_window(painted):
    phantom, hu = painted
    network = ByThreshold().train()
    run(hu, phantom.affine, network, patch_size=(64, 48, 32))
    shapes, low, high, training = zip(*network.seen, strict=True)
    assert set(shapes) == {(1, 1, 64, 48, 32)}
    assert (min(low), max(high)) == (pytest.approx(500 / 1500), pytest.approx(1410 / 1500))
    assert not any(training)
    assert network.training
    field_mm = np.array(hu.shape) * SPACING_MM
    covered = len(shapes) * 64 * 48 * 32
    assert np.prod(field_mm / GRID_MM) < covered < 5 * np.prod(field_mm / GRID_MM)


def test_by_default_the_window_goes_from_minus_1100_hu_to_water(painted):
    phantom, hu = painted
    network = ByThreshold()
    image = tensor(hu, phantom.affine)
    segment_lungs_and_infection(image, network, GRID_MM, amp=False, patch_size=(64, 48, 32))
    _, low, high, _ = zip(*network.seen, strict=True)
    assert (min(low), max(high)) == (pytest.approx(250 / 1100), 1.0)  # -850 and 60 HU


def test_patches_give_the_same_result_as_the_whole(painted):
    phantom, hu = painted
    for whole, windows in zip(run(hu, phantom.affine), run(hu, phantom.affine, patch_size=(64, 48, 32)), strict=True):
        assert torch.equal(whole, windows)


def test_air_around_the_body_is_not_processed(painted):
    phantom, hu = painted
    narrow = hu.copy()
    narrow[:8], narrow[-9:], narrow[:, :6] = -1000.0, -1000.0, -1000.0
    network = ByThreshold()
    run(narrow, phantom.affine, network, patch_size=(16, 16, 16))
    full = ByThreshold()
    run(hu, phantom.affine, full, patch_size=(16, 16, 16))
    assert len(network.seen) < 0.85 * len(full.seen)


def test_the_network_s_axes_run_to_left_posterior_and_superior(painted):
    """As by Orientationd LPS and Spacingd in segment_train.yaml."""
    phantom, hu = painted
    marked = hu.copy()
    marked[1:8, :, :], marked[:, :, :6] = -390.0, 150.0  # right side darker than tissue, feet bright; x to Left
    seen = []

    class Spy(ByThreshold):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    flipped = np.array([[0, -1], [1, 1], [2, -1]])
    run(apply_orientation(marked, flipped), phantom.affine @ inv_ornt_aff(flipped, marked.shape), Spy())
    shape = np.ceil(np.array(hu.shape) * SPACING_MM / GRID_MM).astype(int)
    start = [(size - own) // 2 for size, own in zip(PATCH, shape, strict=True)]  # the window is larger: padded
    image = seen[0][0, 0][tuple(slice(first, first + own) for first, own in zip(start, shape, strict=True))]
    assert image[2:6, :, 20:].mean() < 0.7 < image[-6:-2, :, 20:].mean()
    assert image[20:, :, :4].mean() > 0.98 > image[20:, :, -4:].mean()


@pytest.mark.parametrize("value_hu", [0.0, -850.0])
def test_an_image_without_a_chest_is_rejected(value_hu):
    image = tensor(np.full((100, 100, 60), value_hu, np.float32), np.diag([-4.0, -4.0, 6.0, 1.0]))
    with pytest.raises(ValueError, match=r"litres of lung. Expected 0.5 to 12"):
        segment_lungs_and_infection(image, ByThreshold(), GRID_MM, WINDOW_HU, amp=False)


def test_an_image_that_is_not_a_volume_is_rejected():
    with pytest.raises(ValueError, match=r"Tensor of shape \(3, 4, 5\). Expected a MetaTensor \(1, X, Y, Z\)"):
        segment_lungs_and_infection(torch.zeros(3, 4, 5), ByThreshold())


def segmenter(network):
    return SegmentLungsd(network, spacing_mm=GRID_MM, window_hu=WINDOW_HU, amp=False, patch_size=PATCH)


def test_a_case_without_masks_gets_both_with_their_source(painted):
    phantom, hu = painted
    item = segmenter(ByThreshold())({"image": tensor(hu, phantom.affine), "lung": None})
    assert item["lung_source"] == item["infection_source"] == "VB-Net"
    assert dice(item["lung"][0], phantom.lung) > 0.96
    assert item["lung"].max() == item["infection"].max() == 1
    assert item["lung_sides"].unique().tolist() == [0, LEFT, RIGHT]
    assert torch.equal(item["lung_sides"] > 0, item["lung"] > 0)


def test_an_existing_lung_mask_is_kept_and_limits_the_infection(painted):
    phantom, hu = painted
    half = phantom.lung.copy()
    half[: hu.shape[0] // 2] = 0
    given = {"image": tensor(hu, phantom.affine), "lung": tensor(half, phantom.affine)}
    item = segmenter(ByThreshold())(given)
    assert item["lung"] is given["lung"]
    assert "lung_sides" not in item
    assert (item["lung_source"], item["infection_source"]) == ("mask file", "VB-Net")
    assert not (item["infection"][0].numpy() * (half == 0)).any()
    assert item["infection"].any()


@pytest.mark.parametrize("network", [None, ByThreshold()])
def test_a_case_with_both_masks_or_without_network_is_not_changed(network):
    item = {"image": 0, **({} if network is None else {"lung": 1, "infection": 2})}
    assert segmenter(network)(item) == item


def real_patient(name):
    """CT, whether radiologists saw infection in each slice along the array's last axis, and the shipped network."""
    folder = real_data("covid_ct_md")
    weights = Path(__file__).parents[3] / "covid_cap_bundle" / SEGMENT_WEIGHTS
    image = LoadImage(reader=CTReader(), ensure_channel_first=True)(folder / name)
    with (folder / f"{name}_slices.csv").open(newline="", encoding="utf-8") as file:
        infected = np.array([int(row["infected"]) for row in csv.DictReader(file)])
    network = VBNet()
    network.load_state_dict(torch.load(weights, weights_only=True))
    # Counted from the head: the upper lobe's marks of P001 come before the middle lobe's and the lower lobe's.
    return image, infected[::-1] if image.affine[2, 2] > 0 else infected, network


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["P001", pytest.param("cap001", marks=pytest.mark.slow)])
def test_real_lungs_are_plausible_and_infection_lies_where_radiologists_saw_it(name):
    image, infected, network = real_patient(name)
    lungs, infection = segment_lungs_and_infection(image, network)
    litres = {side: float((lungs == side).sum()) * float(image.pixdim.prod()) / 1e6 for side in (LEFT, RIGHT)}
    assert 3 < sum(litres.values()) < 7.5
    assert 0.4 < litres[LEFT] / litres[RIGHT] < 1.5
    assert label(lungs[0].numpy() == LEFT)[1] < 5
    inside = image[0].numpy()[lungs[0].numpy() > 0]
    assert -950 < np.median(inside) < -700
    assert np.mean(inside < -970) < 0.1  # trachea and air beside the body are pure gas
    area = infection[0].sum(dim=(0, 1)).numpy()
    assert roc_auc_score(infected, area) > 0.75
