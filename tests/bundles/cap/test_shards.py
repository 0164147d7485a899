"""A training from shards is the same as one from the folder of the cache."""

import json

import pytest
import torch
from custom_components.engines.root_cause import root_cause
from custom_components.masks.shards import write_shards
from custom_components.phantom import write_scan_dataset

from tests.bundles.cap.conftest import SCAN_SIZE, SMALL, SPACING_MM, TRAINING

SHARDS = ["train.yaml", "size_balanced.yaml", "shards.yaml"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_scan_dataset(tmp_path_factory.mktemp("set") / "data", 12, SCAN_SIZE, SPACING_MM, num_folds=3)


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(str(data), str(folder), grid=SMALL["grid"], spacing_mm=SMALL["spacing_mm"], scans_per_shard=5)
    return folder


def test_shards_train_the_same_network_as_the_cache(bundle, data, shards, tmp_path):
    models = {}
    for names, source in ((SHARDS[:2], data), (SHARDS, shards)):
        folder = tmp_path / str(len(names))
        folders = {"ckpt_dir": folder, "output_dir": folder / "tensorboard", "cache_dir": tmp_path / "cache"}
        bundle.run(names, "training", dataset_dir=source, **TRAINING, epochs=1, **folders)
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        models[len(names)] = (torch.load(folder / "model.pt", weights_only=True), card)
    (cached, card), (sharded, other) = models.values()
    assert all(torch.equal(cached[name], sharded[name]) for name in cached)
    assert card["trained_on"] == other["trained_on"]
    assert card["validated_on"] == other["validated_on"]


def test_other_settings_are_refused_before_the_training(bundle, shards, tmp_path):
    folders = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "out"}
    with pytest.raises(RuntimeError) as raised:
        bundle.run(SHARDS, "training", dataset_dir=shards, **{**TRAINING, "grid": [24, 56, 56]}, **folders)
    assert "were written with grid" in root_cause(raised.value, "")
    assert not (tmp_path / "models" / "model.pt").exists()
