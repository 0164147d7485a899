import json
import runpy

import numpy as np
import pytest
from custom_components.datalists.slices import list_cases
from PIL import Image

from tests.bundles.conftest import ROOT

SCRIPT = runpy.run_path(str(ROOT / "docs" / "nnunet_peer.py"))
IGNORED = 4


@pytest.fixture
def slices(tmp_path):
    """Ten slices, wider than high, with a bright body and one square of each lesion; some pixels are ignored."""
    for number in range(10):
        image, mask = np.zeros((96, 128), np.uint8), np.zeros((96, 128), np.uint8)
        image[10:86, 20:110] = 200 + number
        for label, left in enumerate((30, 55, 80), 1):
            mask[40:56, left : left + 20] = label
        mask[70:72, 40:60] = 255
        for kind, pixels in {"images": image, "masks": mask}.items():
            (tmp_path / "slices" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "slices" / kind / f"{number:03d}.png")
    return tmp_path / "slices"


def test_the_data_set_is_what_nnunet_reads(slices, tmp_path):
    SCRIPT["prepare"](str(slices), str(tmp_path / "raw"), size=64)
    folder = tmp_path / "raw" / "Dataset701_slices"
    described = json.loads((folder / "dataset.json").read_text())
    assert described["numTraining"] == 10
    assert described["labels"]["ignore"] == IGNORED
    image = np.asarray(Image.open(folder / "imagesTr" / "003_0000.png"))
    label = np.asarray(Image.open(folder / "labelsTr" / "003.png"))
    assert image.shape == label.shape == (64, 64)
    assert np.median(image) == 203
    assert np.unique(label).tolist() == [0, 1, 2, 3, IGNORED]
    columns = [np.argwhere(label == value)[:, 1].mean() for value in (1, 2, 3)]
    assert columns == sorted(columns)  # rows are rows
    splits = json.loads((folder / "splits_final.json").read_text())
    assert splits[1] == {"train": ["000", *(f"{n:03d}" for n in range(5, 10))], "val": ["002", "003"]}


def test_the_truth_as_prediction_scores_well(slices, tmp_path, capsys):
    SCRIPT["prepare"](str(slices), str(tmp_path / "raw"), size=128)
    labels = tmp_path / "raw" / "Dataset701_slices" / "labelsTr"
    for number, case in enumerate(list_cases(str(slices))):
        label = np.asarray(Image.open(labels / f"{case['case_id']}.png"))
        place = tmp_path / "results" / f"fold_{number // 2}" / "validation"
        place.mkdir(parents=True, exist_ok=True)
        probabilities = np.stack([label == value for value in range(4)])[:, None].astype(np.float16)
        np.savez(place / f"{case['case_id']}.npz", probabilities=probabilities)
    SCRIPT["score"](str(slices), str(tmp_path / "results"), str(tmp_path / "scores"), folds=(0, 4), size=128)
    for fold in (0, 4):
        dice = json.loads((tmp_path / "scores" / f"fold_{fold}" / "summary.json").read_text())["dice"]
        assert min(dice[name] for name in ("ground_glass", "consolidation", "pleural_effusion")) > 0.9
    assert "4 cases of 2 evaluations" in capsys.readouterr().out
