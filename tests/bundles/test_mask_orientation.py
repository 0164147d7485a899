"""Every shipped config gives the same, voxel for voxel, whichever orientation a mask is stored in."""

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.phantom import make_scan, make_volume
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.cap.conftest import SMALL as SMALL_CAP
from tests.bundles.seg.conftest import BUNDLE as SEG

SMALL_GRID = {key: SMALL_CAP[key] for key in ("grid", "spacing_mm")}
CONFIGS = {
    "cap training": (CAP, "train.yaml", "train#preprocessing", SMALL_GRID),
    "cap evaluation": (CAP, "evaluate.yaml", "preprocessing", SMALL_GRID),
    "cap inference": (CAP, "inference.json", "preprocessing", SMALL_GRID),
    "VB-Net training": (CAP, "segment_train.yaml", "validate#preprocessing", {}),
    "VB-Net evaluation": (CAP, "segment_evaluate.yaml", "preprocessing", {}),
    "seg training": (SEG, "train.yaml", "train#deterministic_transforms", {}),
    "seg validation": (SEG, "train.yaml", "validate#preprocessing", {}),
    "seg evaluation": (SEG, "evaluate.yaml", "preprocessing", {}),
    "seg inference": (SEG, "inference.json", "preprocessing", {}),
}


def save(array, affine, path, codes):
    image = nib.Nifti1Image(array, affine)
    if codes:
        image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    nib.save(image, path)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """The same scan thrice: its masks stored alike, flipped, with other axes."""
    scan = make_scan("covid", 0.2, 3, (40, 36, 16), (9.4, 10.3, 17.0))
    label = make_volume(5, (40, 36, 16), (9.4, 10.3, 17.0)).label
    found = {}
    for name, codes in {"alike": "", "flipped": "RPI", "permuted": "SPL"}.items():
        folder = tmp_path_factory.mktemp(name)
        arrays = {"image": scan.image_hu, "lung": scan.lung, "infection": scan.infection, "label": label}
        for key, array in arrays.items():
            save(array, scan.affine, folder / f"{key}.nii.gz", codes if key != "image" else "")
        found[name] = {key: str(folder / f"{key}.nii.gz") for key in arrays}
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_a_mask_of_another_orientation_gives_the_same(cases, name):
    bundle, config, steps, small = CONFIGS[name]
    parser = bundle.parser_of(config)
    parser.update({"bundle_root": str(bundle.folder), **small})
    transforms = parser.get_parsed_content(steps)
    masks = ("label", "lung") if bundle is SEG else ("lung", "infection")

    def prepared(paths):
        item = {"case_id": "a7", **{key: paths[key] for key in ("image", *masks)}, "fold": 0}
        item |= {"ratio": 0.1, "label": 1} if bundle is CAP else {}
        for transform in transforms if isinstance(transforms, list) else [transforms]:
            item = transform(item)
        return item

    expected = prepared(cases["alike"])
    tensors = [key for key, value in expected.items() if isinstance(value, torch.Tensor) and value.ndim > 1]
    assert set(masks) & set(tensors) or "label" in tensors
    for stored in ("flipped", "permuted"):
        found = prepared(cases[stored])
        for key in tensors:
            np.testing.assert_array_equal(np.asarray(found[key]), np.asarray(expected[key]), err_msg=f"{stored}: {key}")
