import re

import nibabel
import numpy as np
import pytest
import torch
from custom_components.images.ct_reader import CTReader, LabelReader
from custom_components.phantom import make_volume
from custom_components.transforms.checks.scan import CheckScand
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged

from tests.yardstick import yardsticks

AFFINE = np.array([[-0.8, 0, 0, 100], [0, -0.9, 0, 90], [0, 0, 2.5, -300], [0, 0, 0, 1.0]])
SHAPE = (10, 9, 8)


def volume(array, affine=AFFINE):
    meta = {"filename_or_obj": "/data/secret/covid_017.nii.gz"}
    return MetaTensor(torch.as_tensor(np.ascontiguousarray(array))[None], affine=torch.as_tensor(affine), meta=meta)


def scan(**changes):
    """A scan of 10 x 9 x 8 voxels with 200 lung and 20 infected voxels; `changes` replace arrays."""
    lung, infection = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    lung[1:6, 2:7, 0:8] = 1
    infection[1:6, 2:4, 3:5] = 1
    arrays = {"image": np.where(lung, -820, 40).astype(np.int16), "lung": lung, "infection": infection, **changes}
    return {key: array if isinstance(array, MetaTensor | None) else volume(array) for key, array in arrays.items()}


def rejected(item, message, **options):
    with pytest.raises(ValueError, match=f"^Case covid_017: {message}"):
        CheckScand(**options)(item)


def test_a_scan_passes_unchanged():
    item = scan()
    out = CheckScand()(item)
    assert out is not item
    assert all(out[key] is item[key] for key in item)


@pytest.mark.parametrize("seed", range(3))
def test_phantoms_pass_as_they_are_read(tmp_path, seed):
    phantom = make_volume(seed, (40, 44, 14), (8.5, 8.0, 20.0))
    paths = {key: tmp_path / f"{key}.nii.gz" for key in ("image", "lung", "infection")}
    for key, array in {"image": phantom.image_hu, "lung": phantom.lung, "infection": phantom.infection}.items():
        nibabel.save(nibabel.Nifti1Image(array, phantom.affine), paths[key])
    Compose([
        LoadImaged("image", reader=CTReader(), ensure_channel_first=True),
        LoadImaged(["lung", "infection"], reader=LabelReader(), ensure_channel_first=True),
        CheckScand(),
    ])(paths)  # fmt: skip


def test_masks_of_another_orientation_type_and_memory_layout_pass():
    item = scan()
    lung = item["lung"][0].numpy()
    flipped = AFFINE @ np.array([[0, 0, -1.0, 9], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    turned = np.transpose(lung, (2, 1, 0))[:, :, ::-1]
    for array in (turned.astype(np.float32), turned.astype(bool)):
        CheckScand()({**item, "lung": volume(array, flipped)})
    fortran = {key: value.mT.contiguous().mT for key, value in item.items()}
    CheckScand()(fortran)
    wrong = {**item, "image": volume(np.where(lung[::-1], -820, 200).astype(np.int16))}
    rejected({**wrong, "lung": volume(turned, flipped)}, "median inside the lung mask is 200 HU")


@pytest.mark.parametrize("value", [-1024, -2000, -3024, 3071])
def test_padding_and_metal_outside_the_lungs_are_fine(value):
    item = scan()
    CheckScand()({**item, "image": volume(np.where(item["lung"][0].numpy(), -820, value).astype(np.int16))})


@pytest.mark.parametrize("infection", [{}, {"infection": None}])
def test_an_infection_mask_is_optional(infection):
    item = {key: value for key, value in scan().items() if key != "infection"}
    CheckScand()({**item, **infection})


@pytest.mark.parametrize("key", ["lung", "image"])
def test_lung_mask_and_image_are_required(key):
    item = {**scan(), "case_id": "covid_017"}
    remedy = ", or segment the lungs first" if key == "lung" else ""
    rejected({**item, key: None}, f"{key} is missing. Add it to the datalist{remedy}[.]$")
    rejected({name: value for name, value in item.items() if name != key}, f"{key} is missing")


@pytest.mark.parametrize("key", ["lung", "infection"])
def test_a_mask_must_be_on_the_grid_of_its_image(key):
    item, smaller = scan(), volume(np.ones((10, 9, 7), np.uint8))
    shift = np.eye(4, k=3)
    rejected({**item, key: smaller}, f"{key} is 10 x 9 x 7 but the image is 10 x 9 x 8. Export both at the same size")
    moved = {**item, key: volume(item[key][0], AFFINE + 0.12 * shift)}
    rejected(moved, f"{key} is misaligned with the image by up to 0.1 mm. Copy the image's header")
    CheckScand()({**item, key: volume(item[key][0], AFFINE + 0.07 * shift)})


@pytest.mark.parametrize(
    ("key", "shape"), [("image", (2, *SHAPE)), ("lung", SHAPE), ("infection", (1, *SHAPE[:2])), ("lung", (4, *SHAPE))]
)
def test_each_image_is_one_volume(key, shape):
    array = MetaTensor(torch.zeros(shape), affine=torch.as_tensor(AFFINE))
    message = f"{key} has shape {re.escape(str(shape))}. Expected one volume"
    rejected({**scan(), "case_id": "covid_017", key: array}, message)


@pytest.mark.parametrize("key", ["lung", "infection"])
@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([255], r"3 voxels that are neither 0 nor 1 \(255\)"),
        ([2, 3], r"6 voxels that are neither 0 nor 1 \(2, 3\)"),
        ([2, 3, 4, 5, 6], r"15 voxels that are neither 0 nor 1 \(2, 3, 4 and 2 more\)"),
        ([0.25], r"3 voxels that are neither 0 nor 1 \(0.25\)"),
        ([float("nan")], r"3 voxels that are neither 0 nor 1 \(nan\)"),
    ],
)
def test_a_mask_must_contain_only_0_and_1(key, values, found):
    item = scan()
    array = item[key][0].numpy().astype(np.float32)
    array[4, 4, : 3 * len(values)] = 1
    array.reshape(-1)[: 3 * len(values)] = np.repeat(values, 3)
    rejected({**item, key: volume(array)}, f"{key} has {found}. Expected a mask of 0 and 1: binarise it")


