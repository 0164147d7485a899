from pathlib import Path

import pytest
import torch
from custom_components.images.case_id import case_id, case_prefix, source_path
from monai.data import MetaTensor


def image_of(path):
    return MetaTensor(torch.zeros(1, 2, 3), meta={"filename_or_obj": path})


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"image": "scans/012.nii.gz"}, "012"),
        ({"image": Path("scans/series_7")}, "series_7"),
        ({"image": image_of("scans/013.png"), "case_id": "other"}, "013"),
        ({"image": image_of(["scans/014.png"])}, "014"),
        ({"image": torch.zeros(1, 2, 3), "case_id": ["015"]}, "015"),
        ({"image": torch.zeros(1, 2, 3)}, "unknown"),
        (image_of("016.nii"), "016"),
    ],
)
def test_a_case_is_named_by_its_image(item, expected):
    assert case_id(item) == expected


def test_a_message_names_the_case_only_when_it_is_known():
    assert case_prefix(image_of("a/012.png")) == "Case 012: "
    assert case_prefix(torch.zeros(1)) == ""


def test_the_source_is_the_path_as_given():
    assert source_path(image_of("a/012.png")) == "a/012.png"
    assert source_path(torch.zeros(1)) is None
