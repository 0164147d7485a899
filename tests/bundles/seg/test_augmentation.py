from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from tests.bundles.seg.conftest import SMALL

DRAWS = 600
MANY = {"num_workers": 0, "cache_rate": 0.0, "num_folds": 4}
FRAME = 5
VARIANTS = {
    # value at a corner, values of the four quadrants
    (FRAME, (1, 2, 3, 4)): "as it is",
    (FRAME, (2, 4, 1, 3)): "90 degrees",
    (FRAME, (4, 3, 2, 1)): "180 degrees",
    (FRAME, (3, 1, 4, 2)): "270 degrees",
    (0, (1, 2, 3, 4)): "half as large",
    (1, (1, 2, 3, 4)): "one and a half times as large",
}


def quadrants(size: int, frame: int) -> torch.Tensor:
    """An asymmetric picture (1, size, size): four quadrants within a frame that enlarging cuts off."""
    first = torch.arange(size) < size / 2
    picture = torch.where(first[:, None], torch.where(first, 1, 2), torch.where(first, 3, 4)).float()
    inner = torch.zeros(size, dtype=torch.bool)
    inner[frame:-frame] = True
    return torch.where(inner[:, None] & inner, picture, FRAME)[None]


def variant(picture: torch.Tensor) -> str:
    size = picture.shape[-1]
    near, far = size // 2 - size // 8, size // 2 + size // 8
    corners = tuple(int(picture[0, x, y]) for x in (near, far) for y in (near, far))
    return VARIANTS[int(picture[0, 1, 1]), corners]


@pytest.fixture
def augment(workflow_of):
    workflow = workflow_of("train.yaml")
    return workflow.parser.get_parsed_content("train#random_transforms")[0].set_random_state(0)


def test_the_six_variants_of_the_paper_are_equally_likely(augment):
    picture = quadrants(size=90, frame=9)
    counts = Counter(variant(augment({"image": picture, "label": picture})["label"]) for _ in range(DRAWS))
    assert sorted(counts) == sorted(VARIANTS.values())
    assert chisquare(list(counts.values())).pvalue > 0.001, counts


def test_image_and_label_are_transformed_alike_and_keep_the_papers_size(augment):
    picture = quadrants(size=369, frame=37)
    for _ in range(20):
        drawn = augment({"image": picture, "label": picture})
        assert drawn["image"].shape == drawn["label"].shape == (1, 369, 369)
        assert np.isin(drawn["label"], [0, 1, 2, 3, 4, FRAME]).all()
        differing = (drawn["image"] - drawn["label"]).abs() > 0.01  # at edges only, where the image is interpolated
        assert differing.float().mean() < 0.02


def test_a_rectangle_keeps_its_size(workflow_of, slices, tmp_path):
    folders = {"dataset_dir": slices, "ckpt_dir": tmp_path, "output_dir": tmp_path}
    workflow = workflow_of("train.yaml", **{**SMALL, **MANY, **folders, "spatial_size": [48, 40], "batch_size": 30})
    workflow.initialize()
    batch = next(iter(workflow.parser.get_parsed_content("train#dataloader")))
    assert batch["image"].shape == batch["label"].shape == (30, 1, 48, 40)


def test_the_augmented_slices_of_an_epoch_differ(workflow_of, slices, tmp_path):
    folders = {"dataset_dir": slices, "ckpt_dir": tmp_path, "output_dir": tmp_path}
    workflow = workflow_of("train.yaml", **SMALL, **MANY, **folders)
    workflow.initialize()
    drawn = workflow.parser.get_parsed_content("train#drawn_dataset")
    first = [drawn[number * len(drawn) // 6]["image"] for number in range(6)]
    assert len({tuple(image.ravel().tolist()) for image in first}) > 1


def test_without_augmentation_each_slice_comes_once_and_as_validation_sees_it(workflow_of, slices, tmp_path):
    folders = {"dataset_dir": slices, "ckpt_dir": tmp_path, "output_dir": tmp_path}
    split = "$dict(@all_cases, validation=@all_cases['training'])"
    same_cases = {"all_cases": {"_target_": "custom_components.split_cases", "cases": "@cases"}, "split": split}
    workflow = workflow_of("train.yaml", "no_augmentation.yaml", **SMALL, **MANY, **folders, **same_cases)
    workflow.initialize()
    get = workflow.parser.get_parsed_content
    drawn, validation = get("train#drawn_dataset"), get("validate#dataset")
    assert len(drawn) == len(validation) == len(get("split")["training"])
    for number in (0, 1, 5):
        assert drawn[number]["image"].equal(validation[number]["image"].as_tensor()[..., 0])
