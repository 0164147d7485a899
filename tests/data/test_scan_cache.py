import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from custom_components.data.scan_cache import ScanCache
from monai.transforms import Compose, Lambdad, MapTransform, RandFlipd


class Read(MapTransform):
    """Reads a number from a file; counts how often."""

    def __init__(self, keys, factor=1.0):
        super().__init__(keys)
        self.factor = factor
        self._calls = []

    def __call__(self, data):
        item = dict(data)
        self._calls.append(item["case_id"])
        for key in self.keys:
            number = float(Path(item[key]).read_text(encoding="utf-8"))
            item[key] = torch.linspace(0, 1, 24).reshape(1, 2, 3, 4) * number * self.factor
        return item


@pytest.fixture
def items(tmp_path):
    cases = []
    for number in range(3):
        path = tmp_path / f"{number}.txt"
        path.write_text(f"{0.25 * (number + 1)}", encoding="utf-8")
        cases.append({"case_id": str(number), "image": str(path), "label": number % 2, "ratio": 0.01})
    return cases


def test_the_second_reading_comes_from_the_cache_with_the_same_values(items, tmp_path):
    read = Read("image")
    first = [item["image"] for item in ScanCache(items, Compose([read]), tmp_path / "cache")]
    again = [item["image"] for item in ScanCache(items, Compose([read]), tmp_path / "cache")]
    assert read._calls == ["0", "1", "2"]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].dtype == torch.float32


def test_without_a_folder_the_values_are_those_of_the_cache(items, tmp_path):
    cached, bare = ScanCache(items, Compose([Read("image")]), tmp_path / "cache"), ScanCache(items, Read("image"), None)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(cached, bare, strict=True))


def test_values_are_exact_to_half_a_step(items):
    found = ScanCache(items, Read("image"), None)[2]["image"]
    np.testing.assert_allclose(found.numpy().ravel(), np.linspace(0, 0.75, 24), atol=0.5 / 255 + 1e-6)


def test_other_entries_are_kept_by_the_cache(items, tmp_path):
    for _ in range(2):
        item = ScanCache(items, Read("image"), tmp_path / "cache")[1]
        assert (item["case_id"], item["label"], item["ratio"]) == ("1", 1, 0.01)


def test_a_changed_file_is_read_again(items, tmp_path):
    data = ScanCache(items, Read("image"), tmp_path / "cache")
    before = data[0]["image"].max()
    Path(items[0]["image"]).write_text("0.9", encoding="utf-8")
    os.utime(items[0]["image"], ns=(1, 1))
    assert data[0]["image"].max() > before


def test_another_setting_of_a_transform_gives_another_cache_file(items, tmp_path):
    names = {ScanCache(items, Read("image", factor), tmp_path / "cache").cache_file(items[0]) for factor in (1.0, 0.5)}
    assert len(names) == 2
    same = {ScanCache(items, Read("image", 0.5), tmp_path / "cache").cache_file(items[0]) for _ in range(2)}
    assert len(same) == 1


def test_random_transforms_are_not_cached(items, tmp_path):
    flip = RandFlipd("image", prob=0.5, spatial_axis=2).set_random_state(0)
    data = ScanCache(items, Compose([Read("image"), flip]), tmp_path / "cache")
    assert {float(data[0]["image"][0, 0, 0, 0]) for _ in range(20)} == {0.0, float(data[0]["image"][0, 0, 0].max())}


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_a_broken_cache_file_is_replaced(items, tmp_path, caplog, content):
    data = ScanCache(items, Read("image"), tmp_path / "cache")
    before = data[0]["image"]
    data.cache_file(items[0]).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(data[0]["image"], before)
    assert "Case 0: its cache file is broken" in caplog.text
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_scan_of_full_size_and_its_mask_take_18_megabytes(items, tmp_path):
    def full(_):
        return torch.zeros(1, 138, 256, 256)

    item = {**items[0], "infection": items[0]["image"]}
    steps = [Lambdad("image", full), Lambdad("infection", lambda _: torch.zeros(1, 138, 256, 256, dtype=torch.uint8))]
    data = ScanCache([item], Compose(steps), tmp_path / "cache")
    data[0]
    assert data.cache_file(item).stat().st_size / 1e6 == pytest.approx(18.1, abs=0.1)


def test_intensities_outside_0_to_1_are_an_error(items):
    with pytest.raises(ValueError, match=r"Case 0: ScanCache got an image from 0 to 100. Expected \[0, 1\]"):
        ScanCache(items, Read("image", 400.0), None)[0]


def test_a_folder_without_write_access_is_an_error_at_once(items, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be written to"):
        ScanCache(items, Read("image"), tmp_path / "file")
