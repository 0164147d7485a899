from pathlib import Path
from typing import Any

import pytest
import torch
from custom_components import TrainedWith, VBNet
from custom_components.weights.model_card import case_digest

from tests.tools.test_seg_mixed import write_set
from tools.vbnet_mixed import SETS, augmentation, load_scans, vbnet_mixed

SMALL: dict[str, Any] = {"steps": 2, "epoch_steps": 1, "save_seconds": 0.0, "init_path": ""}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("sets")
    names = {"covid20": "volume", "effusion": "LUNG1", "healthy": "LCTSC"}
    sets = {"covid20": None, "effusion": SETS["effusion"]["sets"], "healthy": SETS["healthy"]["sets"]}
    cases = {name: [f"{start}_0000", f"{start}_0001"] for name, start in names.items()}
    return {name: str(write_set(root / name, cases[name], sets[name])) for name in names}


def test_each_set_is_loaded_on_the_grid_of_the_network_without_held_out_cases(folders: dict[str, str]) -> None:
    for name, count in {"covid20": 1, "effusion": 2, "healthy": 2}.items():  # volume_0000 is held out
        scans = load_scans(Path(folders[name]))
        assert len(scans) == count
        assert all(scan["image"].shape == scan["label"].shape for scan in scans)
        assert 0 <= scans[0]["image"].min() < 0.1  # air, -1000 HU in the window of the network
        assert scans[0]["image"].max() == 1


def test_a_patch_has_the_sets_of_classes_that_its_data_set_distinguishes(folders: dict[str, str]) -> None:
    """Of three classes as bits: background 1, lung 2, infection 4; around lungs with effusion any of them."""
    allowed = {"covid20": {1, 2, 4}, "healthy": {1, 2, 4}, "effusion": {1, 6, 7}}
    for name, sets in allowed.items():
        scans, draw = load_scans(Path(folders[name])), augmentation(name).set_random_state(3)
        patches = [draw(scans[0])[0] for _ in range(3)]
        assert all(tuple(patch["image"].shape) == (1, 128, 128, 40) for patch in patches)
        assert {bits for patch in patches for bits in torch.unique(patch["label"]).tolist()} <= sets


@pytest.mark.slow
def test_a_training_writes_weights_and_their_card(folders: dict[str, str], tmp_path: Path) -> None:
    vbnet_mixed(str(tmp_path), **folders, **SMALL)
    VBNet().load_state_dict(torch.load(tmp_path / "ema.pt"))
    trained = TrainedWith(tmp_path / "ema.pt")
    assert trained.get("spacing_mm", None) == [3.0, 3.0, 3.0]
    assert trained.trained_on() == {case_digest({"image": Path(folders["healthy"]) / "image.nii.gz"})}
