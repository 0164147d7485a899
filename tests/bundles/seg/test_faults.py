import json
import shutil

import pytest

from tests.bundles.faults import Faults
from tests.bundles.seg.conftest import BUNDLE, TRAINING


class TestFaults(Faults):
    bundle, lister = BUNDLE, "custom_components.list_cases"
    loaded_by, scored = "custom_components.data.seeded_draws.SeededDraws.__getitem__", "summary.json"
    report = "_lesions.json"

    @pytest.fixture
    def data(self, slices, tmp_path):
        """Three patients, two slices each."""
        cases = json.loads((slices / "datalist.json").read_text(encoding="utf-8"))["cases"][:6]
        for case in cases:
            for name in (case["image"], case["label"]):
                (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(slices / name, tmp_path / "data" / name)
        (tmp_path / "data" / "datalist.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
        return tmp_path / "data"

    @pytest.fixture
    def training(self):
        return {**TRAINING, "num_folds": 3, "epochs": 1, "draws_per_image": 1}

    @pytest.fixture
    def evaluation(self, weights):
        return {"ckpt_path": weights("evaluate.yaml"), "overlay_slices": 0}

    @pytest.fixture
    def inference(self, weights):
        return {"ckpt_path": weights("inference.json"), "overlay_slices": 1, "progress": False}
