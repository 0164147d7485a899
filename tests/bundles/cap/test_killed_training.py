import pytest

from tests.bundles.cap.conftest import BUNDLE, GOLDEN
from tests.bundles.killed_training import KilledTraining


class TestKilledTraining(KilledTraining):
    """With a learning rate that falls, and a process that loads."""

    bundle, score = BUNDLE, "val_auc"

    @pytest.fixture(scope="class")
    def options(self, scans, cache_dir):
        folders = {"dataset_dir": scans, "cache_dir": cache_dir}
        return {**GOLDEN, "epochs": 4, "lr_step": 2, "num_workers": 1, **folders}
