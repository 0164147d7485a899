"""Shards hold the same items as the cache, in a layout that others read, on any file system of fsspec."""

import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from custom_components.data.scan_cache import ScanCache
from custom_components.data.scan_shards import INDEX_NAME, ShardedScans, list_sharded_scans
from custom_components.datalists.scans import list_scans
from custom_components.masks import shards
from custom_components.masks.shards import write_shards
from custom_components.weights.model_card import case_digest

from tests.bundles.conftest import ROOT

GRID = [12, 24, 24]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    from custom_components.phantom import write_scan_dataset

    return write_scan_dataset(
        tmp_path_factory.mktemp("data"), 4, (40, 40, 16), (9.4, 9.4, 17.5), num_folds=2, num_normals=2
    )


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(str(data), str(folder), grid=GRID, normals=True, scans_per_shard=4)
    return folder


@pytest.fixture
def own(folder, tmp_path) -> Path:
    """A copy of the shards that may be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


def items_of(folder: Path | str) -> list[dict]:
    return list(ShardedScans(list_sharded_scans(str(folder), normals=True), str(folder)))


def check_same(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
        assert all(one[name].dtype == other[name].dtype for name in one if torch.is_tensor(one[name]))


def test_the_items_are_those_of_the_cache(data, folder):
    transform, _ = shards.preprocessing(ROOT / "covid_cap_bundle" / "configs", {"grid": GRID})
    cached = list(ScanCache(list_scans(data, normals=True), transform, None))
    check_same(items_of(folder), cached)
    assert cached[0]["image"].shape == (1, *GRID)
    assert {path.name for path in folder.iterdir()} == {INDEX_NAME, "shard-000000.tar", "shard-000001.tar"}


def test_worker_processes_write_the_same_bytes(data, folder, tmp_path):
    write_shards(str(data), str(tmp_path), grid=GRID, normals=True, scans_per_shard=4, num_workers=2)
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())


def test_the_list_is_that_of_the_data_set_without_its_files(data, folder):
    listed = list_scans(data, normals=True)
    found = list_sharded_scans(str(folder), normals=True)
    assert [case_digest(case) for case in found] == [case_digest(case) for case in listed]
    facts = ("case_id", "patient_id", "label", "fold", "ratio", "group", "synthetic")
    assert [[case[name] for name in facts] for case in found] == [[case[name] for name in facts] for case in listed]
    assert str(data) not in (folder / INDEX_NAME).read_text(encoding="utf-8")


def test_shards_are_read_from_an_object_store(folder):
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/bucket/shards", recursive=True)
    check_same(items_of("memory://bucket/shards"), items_of(folder))


def test_webdataset_reads_the_shards(folder):
    webdataset = pytest.importorskip("webdataset", reason="needs webdataset: pip install webdataset")
    names = [str(folder / f"shard-00000{number}.tar") for number in (0, 1)]
    samples = list(webdataset.WebDataset(names, shardshuffle=False).decode())
    for sample, item in zip(samples, items_of(folder), strict=True):
        assert sample["json"]["case_id"] == item["case_id"]
        assert np.array_equal(sample["npz"]["image"], (item["image"] * 255).round().numpy())


def test_after_an_interruption_only_missing_shards_are_written(data, folder, tmp_path, monkeypatch):
    write = shards._write

    def interrupted(path, *args):
        if path.name == "shard-000001.tar":
            raise KeyboardInterrupt
        write(path, *args)

    options = {"grid": GRID, "normals": True, "scans_per_shard": 4}
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_shards(str(data), str(tmp_path), **options)
    (first,) = tmp_path.iterdir()
    written = first.stat().st_mtime_ns
    write_shards(str(data), str(tmp_path), **options)
    assert first.stat().st_mtime_ns == written
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize("other", [{"grid": [12, 24, 32]}, {"max_scale": 0.4}, {"scans_per_shard": 3}])
def test_shards_of_other_settings_are_kept(data, own, other):
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    with pytest.raises(ValueError, match=r"shard-000000\.tar has other scans, labels or settings\. Choose a new"):
        write_shards(str(data), str(own), **{"grid": GRID, "normals": True, "scans_per_shard": 4, **other})
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


def test_a_file_that_is_no_shard_is_kept(data, own):
    (own / "shard-000000.tar").write_text("notes")
    with pytest.raises(ValueError, match=r"shard-000000\.tar is not a shard"):
        write_shards(str(data), str(own), grid=GRID, normals=True, scans_per_shard=4)
    assert (own / "shard-000000.tar").read_text() == "notes"


def test_a_damaged_or_missing_scan_is_named(own):
    case = list_sharded_scans(str(own), normals=True)[1]
    content = bytearray((own / case["shard"]).read_bytes())
    content[case["start"] + case["bytes"] // 4] ^= 255  # within the image
    (own / case["shard"]).write_bytes(content)
    scans = ShardedScans([case], str(own))
    with pytest.raises(ValueError, match=rf"Case {case['case_id']}: shard-000000\.tar .* cannot be read \(BadZipFile"):
        scans[0]
    (own / case["shard"]).unlink()
    with pytest.raises(ValueError, match=r"cannot be read \(FileNotFoundError\)\. Copy or write the shards again"):
        scans[0]


def test_a_training_with_other_settings_is_refused_with_the_option_that_fits(folder):
    settings = {"grid": [138, 256, 256], "layers": [3, 4, 6, 3]}
    expected = r'were written with grid \[12, 24, 24\], the training has .*\. Train with --grid "\[12, 24, 24\]"'
    with pytest.raises(ValueError, match=expected):
        list_sharded_scans(str(folder), settings, normals=True)
    assert len(list_sharded_scans(str(folder), {**settings, "grid": GRID}, normals=True)) == 6


def test_normal_scans_need_three_classes(folder):
    with pytest.raises(ValueError, match=r"has normal scans, but there are two classes\. See recipes/three_classes"):
        list_sharded_scans(str(folder))


def test_shards_of_another_version_are_used_with_a_warning(own, caplog):
    index = json.loads((own / INDEX_NAME).read_text(encoding="utf-8"))
    (own / INDEX_NAME).write_text(json.dumps({**index, "version": "0.0.1"}), encoding="utf-8")
    assert list_sharded_scans(str(own), normals=True)
    assert "were written by version 0.0.1" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "has no shards.json. Write shards"), ("{", "cannot be read"), ("[]", "has no cases, settings, version")],
)
def test_a_folder_without_a_valid_index_is_refused(tmp_path, content, reason):
    if content is not None:
        (tmp_path / INDEX_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=reason):
        list_sharded_scans(str(tmp_path))


@pytest.mark.parametrize("option", [{"scans_per_shard": 0}, {"num_workers": -1}])
def test_counts_are_checked_before_a_folder_is_made(data, tmp_path, option):
    with pytest.raises(ValueError, match="scans_per_shard must be at least 1"):
        write_shards(str(data), str(tmp_path / "new"), **option)
    assert not (tmp_path / "new").exists()
