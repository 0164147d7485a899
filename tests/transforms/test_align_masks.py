import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components import (
    AlignMasksd,
    CheckLabeld,
    InfectionRatiod,
    LesionsInLungsd,
    LungInfectionLabeld,
    PaperGridd,
    SegmentLungsd,
)
from custom_components.datasets.datalist import checked_ratio
from custom_components.phantom import make_scan
from custom_components.transforms.lungs import segment_lungs
from monai.data import MetaTensor
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

STORED = ["RPI", "SPL", "ASR"]


@pytest.fixture(scope="module")
def scan():
    return make_scan("covid", 0.2, 3, (48, 42, 20), (7.8, 8.8, 14.0))


def volume(array, affine):
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(array))[None], affine=torch.from_numpy(affine))


def stored(mask, codes):
    """The same mask in another storage order."""
    image = nib.Nifti1Image(mask[0].numpy(), mask.affine.numpy())
    turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    return volume(turned.dataobj, turned.affine)


@pytest.fixture
def case(scan):
    arrays = {"image": scan.image_hu, "lung": scan.lung, "infection": scan.infection}
    return {key: volume(array, scan.affine) for key, array in arrays.items()}


@pytest.fixture(params=STORED)
def turned(case, request):
    return case | {key: stored(case[key], request.param) for key in ("lung", "infection")}


def test_masks_get_the_storage_order_of_their_image(case, turned):
    aligned = AlignMasksd(("lung", "infection"))(turned)
    for key in ("lung", "infection"):
        assert torch.equal(aligned[key].as_tensor(), case[key].as_tensor())
        np.testing.assert_allclose(aligned[key].affine, case["image"].affine)
    assert aligned["image"] is case["image"]


def test_a_missing_mask_is_skipped_only_if_allowed(case):
    item = {"image": case["image"], "lung": None}
    assert AlignMasksd(("lung", "infection"), allow_missing_keys=True)(item) == item
    with pytest.raises(KeyError, match="infection"):
        AlignMasksd("infection")({"image": case["image"]})


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_both_sides_of_the_lungs_are_lung(case, kind):
    sides = case["lung"].clone().to(kind)
    sides[:, : sides.shape[1] // 2] *= 2
    aligned = AlignMasksd("lung")({**case, "lung": sides})["lung"]
    assert sorted(sides.unique().tolist()) == [0, 1, 2]
    assert torch.equal(aligned.as_tensor(), case["lung"].as_tensor().to(kind))
    assert aligned.dtype == kind


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("key", ["lung", "infection"])
def test_a_mask_of_0_and_255_is_one_of_0_and_1(case, key, kind):
    aligned = AlignMasksd(key)({**case, key: case[key].to(kind) * 255})[key]
    assert torch.equal(aligned.as_tensor(), case[key].as_tensor().to(kind))
    assert aligned.dtype == kind
    np.testing.assert_array_equal(aligned.affine, case[key].affine)


def test_255_with_another_value_is_kept_and_a_label_keeps_it(case):
    mixed = case["infection"].clone()
    mixed[0, 0, 0, 0] = 255
    assert AlignMasksd("infection")({**case, "infection": mixed})["infection"].unique().tolist() == [0, 1, 255]
    assert AlignMasksd("label")({**case, "label": case["infection"] * 255})["label"].max() == 255


def test_other_values_are_kept(case):
    other = case["lung"] * 3
    other[0, 0, 0, 0] = 2
    assert AlignMasksd("lung")({**case, "lung": other})["lung"].unique().tolist() == [0, 2, 3]
    assert AlignMasksd("infection")({**case, "infection": case["infection"] * 2})["infection"].max() == 2


def lesions_in_lungs(item):
    effusion = (torch.ones_like(item["image"]) * 3).to(torch.uint8)
    effusion[..., ::2] = 1
    return LesionsInLungsd("pred")({**item, "native": item["image"], "pred": effusion})["pred"]


def segment_infection(item, monkeypatch):
    """VB-Net that finds infection everywhere, limited to the given lungs."""
    everywhere = torch.ones_like(item["image"])
    monkeypatch.setattr(segment_lungs, "segment_lungs_and_infection", lambda *_: (everywhere, everywhere))
    return SegmentLungsd(torch.nn.Identity())({key: item[key] for key in ("image", "lung")})["infection"]


USES = {
    "LesionsInLungsd": lesions_in_lungs,
    "LungInfectionLabeld": lambda item: LungInfectionLabeld()(AlignMasksd("lung")(item))["label"],
    "InfectionRatiod": lambda item: torch.tensor(InfectionRatiod()(item)["ratio"]),
    "PaperGridd": lambda item: PaperGridd(grid=(12, 20, 24), spacing_mm=(12, 8, 8))(item)["infection"],
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_transforms_that_compare_grids_handle_any_order_without_it(case, turned, use):
    assert torch.equal(torch.as_tensor(use(turned)), torch.as_tensor(use(case)))


def test_infection_of_vbnet_is_limited_to_a_lung_mask_of_any_order(case, turned, monkeypatch):
    found = segment_infection(turned, monkeypatch)
    assert torch.equal(found.as_tensor() > 0, case["lung"].as_tensor() > 0)


def test_lungs_by_side_count_once_on_the_papers_grid(case):
    grid = PaperGridd(grid=(12, 20, 24), spacing_mm=(12, 8, 8))
    assert torch.equal(grid({**case, "lung": case["lung"] * 2})["image"], grid(case)["image"])


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_masks_of_0_and_255_count_as_those_of_0_and_1(case, use):
    masks = {key: case[key] * 255 for key in ("lung", "infection")}
    assert torch.equal(torch.as_tensor(use({**case, **masks})), torch.as_tensor(use(case)))


def test_a_flipped_label_is_rejected_until_it_is_aligned(case, scan):
    label = volume(scan.label, scan.affine)
    flipped = stored(label, "".join("RLAPSI"["LRPAIS".index(code)] for code in nib.aff2axcodes(scan.affine)))
    assert flipped.shape == label.shape
    with pytest.raises(ValueError, match="Case unknown: label is stored in another orientation than its image"):
        CheckLabeld("label")({**case, "label": flipped})
    CheckLabeld("label")(AlignMasksd("label")({**case, "label": flipped}))


@pytest.mark.parametrize("codes", STORED)
def test_the_ratio_of_a_datalist_does_not_depend_on_the_order(case, tmp_path, codes):
    sides = case["lung"].clone()
    sides[:, : sides.shape[1] // 2] *= 2
    infection = case["infection"] * 255
    masks = {"image": case["image"], "lung": stored(sides, codes), "infection": stored(infection, codes)}
    paths = {key: tmp_path / f"{key}.nii.gz" for key in masks}
    for key, mask in masks.items():
        nib.save(nib.Nifti1Image(mask[0].numpy(), mask.affine.numpy()), paths[key])
    expected = float(case["infection"].sum() / case["lung"].sum())
    assert checked_ratio({"case_id": "012", **paths}) == pytest.approx(expected, abs=1e-6)
