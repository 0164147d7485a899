from functools import cache

import numpy as np
import pytest
import torch
from custom_components.images.ct_reader import CTReader
from custom_components.phantom import make_volume, write_nifti
from custom_components.transforms.lungs.fallback_lung_mask import FallbackLungMaskd
from custom_components.transforms.lungs.lung_mask import lung_mask
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged

SHAPE, SPACING_MM = (90, 78, 46), (4.2, 4.1, 6.1)
MADE, GIVEN = "threshold and morphology (no model)", "mask file"


@cache
def healthy():
    return make_volume(5, SHAPE, SPACING_MM, {})


@cache
def mask():
    return lung_mask(healthy().image_hu, SPACING_MM)


def dice(first, second):
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def item_of(**more):
    image_hu, affine = torch.as_tensor(healthy().image_hu)[None], torch.as_tensor(healthy().affine)
    return {"image": MetaTensor(image_hu, affine=affine, meta={"filename_or_obj": "/data/c7.nii.gz"}), **more}


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (0, 1)), ((2, 0, 1), (2,)), ((1, 2, 0), (0, 1, 2))])
def test_the_mask_is_the_same_in_the_world_however_the_array_is_stored(order, flips):
    phantom = healthy()
    affine = phantom.affine[:, [*order, 3]].copy()
    stored = phantom.image_hu.transpose(order)
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (stored.shape[axis] - 1)
        affine[:3, axis] *= -1
    image = MetaTensor(torch.as_tensor(np.flip(stored, flips).copy())[None], affine=torch.as_tensor(affine))
    lung = FallbackLungMaskd()({"image": image})["lung"]
    assert lung.shape == image.shape
    assert torch.equal(lung.affine, image.affine)
    assert np.array_equal(lung[0].numpy(), np.flip(mask().transpose(order), flips))


@pytest.mark.parametrize("absent", [{}, {"lung": None}])
def test_a_missing_mask_is_computed_and_its_source_recorded(absent):
    item = item_of(**absent)
    result = FallbackLungMaskd()(item)
    assert result["lung"].dtype == torch.uint8
    assert np.array_equal(result["lung"][0].numpy(), mask())
    assert result["lung"].meta["lung_source"] == result["lung_source"] == MADE
    assert result["lung"].meta["filename_or_obj"] == "/data/c7.nii.gz"
    assert item.get("lung") is None
    assert "lung_source" not in item["image"].meta


@pytest.mark.parametrize("kind", [MetaTensor, torch.as_tensor])
def test_an_existing_mask_is_kept_with_its_affine_and_its_source_recorded(kind):
    affine = torch.diag(torch.tensor([-2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    given = kind(torch.ones(1, 2, 3, 4, dtype=torch.uint8))
    if isinstance(given, MetaTensor):
        given.affine = affine
    result = FallbackLungMaskd(image_key="ct", lung_key="lungs")({"ct": torch.zeros(1, 2, 3, 4), "lungs": given})
    assert set(result) == {"ct", "lungs", "lung_source"}
    assert torch.equal(torch.as_tensor(result["lungs"]), torch.as_tensor(given))
    assert torch.equal(result["lungs"].affine, getattr(given, "affine", result["lungs"].affine))
    assert result["lungs"].meta["lung_source"] == result["lung_source"] == GIVEN
    assert "lung_source" not in getattr(given, "meta", {})


def test_it_works_on_a_case_as_loaded(tmp_path):
    paths = write_nifti(healthy(), tmp_path, "c7")
    load = LoadImaged(keys="image", reader=CTReader, ensure_channel_first=True)
    result = Compose([load, FallbackLungMaskd()])({"image": str(paths["image"])})
    assert dice(result["lung"][0].numpy(), healthy().lung) > 0.98


@pytest.mark.parametrize("offset_hu", [1024, -1024, 600])
def test_values_that_are_not_hu_are_rejected_with_the_case_and_the_remedy(offset_hu):
    item = item_of(case_id="covid_017")
    item["image"] = item["image"] + offset_hu
    message = r"^Case covid_017: no plausible lungs found: \d+\.\d\d litres. Expected 0.5 to 12. .* a lung mask.$"
    with pytest.raises(ValueError, match=message):
        FallbackLungMaskd()(item)


def test_an_image_without_orientation_is_refused():
    with pytest.raises(ValueError, match=r"Case c7: the image is a Tensor of shape \(1, 5, 6, 7\)\. Expected a Meta"):
        FallbackLungMaskd()({"image": torch.zeros(1, 5, 6, 7), "case_id": "c7"})
