import random

import pytest

from tests.bundles.killed_training import Training, check_resumed
from tests.bundles.seg.conftest import BUNDLE, TRAINING

EPOCHS, SCORE = 4, "val_mean_dice"


@pytest.fixture(scope="module")
def options(slices):
    """With augmentation, attention whose rotations are drawn anew, and a process that loads."""
    return {**TRAINING, "epochs": EPOCHS, "draws_per_image": 2, "num_workers": 1, "dataset_dir": slices}


@pytest.fixture(scope="module")
def unbroken(options, tmp_path_factory):
    training = Training(BUNDLE, "train.yaml", tmp_path_factory.mktemp("unbroken"), options)
    training.finish()
    return training


@pytest.mark.parametrize("number", [1, 4])
def test_killed_while_it_writes_a_checkpoint_it_ends_in_the_same_weights(unbroken, options, tmp_path, number):
    training = Training(BUNDLE, "train.yaml", tmp_path, options)
    training.killed_in_save(number)
    assert [path.name for path in training.models.glob(".partial-*")]
    check_resumed(training, unbroken, SCORE)


def test_the_number_of_loading_processes_changes_nothing(unbroken, options, tmp_path):
    training = Training(BUNDLE, "train.yaml", tmp_path, {**options, "num_workers": 0})
    check_resumed(training, unbroken, SCORE)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_a_random_moment_it_ends_in_the_same_weights(unbroken, options, tmp_path, seed):
    training = Training(BUNDLE, "train.yaml", tmp_path, options)
    killed = training.killed_after(random.Random(seed).uniform(0.0, unbroken.seconds))
    assert killed or (training.models / "model.pt").is_file()
    check_resumed(training, unbroken, SCORE)