def test_an_empty_lung_mask_is_refused():
    rejected(scan(lung=np.zeros(SHAPE)), r"lung mask is empty \(0 of 720 voxels\). Check the mask file or segment")


@pytest.mark.parametrize("lung_hu", [-960, -820, -700, -400, -60])
def test_lungs_of_any_density_pass_and_offsets_are_detected(lung_hu):
    item = scan()
    image = np.where(item["lung"][0].numpy(), lung_hu, 40).astype(np.int16)
    CheckScand()({**item, "image": volume(image)})
    stored = f"median inside the lung mask is {lung_hu + 1024} HU. Expected -1000 to 0 HU; .* stored values without"
    rejected({**item, "image": volume(image + 1024)}, stored)
    twice = f"median inside the lung mask is {lung_hu - 1024} HU. Expected -1000 to 0 HU; .* rescaled twice"
    rejected({**item, "image": volume(image - 1024)}, twice)


def test_display_intensities_are_rejected():
    item = scan()
    rejected(
        {**item, "image": volume(np.where(item["lung"][0].numpy(), 0.35, 0.9))}, "median .* or display intensities"
    )


@pytest.mark.parametrize("value", [-2000, -3024])
def test_padding_inside_the_lungs_is_refused_beyond_one_percent(value):
    item = scan()
    image = item["image"][0].numpy().copy()
    image[2, 3, 4:6] = value  # 2 of 200
    CheckScand()({**item, "image": volume(image)})
    image[2, 3, 6] = value
    message = f"1.5 % of the lung mask is below -1100 HU .down to {value} HU.. Expected at most 1 %: these voxels are"
    rejected({**item, "image": volume(image)}, message)


def test_the_infection_must_lie_in_the_lungs():
    item = scan()
    infection = item["infection"][0].numpy().copy()
    infection[7, 7, 0:2] = 1  # 2 of 22
    CheckScand()({**item, "infection": volume(infection)})
    rejected({**item, "infection": volume(infection)}, r"9.1 % of the infection \(2 of 22 voxels\)", max_outside=0.09)
    infection[7, 7, 2] = 1
    message = r"13.0 % of the infection \(3 of 23 voxels\) lies outside the lung mask. Expected at most 10 %. Take"
    rejected({**item, "infection": volume(infection)}, message)
    CheckScand(max_outside=0.2)({**item, "infection": volume(infection)})


def test_an_infection_larger_than_the_lungs_is_refused():
    item = scan()
    infection = item["lung"][0].numpy().copy()
    CheckScand()({**item, "infection": volume(infection)})
    infection[7, 7, 0:2] = 1
    rejected({**item, "infection": volume(infection)}, "infection ratio is 1.01. .* masks are not swapped")


def test_a_scan_without_infection_passes():
    CheckScand(max_outside=0)(scan(infection=np.zeros(SHAPE)))


def test_the_case_id_of_the_datalist_names_the_case():
    with pytest.raises(ValueError, match=r"^Case patient 7: lung mask is empty"):
        CheckScand()({**scan(lung=np.zeros(SHAPE)), "case_id": "patient 7"})


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_an_invalid_share_is_rejected_at_once(share):
    with pytest.raises(ValueError, match=r"max_outside is .* Expected a fraction of the infection, 0 to 1"):
        CheckScand(max_outside=share)


def test_it_costs_little():
    random = np.random.default_rng(0)
    lung = np.zeros((512, 512, 150), np.uint8)
    lung[100:400, 100:350, 20:130] = 1
    image = random.integers(-1000, -600, lung.shape, dtype=np.int16)
    item = {"image": volume(image), "lung": volume(lung), "infection": volume(lung)}
    assert yardsticks(lambda: CheckScand()(item)) < 5  # 2 in 2026; the outline of the body takes most of it
