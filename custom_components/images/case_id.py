"""Case names of items, batches and images."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

from custom_components.images.ct_reader import case_name
from monai.data import MetaTensor
from monai.utils import ImageMetaKey

# Case name of an image without a file name.
UNKNOWN_CASE = "unknown"


def case_id(item: Any) -> str:
    """Case name of a data set item, a batch of one case, or an image.

    The name is the image's file name without suffix (for DICOM the folder name). MONAI's SaveImage uses the same name
    for output folders.

    Args:
        item: mapping with ``image`` (path or MetaTensor), or the path or MetaTensor itself.

    Returns:
        The name. If the image has no file name: the item's ``case_id``, or ``unknown``.
    """
    if isinstance(item, Mapping):
        name = case_id(item.get("image"))
        return str(_first(item.get("case_id", name))) if name == UNKNOWN_CASE else name
    path = source_path(item)
    return UNKNOWN_CASE if path is None else case_name(path)


def source_path(image: Any) -> str | None:
    """Path of the file that an image was loaded from.

    Args:
        image: MetaTensor, or the path itself.

    Returns:
        The path as given; None for an array without one.
    """
    path = _first(image.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(image, MetaTensor) else image)
    return str(path) if isinstance(path, str | PathLike) else None


def case_prefix(image: Any) -> str:
    """Start of a message, such as ``Case 012: ``; empty when the image has no file name."""
    name = case_id(image) if isinstance(image, MetaTensor) else UNKNOWN_CASE
    return "" if name == UNKNOWN_CASE else f"Case {name}: "


def batch_case_ids(batch: Mapping[str, Any]) -> list[str]:
    """Case names of a batch in order: its ``case_id`` entries, or else the file names of its images.

    Example:
        >>> batch_case_ids({"case_id": ["012", "013"]}), batch_case_ids({})
        (['012', '013'], [])
    """
    named = batch.get("case_id")
    if named is None:
        image = batch.get("image")
        paths = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ) if isinstance(image, MetaTensor) else None
        named = [case_name(path) for path in _listed(paths)]
    return [str(name) for name in _listed(named)]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value
