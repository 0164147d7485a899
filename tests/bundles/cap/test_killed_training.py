import random

import pytest

from tests.bundles.cap.conftest import BUNDLE, GOLDEN
from tests.bundles.killed_training import Training, check_resumed

EPOCHS, SCORE = 4, "val_auc"


@pytest.fixture(scope="module")
def options(scans, cache_dir):
    """With a learning rate that falls, and a process that loads."""
    return {
        **GOLDEN, "epochs": EPOCHS, "lr_step": 2, "num_workers": 1, "dataset_dir": scans, "cache_dir": cache_dir,
    }  # fmt: skip


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
