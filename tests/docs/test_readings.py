"""docs/readings.md: each reading has its five parts, and what it names is there."""

import re
import shlex

import pytest
from custom_components.command_line.bundle_command import BundleCommand
from custom_components.command_line.typed_words import OptionError

from tests.bundles.conftest import ROOT

PARTS = ["Paper", "Open", "Here", "Code", "To change it"]
PAGE = (ROOT / "docs" / "readings.md").read_text(encoding="utf-8")
CHAPTERS = {chapter.split("\n")[0]: chapter for chapter in PAGE.split("\n## ")[1:]}
READINGS = [
    pytest.param(chapter, reading, id=reading.split("\n")[0])
    for chapter, text in CHAPTERS.items()
    for reading in text.split("\n### ")[1:]
]
CONFIGS = {
    "The segmentation network": ("covid_seg_bundle", ["train.yaml"]),
    "The classifier": ("covid_cap_bundle", ["train.yaml", "inference.json", "ensemble.yaml", "size_balanced.yaml"]),
    "VB-Net": ("covid_cap_bundle", ["segment_train.yaml"]),
}
"""Bundle of each chapter, and the configs that its options go to."""
BASES = {"ensemble.yaml": "evaluate.yaml", "size_balanced.yaml": "train.yaml"}
"""Base config of each overlay."""


def part(reading: str, name: str) -> str:
    return reading.split(f"**{name}:**")[1].split("\n- **")[0]


def quoted(text: str) -> list[str]:
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text)]


def is_accepted(option: str, bundle: str, config: str) -> bool:
    configs = ROOT / bundle / "configs"
    files = [str(configs / config)]
    if config in BASES:
        files = [str(configs / BASES[config]), str(next(configs.glob(f"*/{config}"), configs / config))]
    try:
        BundleCommand.read(["--config_file", str(files), "--dataset_dir", "/data", *shlex.split(option)]).check()
    except OptionError:
        return False
    return True


def test_every_chapter_has_readings() -> None:
    assert set(CHAPTERS) == set(CONFIGS)
    assert len(READINGS) > 20


@pytest.mark.parametrize(("chapter", "reading"), READINGS)
def test_a_reading_has_its_parts_in_order(chapter: str, reading: str) -> None:
    assert re.findall(r"^- \*\*(.+?):\*\*", reading, re.M) == PARTS


@pytest.mark.parametrize(("chapter", "reading"), READINGS)
def test_the_code_of_a_reading_is_where_it_says(chapter: str, reading: str) -> None:
    names = quoted(part(reading, "Code"))
    paths = [name for name in names if "/" in name]
    assert paths
    text = "".join((ROOT / path).read_text(encoding="utf-8") for path in paths)
    assert [name for name in names if name not in paths and name not in text] == []


@pytest.mark.parametrize(("chapter", "reading"), READINGS)
def test_each_reading_can_be_changed_by_an_overlay_or_an_option(chapter: str, reading: str) -> None:
    bundle, configs = CONFIGS[chapter]
    for word in quoted(part(reading, "To change it")):
        if word.endswith((".yaml", "train.json")):
            assert list((ROOT / bundle / "configs").rglob(word)), word
        elif word.startswith("--"):
            assert any(is_accepted(word, bundle, config) for config in configs), word


def test_an_option_that_no_config_has_is_not_accepted() -> None:
    assert not is_accepted("--network_def#bucket_sise 64", "covid_seg_bundle", "train.yaml")
