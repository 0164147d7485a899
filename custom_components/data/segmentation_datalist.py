from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation

from custom_components.data.ct_reader import IMAGE_SUFFIXES, ImageHeader, case_name, image_header
from custom_components.data.dicom_series import holds_dicom

Case = dict[str, str]
"""``case_id``, ``image``, ``group`` ("" when unknown) and, where asked for or there, ``label`` and ``lung``."""

PHANTOM = "phantom"
DATALIST_NAME = "datalist.json"
IMAGE_FOLDER, MASK_FOLDERS = "images", {"label": "masks", "lung": "lungs"}
SHOWN_PROBLEMS, SHOWN_NAMES = 10, 5
SAME_PLACE = 0.1
"""Corners of image and mask may lie this share of the smallest voxel side apart (headers are rounded to float32)."""

LAYOUTS = (
    "Expected a folder with images/ and masks/ (PNG or NIfTI of the same names; lungs/ is optional), "
    "a datalist JSON, or the word 'phantom'"
)
IMAGES_ALONE = "; for images without masks also a PNG or NIfTI file, a DICOM folder, or a folder of these"


def list_cases(dataset_dir: str | Path, require_labels: bool = True, check_files: bool = True) -> list[Case]:
    """List the cases of a data set and check, by headers alone, that every file of them can be used.

    Accepted are

    - a folder with ``images/`` and ``masks/`` (and ``lungs/``): PNG or NIfTI of the same names;
    - a datalist JSON, or a folder with a ``datalist.json``: ``{"cases": [...]}`` or MONAI's ``{"training": [...]}``,
      each entry with ``image``, ``label`` and optionally ``lung``, ``group`` (patient or site) and ``case_id``,
      paths relative to the JSON;
    - without labels also one PNG or NIfTI file, one DICOM folder, or a folder of these;
    - the word ``"phantom"``: the synthetic data set that comes with the package.

    All problems of a data set are reported together.

    Args:
        dataset_dir: one of the above.
        require_labels: whether every case needs a mask. If not, masks are not listed at all.
        check_files: whether to look into the files. If not, a bad file is left to whoever loads it, so that an
            inference of many cases can go on without it.

    Returns:
        Cases in natural order of the files, or in the order of the JSON: ``case_id``, ``image``, ``label``
        (when required), ``lung`` (when the data set has lung masks) and ``group``, "" when unknown: a None
        could not be collated into a batch. Paths are absolute.

    Raises:
        ValueError: listing up to ten problems: images without masks and masks without images, differing sizes
            or places, files of another kind, doubled case ids, nothing there at all.
    """
    root = _root(dataset_dir)
    problems: list[str] = []
    cases = _find(root, require_labels, problems)
    problems += _id_problems(cases)
    if check_files:
        problems += [problem for case in cases for problem in _header_problems(case)]
    if problems:
        raise ValueError(_report(root, problems))
    if not cases:
        raise ValueError(f"Data set {root} has no cases. {LAYOUTS}{'' if require_labels else IMAGES_ALONE}.")
    return cases


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that reads digits as numbers.

    Example:
        >>> sorted(["slice10", "slice9", "slice010"], key=natural_key)
        ['slice9', 'slice010', 'slice10']
    """
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _root(dataset_dir: str | Path) -> Path:
    if str(dataset_dir) == PHANTOM:
        from custom_components.phantom import phantom_dataset

        return Path(phantom_dataset()).absolute()
    root = Path(str(dataset_dir)).expanduser().absolute()
    if not root.exists():
        raise ValueError(f"Data set {root} does not exist. Check dataset_dir.")
    return root


def _find(root: Path, require_labels: bool, problems: list[str]) -> list[Case]:
    datalist = root / DATALIST_NAME if root.is_dir() else root
    if datalist.name.lower().endswith(".json") and datalist.is_file():
        return _from_datalist(datalist, require_labels, problems)
    if (root / IMAGE_FOLDER).is_dir():
        return _from_folders(root, require_labels, problems)
    if require_labels:
        raise ValueError(f"Data set {root} has neither {IMAGE_FOLDER}/ nor {DATALIST_NAME}. {LAYOUTS}.")
    alone = root.is_file() or holds_dicom(root)
    return [_case(case_name(path), path) for path in ([root] if alone else _images_in(root))]


def _case(case_id: str, image: Path, masks: dict[str, Path] | None = None, group: str = "") -> Case:
    mask_paths = {key: str(path) for key, path in (masks or {}).items()}
    return {"case_id": case_id, "image": str(image), **mask_paths, "group": group}


def _images_in(folder: Path) -> list[Path]:
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found = [
        path
        for path in visible
        if (holds_dicom(path) if path.is_dir() else path.name.lower().endswith((*IMAGE_SUFFIXES, ".jpg", ".jpeg")))
    ]
    return sorted(found, key=lambda path: natural_key(path.name))


def _from_folders(root: Path, require_labels: bool, problems: list[str]) -> list[Case]:
    images = _images_in(root / IMAGE_FOLDER)
    names = [case_name(path) for path in images]
    wanted = [key for key in MASK_FOLDERS if _wants(root, key, require_labels)]
    masks = {key: _masks(root, key, names, problems) for key in wanted}
    cases = []
    for name, image in zip(names, images, strict=True):
        own = {key: masks[key][name] for key in wanted if name in masks[key]}
        cases.append(_case(name, image, own))
    return cases


def _wants(root: Path, key: str, require_labels: bool) -> bool:
    return require_labels if key == "label" else (root / MASK_FOLDERS[key]).is_dir()


def _masks(root: Path, key: str, image_names: list[str], problems: list[str]) -> dict[str, Path]:
    """Masks by case name; images without mask and masks without image become problems."""
    folder = MASK_FOLDERS[key]
    found = _images_in(root / folder) if (root / folder).is_dir() else []
    counts = Counter(case_name(path) for path in found)
    lists = {
        f"{IMAGE_FOLDER}/ without a mask in {folder}/": [name for name in image_names if name not in counts],
        f"{folder}/ without an image in {IMAGE_FOLDER}/": [name for name in counts if name not in set(image_names)],
        f"{folder}/ with more than one file of the same name": [name for name in counts if counts[name] > 1],
    }
    problems += [f"{len(names)} in {what}: {_shorten(names)}" for what, names in lists.items() if names]
    return {case_name(path): path for path in found}


def _shorten(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def _from_datalist(path: Path, require_labels: bool, problems: list[str]) -> list[Case]:
    cases = []
    for number, entry in enumerate(_entries(path), start=1):
        try:
            cases.append(_from_entry(entry, path.parent, require_labels))
        except ValueError as error:
            problems.append(f"entry {number}: {error}")
    has_lung = Counter("lung" in case for case in cases)
    if len(has_lung) == 2:
        problems.append(f"{has_lung[False]} of {len(cases)} entries have no 'lung'. Give it to all or to none")
    return cases


def _entries(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Datalist {path} cannot be read as JSON: {error}. Check it with a JSON editor.") from error
    entries = content.get("cases", content.get("training")) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(
            f"Datalist {path} has no list of cases. "
            'Expected {"cases": [{"image": ..., "label": ...}, ...]}, or "training" in place of "cases".'
        )
    return entries


def _from_entry(entry: Any, folder: Path, require_labels: bool) -> Case:
    if not isinstance(entry, dict):
        raise ValueError(f"is {json.dumps(entry)[:40]}. Expected an object with 'image' and 'label'")
    wanted = ("image", "label") if require_labels else ("image",)
    missing = [key for key in wanted if not entry.get(key)]
    if missing:
        raise ValueError(f"has no {' and no '.join(repr(key) for key in missing)}")
    image, *_ = paths = [_inside(folder, entry[key]) for key in wanted]
    masks = dict(zip(wanted[1:], paths[1:], strict=True))
    if entry.get("lung"):
        masks["lung"] = _inside(folder, entry["lung"])
    case_id, group = (None if entry.get(key) is None else str(entry[key]) for key in ("case_id", "group"))
    return _case(case_name(image) if case_id is None else case_id, image, masks, group or "")


def _inside(folder: Path, name: Any) -> Path:
    if not isinstance(name, str):
        raise ValueError(f"has the path {json.dumps(name)[:40]}. Expected one string")
    path = Path(name)
    if not path.is_absolute() and ".." in path.parts:
        raise ValueError(f"path {name} leaves the datalist's folder. Give an absolute path, or move the files below it")
    return folder / path


def _id_problems(cases: list[Case]) -> list[str]:
    counts = Counter(case["case_id"] for case in cases)
    doubled = [name for name, count in counts.items() if count > 1]
    unsafe = [name for name in counts if not name or name in (".", "..") or re.search(r"[/\\\0]", name)]
    problems = []
    if doubled:
        problems.append(f"{len(doubled)} case ids occur more than once: {_shorten(doubled)}. Rename the files or ids")
    if unsafe:
        problems.append(f"{len(unsafe)} case ids cannot be file names: {_shorten(unsafe)}. Use letters and digits")
    return problems


def _header_problems(case: Case) -> list[str]:
    headers: dict[str, ImageHeader] = {}
    problems = []
    for key in (key for key in ("image", "label", "lung") if key in case):
        if key != "image" and Path(case[key]).is_dir():
            problems.append(f"Case {case['case_id']}: {key} is a folder. Expected a PNG or NIfTI mask")
            continue
        try:
            headers[key] = image_header(case[key])
        except ValueError as error:
            problems.append(f"{key}: {error}")
    image = headers.pop("image", None)
    if image is None:
        return problems
    found = ((key, _mismatch(image, mask)) for key, mask in headers.items())
    return problems + [f"Case {case['case_id']}: {key} {what}" for key, what in found if what]


def _mismatch(image: ImageHeader, mask: ImageHeader) -> str:
    """How a mask does not lie on its image; empty when it does. The two may be stored in different orientations."""
    image, mask = _canonical(image), _canonical(mask)
    if image.shape != mask.shape:
        return f"is {_size(mask.shape)} but the image {_size(image.shape)}. Export both at the same size"
    ends = np.array([[0, 0, 0, 1], [*(size - 1 for size in image.shape), 1]], dtype=float).T
    voxel_mm = np.linalg.norm(image.affine[:3, :3], axis=0).min()
    apart_mm = float(np.abs(image.affine @ ends - mask.affine @ ends).max())
    if apart_mm > SAME_PLACE * voxel_mm:
        return f"lies up to {apart_mm:.1f} mm off the image. Copy the image's header (affine) into the mask"
    return ""


def _canonical(header: ImageHeader) -> ImageHeader:
    orientation = io_orientation(header.affine)
    x, y, z = (int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3))
    shape = (header.shape[x], header.shape[y], header.shape[z])
    return ImageHeader(shape, header.affine @ inv_ornt_aff(orientation, header.shape))


def _size(shape: Iterable[int]) -> str:
    return " x ".join(str(size) for size in shape)


def _report(root: Path, problems: list[str]) -> str:
    shown = [f"  - {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    more = len(problems) - len(shown)
    end = [f"  ... and {more} more"] if more else []
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    return "\n".join([f"Data set {root} has {count}:", *shown, *end])
