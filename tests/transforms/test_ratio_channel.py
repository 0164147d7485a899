import math

import torch
from custom_components.transforms.infection_ratio import RatioChanneld
from monai.data import MetaTensor


def test_the_ratio_fills_a_second_channel_and_the_scan_stays():
    scan = torch.rand(1, 3, 4, 5)
    item = {"image": scan, "ratio": 0.125, "case_id": "a"}
    found = RatioChanneld("image")(item)
    assert torch.equal(found["image"][:1], scan)
    assert found["image"].shape == (2, 3, 4, 5)
    assert found["image"][1].unique().tolist() == [0.125]
    assert item["image"] is scan


def test_an_unknown_ratio_stays_unknown():
    assert bool(RatioChanneld("image")({"image": torch.rand(1, 3, 4, 5), "ratio": math.nan})["image"][1].isnan().all())


def test_metadata_are_kept():
    scan = MetaTensor(torch.rand(1, 3, 4, 5), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    found = RatioChanneld("image")({"image": scan, "ratio": 0.1})["image"]
    assert torch.equal(found.affine, scan.affine)
