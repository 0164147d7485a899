import pytest

from tests.bundles.killed_training import KilledTraining
from tests.bundles.seg.conftest import BUNDLE, TRAINING


class TestKilledTraining(KilledTraining):
    """With augmentation, attention whose rotations are drawn anew, and a process that loads."""

    bundle, score = BUNDLE, "val_mean_dice"

    @pytest.fixture(scope="class")
    def options(self, slices):
        return {**TRAINING, "epochs": 4, "draws_per_image": 2, "num_workers": 1, "dataset_dir": slices}
