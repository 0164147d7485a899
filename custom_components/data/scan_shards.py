"""Preprocessed scans in shards: tar files in the layout of WebDataset, on a disk or in an object store."""

import io
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import numpy as np
import torch
from custom_components._version import __version__
from custom_components.data.scan_cache import STEPS
from custom_components.infection_size import NORMAL
from torch.utils.data import Dataset

INDEX_NAME = "shards.json"
WRITE = "python -m custom_components write_shards DATALIST FOLDER"
# Of an entry of the index: its tar file, and the place of its arrays in it.
SHARD, START, SIZE = "shard", "start", "bytes"
# Of a scan: what a network is trained with, besides its arrays.
FACTS = ("case_id", "label", "ratio", "fold")

_logger = logging.getLogger(__name__)


def list_sharded_scans(
    dataset_dir: str, settings: Mapping[str, Any] | None = None, normals: bool = False
) -> list[dict[str, Any]]:
    """List the scans of a folder of shards, which ``write_shards`` wrote; the shards are not read.

    Args:
        dataset_dir: folder, or an address that fsspec knows, such as ``s3://bucket/shards``.
        settings: preprocessing settings of the training; those that the index has too must agree.
        normals: whether normal scans are a class; if False, a normal scan is an error.

    Returns:
        ``case_id``, ``patient_id``, ``label`` (1 COVID-19, 0 CAP, 2 normal), ``fold``, ``ratio`` and ``group`` of each
        scan as from ``list_scans``, and the place of its arrays.

    Raises:
        ValueError: when there is no index, or it has other settings or normal scans.
    """
    index = _read_index(dataset_dir)
    for name, value in (settings or {}).items():
        written = index["settings"].get(name, value)
        if written != value:
            raise ValueError(
                f"The shards in {dataset_dir} were written with {name} {written}, the training has {value}. "
                f'Train with --{name} "{written}", or write other shards: {WRITE}.'
            )
    if index["version"] != __version__:
        _logger.warning("The shards were written by version %s, this is %s.", index["version"], __version__)
    if not normals and any(case["group"] == NORMAL for case in index["cases"]):
        raise ValueError(f"{dataset_dir} has normal scans, but there are two classes. See recipes/three_classes.yaml.")
    return [dict(case) for case in index["cases"]]


def _read_index(folder: str) -> dict[str, Any]:
    system, path = fsspec.core.url_to_fs(str(folder))
    try:
        index: dict[str, Any] = json.loads(system.cat_file(f"{path}/{INDEX_NAME}"))
    except FileNotFoundError as error:
        raise ValueError(f"{folder} has no {INDEX_NAME}. Write shards: {WRITE}.") from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{INDEX_NAME} of {folder} cannot be read: {error}. Copy or write the shards again."
        ) from error
    missing = {"version", "settings", "cases"} - (index.keys() if isinstance(index, dict) else set())
    if missing:
        raise ValueError(f"{INDEX_NAME} of {folder} has no {', '.join(sorted(missing))}. Write the shards again.")
    return index


class ShardedScans(Dataset[dict[str, Any]]):
    """Data set of preprocessed scans in shards, with the items of :class:`ScanCache`.

    Each item is one read of its own bytes, so that samplers can draw scans in any order, from a disk or from an object
    store (13 to 18 MB at the paper's size). The values are those of the cache.

    Args:
        data: scans from :func:`list_sharded_scans`.
        folder: folder or address of the shards.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], folder: str) -> None:
        self.data, self.folder = list(data), str(folder)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One scan: ``image`` (1, Z, Y, X) float32 in [0, 1], its masks, and its label, ratio and fold.

        Raises:
            ValueError: when its bytes are missing or damaged; names the case.
        """
        case = self.data[index]
        try:
            system, path = fsspec.core.url_to_fs(self.folder)  # in a worker process, its own connection
            start = case[START]
            content = system.cat_file(f"{path}/{case[SHARD]}", start=start, end=start + case[SIZE])
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = {name: torch.from_numpy(array) for name, array in file.items()}
        except Exception as error:  # file systems and zip files raise many types of errors
            raise ValueError(
                f"Case {case['case_id']}: {case[SHARD]} of {self.folder} cannot be read ({type(error).__name__}). "
                "Copy or write the shards again."
            ) from error
        return {**{name: case[name] for name in FACTS}, **arrays, "image": arrays["image"].float() / STEPS}
