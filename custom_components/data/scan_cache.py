import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from custom_components._version import __version__
from custom_components.files.atomic import atomic_path, writable_folder
from custom_components.images.case_id import case_id
from monai.data import MetaTensor, PersistentDataset
from monai.data.image_reader import ImageReader
from monai.transforms import Transform

_logger = logging.getLogger(__name__)

FILE_KEYS = ("image", "lung", "infection")
STEPS = 255


class ScanCache(PersistentDataset):
    """MONAI PersistentDataset of preprocessed scans with one byte per voxel, invalidated by any change.

    Adds to MONAI: the image, in [0, 1], is stored in steps of 1/255 (6 HU in the paper's window), so that a scan of
    138 x 256 x 256 with its infection mask takes 18 MB. Files are written atomically, and broken ones are replaced. The
    file name depends on the case's files with sizes and times, on all settings of the transforms and on the package
    version. Metadata are not stored. Values are the same with the cache, without it and without a cache folder.

    Args:
        data: items with the files ``image``, ``lung`` and ``infection``.
        transform: transforms; the result before the first random one is cached.
        cache_dir: folder, created if missing; None turns the cache off.

    Raises:
        ValueError: when the folder cannot be written into.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[..., Any] | Sequence[Callable[..., Any]],
        cache_dir: str | Path | None,
    ) -> None:
        folder = writable_folder(cache_dir) if cache_dir else None
        super().__init__(data=data, transform=transform, cache_dir=folder)
        self._settings = json.dumps([__version__, _settings(self.transform.transforms)], sort_keys=True)

    def cache_file(self, item: Mapping[str, Any]) -> Path | None:
        """Cache file of an item; None without a cache folder."""
        if self.cache_dir is None:
            return None
        files = [_file_state(Path(item[key]), _name(item)) for key in FILE_KEYS if item.get(key)]
        others = {key: value for key, value in item.items() if key not in FILE_KEYS}
        text = json.dumps([self._settings, files, others], sort_keys=True, default=str)
        return self.cache_dir / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.pt"

    def _cachecheck(self, item_transformed: Mapping[str, Any]) -> dict[str, Any]:
        path = self.cache_file(item_transformed)
        found = None if path is None or not path.is_file() else _load(path, _name(item_transformed))
        if found is not None:
            return found
        packed = self.packed(item_transformed)
        if path is not None:
            with atomic_path(path) as temporary:
                torch.save(packed, temporary)
        return packed

    def packed(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """An item after the transforms before the first random one, its image in steps of 1/255; not cached."""
        return _packed(self._pre_transform(deepcopy(dict(item))))

    def _post_transform(self, item_transformed: Mapping[str, Any]) -> Any:
        item = dict(item_transformed)
        item["image"] = item["image"].float() / STEPS
        return super()._post_transform(item)


def _name(item: Mapping[str, Any]) -> str:
    return str(item.get("case_id") or case_id(item))


def _packed(item: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value.as_tensor() if isinstance(value, MetaTensor) else value for key, value in item.items()}
    image = plain["image"]
    if not bool((image.min() >= 0) & (image.max() <= 1)):
        raise ValueError(
            f"Case {_name(item)}: ScanCache got an image from {image.min():g} to {image.max():g}. Expected [0, 1]: "
            "scale the intensities (PaperGridd) before the first random transform."
        )
    return {**plain, "image": (image * STEPS).round().to(torch.uint8).contiguous()}


def _load(path: Path, case: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = torch.load(path, weights_only=True)
        return found
    except Exception as error:  # the unpickler raises many types of errors, such as KeyError
        _logger.warning("Case %s: its cache file is broken (%s) and is created again.", case, type(error).__name__)
        return None


def _file_state(path: Path, case: str) -> list[Any]:
    """Names, sizes and times of a file or of the files of a DICOM folder."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return [[str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    except FileNotFoundError as error:
        raise ValueError(f"Case {case}: {error.filename} does not exist. Check the path or the datalist.") from error


def _settings(thing: Any) -> Any:
    """Settings of a transform as JSON: its class and its public attributes, recursively."""
    if thing is None or isinstance(thing, str | int | float | bool):
        return thing
    if isinstance(thing, Enum):
        return str(thing)
    if isinstance(thing, list | tuple):
        return [_settings(part) for part in thing]
    if isinstance(thing, Mapping):
        return {str(key): _settings(value) for key, value in thing.items()}
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    if isinstance(thing, Transform | ImageReader):
        return [name, {key: _settings(value) for key, value in sorted(vars(thing).items()) if not key.startswith("_")}]
    return str(thing) if isinstance(thing, torch.dtype) else name
