import pytest

from tests.bundles.cap.conftest import BUNDLE, NO_WORKERS, TRAINING, copy_scans, datalist_of, write_datalist
from tests.bundles.faults import NO_SPACE, Faults
from tests.full_disk import fill_disk, left

NAMES = ["cap_000", "cap_001", "covid_000", "covid_001"]


class TestFaults(Faults):
    bundle, lister = BUNDLE, "custom_components.list_scans"
    loaded_by, scored = "custom_components.data.scan_cache.ScanCache._transform", "summary.json"
    report = "_diagnosis.json"

    @pytest.fixture
    def data(self, scans, tmp_path):
        """Two scans of each disease, one of each in two folds."""
        copy_scans(scans, tmp_path / "data", NAMES)
        cases = sorted(datalist_of(scans), key=lambda case: case["case_id"])
        cases = [case for case in cases if case["case_id"] in NAMES]
        return write_datalist(tmp_path / "data", [{**case, "fold": number % 2} for number, case in enumerate(cases)])

    @pytest.fixture
    def training(self, tmp_path):
        return {**TRAINING, "epochs": 1, "batch_size": 2, "fold": 0, "cache_dir": tmp_path / "cache"}

    @pytest.fixture
    def evaluation(self, weights, tmp_path):
        return {**NO_WORKERS, "ckpt_path": weights("evaluate.yaml"), "cache_dir": tmp_path / "cache"}

    @pytest.fixture
    def inference(self, weights):
        return {"ckpt_path": weights("inference.json")}

    def test_a_full_disk_of_the_cache_ends_a_training(self, fails, training, tmp_path, monkeypatch):
        fill_disk(monkeypatch, "????????????????????????????????.pt")
        message = fails("train.yaml", "training", **training)
        assert message.startswith(str(tmp_path / "cache"))
        assert message.endswith(NO_SPACE)
        assert left(tmp_path / "cache") == []
