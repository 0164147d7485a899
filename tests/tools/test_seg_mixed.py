import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from custom_components import ResidualAttentionUNet, TrainedWith
from custom_components.datalists.slices import list_cases
from custom_components.phantom import make_volume
from custom_components.weights.model_card import case_digest

from tools.mixed_training import HELD_OUT, rate
from tools.seg_mixed import RandThickSlice, load_slices, partial_cases, seg_mixed

AFFINE = np.diag([-8.0, -8.4, 30.0, 1.0])


def write_set(folder: Path, names: list[str], sets: dict[int, list[int]] | None) -> Path:
    """One small scan under several names, with lungs 2 and, in one corner of them, effusion 3 or infection 1."""
    scan = make_volume(seed=1, shape=(50, 42, 10), spacing_mm=(8.0, 8.4, 30.0), lesions_ml={})
    special = scan.lung.astype(bool) & (np.arange(50)[:, None, None] < 15) & (np.arange(10) < 6)
    labels = np.where(special, 3, 2 * scan.lung)
    arrays = {"image": scan.image_hu.astype(np.int16), "lung": scan.lung, "infection": special, "label": labels}
    (folder).mkdir()
    for key, array in arrays.items():
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), AFFINE), folder / f"{key}.nii.gz")
    paths = {key: f"{key}.nii.gz" for key in (arrays if sets is None else ("image", "label"))}
    more: dict[str, Any] = {} if sets is None else {"label_sets": sets, "lung_values": [2]}
    cases = [{"case_id": name, **paths, **more} for name in names]
    (folder / "datalist.json").write_text(json.dumps({"cases": cases}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("sets")
    return {
        "medseg": "phantom",
        "covid20": str(write_set(root / "runs", ["volume_0000_2", "volume_0001"], None)),
        "effusion": str(write_set(root / "effusion", ["LUNG1-016", "LUNG1-001"], {0: [0], 2: [0, 1, 2], 3: [3]})),
        "healthy": str(write_set(root / "healthy", [f"LCTSC-Test-S1-10{k}" for k in (3, 1)], {0: [0], 2: [0], 3: [0]})),
    }


SMALL: dict[str, Any] = {"steps": 4, "epoch_steps": 2, "batch_size": 2, "save_seconds": 0.0}
SMALL |= {"size": 32, "features": (8, 16)}


def test_held_out_patients_and_runs_and_the_block_with_its_neighbours_never_train(
    folders: dict[str, str], tmp_path: Path
) -> None:
    sets = {"effusion": Path(folders["effusion"]), "healthy": Path(folders["healthy"])}
    slices = write_set(tmp_path / "slices", [f"{number:03d}" for number in range(20)], {})
    cases, fewer = (partial_cases(slices, Path(folders["covid20"]), sets, k, tmp_path) for k in (None, 1))
    names = [case["case_id"] for name in ("covid20", "effusion", "healthy") for case in cases[name]]
    assert names == ["volume_0001", "LUNG1-001", "LCTSC-Test-S1-101"]
    assert not any(name.startswith(HELD_OUT) for name in names)
    left_out = [case["case_id"] for case in cases["medseg"] if case not in fewer["medseg"]]
    assert left_out == ["003", "004", "005", "006", "007", "008"]


def test_a_training_that_was_stopped_ends_with_the_same_weights(folders: dict[str, str], tmp_path: Path) -> None:
    seg_mixed(str(tmp_path / "whole"), **folders, **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tools.mixed_training.SeededDrawSampler.set_epoch", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            seg_mixed(str(tmp_path / "parts"), **folders, **SMALL)
    seg_mixed(str(tmp_path / "parts"), **folders, **SMALL)
    whole, parts = (torch.load(tmp_path / name / "ema.pt") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    trained = TrainedWith(tmp_path / "whole" / "ema.pt")
    assert trained.get("spatial_size", None) == [32, 32]
    network = {name: trained.network(name, None) for name in ("features", "attention")}
    ResidualAttentionUNet(**network).load_state_dict(whole)
    digests = {case_digest(case) for case in list_cases("phantom")}
    assert digests < trained.trained_on()  # and one file, of three sets


def stop_at_the_second(sampler: Any, epoch: int) -> None:
    if epoch == 1:
        raise KeyboardInterrupt
    sampler.epoch = epoch


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    assert rate(0, 1000, 0.002) == pytest.approx(0.00002)
    assert rate(500, 1000, 0.002) == pytest.approx(0.001)
    assert rate(1000, 1000, 0.002) == pytest.approx(0.0)


def test_a_thick_slice_is_between_the_slice_and_the_mean_with_its_neighbours() -> None:
    thick = RandThickSlice(prob=1.0).set_random_state(3)
    made = thick({"image": torch.zeros(1, 2, 2), "neighbours": torch.ones(1, 2, 2)})["image"]
    assert made.min() > 0
    assert made.max() < 2 / 3
    assert torch.equal(RandThickSlice(prob=0.0)({"image": made, "neighbours": made + 1})["image"], made)


def test_neighbours_are_the_slices_before_and_after_and_at_an_end_the_slice_itself(folders: dict[str, str]) -> None:
    folder = Path(folders["healthy"])
    case = {"case_id": "a", "image": str(folder / "image.nii.gz"), "label": str(folder / "label.nii.gz")}
    slices = load_slices([{**case, "label_sets": {0: [0], 2: [0], 3: [0]}, "lung_values": [2]}], 32)
    images = [one["image"] for one in slices]
    assert torch.equal(slices[4]["neighbours"], (images[3] + images[5]) / 2)
    assert torch.equal(slices[0]["neighbours"], (images[0] + images[1]) / 2)
    assert torch.equal(slices[-1]["neighbours"], (images[-2] + images[-1]) / 2)
