"""``python -m custom_components write_shards``: the preprocessed scans of a data set as shards for object storage."""

import io
import itertools
import json
import logging
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from custom_components._version import __version__
from custom_components.command_line.endings import check_flags
from custom_components.data.scan_cache import ScanCache
from custom_components.data.scan_shards import FACTS, INDEX_NAME, SHARD, SIZE, START
from custom_components.datalists.scans import Scan, list_scans
from custom_components.diagnosis.bundle_network import bundle_folder
from custom_components.diagnosis.pipeline import CAP_BUNDLE
from custom_components.files.atomic import absolute_path, atomic_path, writable_folder
from custom_components.files.report_files import write_json
from custom_components.labels import SYNTHETIC
from custom_components.weights.model_card import DIGEST, case_digest
from monai.bundle import ConfigParser
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

KEPT = (*FACTS, "patient_id", "group", SYNTHETIC)
SETTINGS = ("grid", "spacing_mm", "max_scale", "window_hu")
TRAIN = "python -m monai.bundle run training --config_file \"['{0}/train.yaml', '{0}/recipes/shards.yaml']\""

_logger = logging.getLogger(__name__)


def write_shards(
    datalist: str,
    output_dir: str,
    grid: Sequence[int] | None = None,
    spacing_mm: Sequence[float] | None = None,
    max_scale: float | None = None,
    window_hu: Sequence[float] | None = None,
    normals: bool = False,
    scans_per_shard: int = 50,
    num_workers: int = 0,
    bundles_dir: str | None = None,
) -> None:
    """Preprocess the scans of a datalist as covid_cap_bundle does for training, and pack them into tar files.

    A training reads them with recipes/shards.yaml, from a disk or an object store. Each scan is <number>.npz (image and
    infection mask, one byte per voxel) and <number>.json (case, label, fold, infection ratio), in the layout of
    WebDataset. The same command continues after an interruption.

    Args:
        datalist: a datalist JSON with masks, labels and folds, or its folder.
        output_dir: new folder, or that of an interrupted run.
        grid: voxels z, y, x; as all settings of the preprocessing, by default that of train.yaml.
        spacing_mm: z, y, x, before scaling.
        max_scale: see train.yaml.
        window_hu: lowest and highest HU.
        normals: also normal scans, for recipes/three_classes.yaml.
        scans_per_shard: scans of a tar file; 50 of the paper's size have 0.9 GB.
        num_workers: processes that preprocess.
        bundles_dir: folder that contains the bundles; default next to the package.
    """
    check_flags(normals=normals)
    if scans_per_shard < 1 or num_workers < 0:
        raise ValueError("scans_per_shard must be at least 1, and num_workers at least 0.")
    given = {"grid": grid, "spacing_mm": spacing_mm, "max_scale": max_scale, "window_hu": window_hu}
    configs = bundle_folder(CAP_BUNDLE, bundles_dir) / "configs"
    scans = list_scans(datalist, normals=normals)
    transform, settings = preprocessing(configs, given)
    folder = writable_folder(absolute_path(output_dir))
    entries = [_entry(scan) for scan in scans]
    cases: list[dict[str, Any]] = []
    starts = range(0, len(scans), scans_per_shard)
    for number, start in enumerate(tqdm(starts, desc="Shards", unit="shard")):
        part = slice(start, start + scans_per_shard)
        path = folder / f"shard-{number:06d}.tar"
        records = [{**entry, "settings": settings} for entry in entries[part]]
        if not path.exists():
            _write(path, start, ScanCache(scans[part], transform, None), records, num_workers)
        cases += _places(path, records)
    write_json(folder / INDEX_NAME, {"version": __version__, "settings": settings, "cases": cases})
    _logger.info("Wrote %d scans in %d shards, with %s: %s", len(cases), len(starts), INDEX_NAME, folder)
    options = "".join(f' --{name} "{settings[name]}"' for name, value in given.items() if value is not None)
    _logger.info("Next: %s --dataset_dir %s%s", TRAIN.format(configs), folder, options)


def preprocessing(configs: Path, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The deterministic preprocessing of a training.

    Args:
        configs: folder of covid_cap_bundle's configs.
        given: settings of the preprocessing by name; None keeps that of train.yaml.

    Returns:
        The transforms, and all settings.
    """
    parser = ConfigParser()
    parser.read_config(configs / "train.yaml")
    parser.update({name: value for name, value in given.items() if value is not None})
    settings = {name: parser.get_parsed_content(name) for name in SETTINGS}
    return parser.get_parsed_content("train#preprocessing"), settings


def _entry(scan: Scan) -> dict[str, Any]:
    return {**{name: scan[name] for name in KEPT if name in scan}, DIGEST: case_digest(scan)}


class _Packed(Dataset[dict[str, Any]]):
    """Preprocessed scans with one byte per voxel."""

    def __init__(self, cache: ScanCache) -> None:
        self.cache = cache

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.cache.packed(self.cache.data[index])


def _write(path: Path, first: int, cache: ScanCache, records: Sequence[Mapping[str, Any]], num_workers: int) -> None:
    """Write a shard, atomically."""
    loader = DataLoader(_Packed(cache), batch_size=None, num_workers=num_workers)
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as shard:
        for number, item, record in zip(itertools.count(first), loader, records, strict=False):
            arrays = io.BytesIO()
            np.savez(arrays, **{name: item[name].numpy() for name in item if torch.is_tensor(item[name])})
            for kind, content in (("npz", arrays.getvalue()), ("json", json.dumps(record).encode())):
                member = tarfile.TarInfo(f"{number:06d}.{kind}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


def _places(path: Path, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries of the index of a shard's scans.

    Raises:
        ValueError: when it has other scans, labels or settings, or is not a shard.
    """
    cases, found = [], []
    try:
        with tarfile.open(path) as shard:
            members = shard.getmembers()
            for arrays, facts in zip(members[::2], members[1::2], strict=True):
                record = json.load(shard.extractfile(facts))  # type: ignore[arg-type]
                found.append(record)
                place = {SHARD: path.name, START: arrays.offset_data, SIZE: arrays.size}
                cases.append({**{name: value for name, value in record.items() if name != "settings"}, **place})
    except (tarfile.TarError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a shard: {error}. Remove it, or choose a new folder.") from error
    if found != json.loads(json.dumps(list(records))):
        raise ValueError(f"{path} has other scans, labels or settings. Choose a new folder.")
    return cases
