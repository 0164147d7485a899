from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from custom_components.datalists.case_files import IMAGE_FOLDER, PHANTOM, existing_root, files_by_case, images_in
from custom_components.datalists.case_problems import header_problems, id_problems, output_name_problems, problem_report
from custom_components.datalists.datalist_file import (
    DATALIST_NAME,
    datalist_content,
    datalist_file,
    path_inside,
    synthetic_mark,
)
from custom_components.dicom.series import holds_dicom
from custom_components.images.ct_reader import case_name

# ``case_id``, ``image``, ``group`` ("" when unknown) and, if required or available, ``label`` and ``lung``.
Case = dict[str, Any]

MASK_FOLDERS = {"label": "masks", "lung": "lungs"}

LAYOUTS = (
    "Expected a folder with images/ and masks/ (PNG or NIfTI of the same names; lungs/ is optional), "
    "a datalist JSON, or the word 'phantom'"
)
IMAGES_ALONE = ". For images without masks also: a PNG or NIfTI file, a DICOM folder, or a folder of these"


def list_cases(dataset_dir: str | Path | None, require_labels: bool = True, check_files: bool = True) -> list[Case]:
    """List the cases of a data set and check the headers of their files.

    The data set is one of

    - a folder with ``images/`` and ``masks/`` (and ``lungs/``): PNG or NIfTI of the same names;
    - a datalist JSON, or a folder with a ``datalist.json``: ``{"cases": [...]}`` or MONAI's ``{"training": [...]}``,
      each entry with ``image``, ``label`` and optionally ``lung``, ``group`` (patient or site) and ``case_id``,
      paths relative to the JSON;
    - without labels also: one PNG or NIfTI file, one DICOM folder, or a folder of these;
    - the word ``"phantom"``: the built-in synthetic data set.

    All problems are reported together.

    Args:
        dataset_dir: one of the above.
        require_labels: whether every case needs a mask. If False, masks are not listed.
        check_files: whether to read the headers. If False, bad files are found only when they are loaded, so that an
            inference can continue with the other cases.

    Returns:
        Cases in natural order of the files, or in the order of the JSON: ``case_id``, ``image``, ``label``
        (when required), ``lung`` (when the data set has lung masks), ``group`` ("" when unknown, because None cannot
        be collated into a batch) and, for a phantom, ``synthetic``. Paths are absolute.

    Raises:
        ValueError: lists up to ten problems: images without masks, masks without images, misaligned masks, unsupported
            files, duplicate case ids, an empty data set.
    """
    root = _root(dataset_dir)
    problems: list[str] = []
    cases = _find(root, require_labels, problems)
    problems += id_problems(case["case_id"] for case in cases)
    problems += [] if require_labels or problems else output_name_problems(cases)
    if check_files:
        problems += [problem for case in cases for problem in header_problems(case, tuple(MASK_FOLDERS))]
    if problems:
        raise ValueError(problem_report(root, problems))
    if not cases:
        raise ValueError(f"Data set {root} has no cases. {LAYOUTS}{'' if require_labels else IMAGES_ALONE}.")
    return cases


def _root(dataset_dir: str | Path | None) -> Path:
    if str(dataset_dir) == PHANTOM:
        from custom_components.phantom import phantom_dataset

        return Path(phantom_dataset()).absolute()
    return existing_root(dataset_dir)


def _find(root: Path, require_labels: bool, problems: list[str]) -> list[Case]:
    datalist = datalist_file(root)
    if datalist:
        return _from_datalist(datalist, require_labels, problems)
    if (root / IMAGE_FOLDER).is_dir():
        return _from_folders(root, require_labels, problems)
    if require_labels:
        raise ValueError(f"Data set {root} has neither {IMAGE_FOLDER}/ nor {DATALIST_NAME}. {LAYOUTS}.")
    alone = root.is_file() or holds_dicom(root)
    return [_case(case_name(path), path) for path in ([root] if alone else images_in(root))]


def _case(case_id: str, image: Path, masks: dict[str, Path] | None = None, group: str = "") -> Case:
    mask_paths = {key: str(path) for key, path in (masks or {}).items()}
    return {"case_id": case_id, "image": str(image), **mask_paths, "group": group}


def _from_folders(root: Path, require_labels: bool, problems: list[str]) -> list[Case]:
    images = images_in(root / IMAGE_FOLDER)
    names = [case_name(path) for path in images]
    is_wanted = {"label": require_labels, "lung": (root / MASK_FOLDERS["lung"]).is_dir()}
    masks = {
        key: files_by_case(root / folder, names, problems) for key, folder in MASK_FOLDERS.items() if is_wanted[key]
    }
    return [
        _case(name, image, {key: files[name] for key, files in masks.items() if name in files})
        for name, image in zip(names, images, strict=True)
    ]


def _from_datalist(path: Path, require_labels: bool, problems: list[str]) -> list[Case]:
    cases = []
    for number, entry in enumerate(_entries(path), start=1):
        try:
            cases.append(_from_entry(entry, path.parent, require_labels))
        except ValueError as error:
            problems.append(f"entry {number}: {error}")
    has_lung = Counter("lung" in case for case in cases)
    if len(has_lung) == 2:
        problems.append(f"{has_lung[False]} of {len(cases)} entries have no 'lung'. Add it to all entries or to none")
    return cases


def _entries(path: Path) -> list[Any]:
    content = datalist_content(path)
    entries = content.get("cases", content.get("training")) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(
            f"Datalist {path} has no list of cases. "
            'Expected {"cases": [{"image": ..., "label": ...}, ...]}, or "training" instead of "cases".'
        )
    return entries


def _from_entry(entry: Any, folder: Path, require_labels: bool) -> Case:
    if not isinstance(entry, dict):
        raise ValueError(f"is {json.dumps(entry)[:40]}. Expected an object with 'image' and 'label'")
    wanted = ("image", "label") if require_labels else ("image",)
    missing = [key for key in wanted if not entry.get(key)]
    if missing:
        raise ValueError(f"has no {' and no '.join(repr(key) for key in missing)}")
    image, *_ = paths = [path_inside(folder, entry[key]) for key in wanted]
    masks = dict(zip(wanted[1:], paths[1:], strict=True))
    if entry.get("lung"):
        masks["lung"] = path_inside(folder, entry["lung"])
    case_id, group = (None if entry.get(key) is None else str(entry[key]) for key in ("case_id", "group"))
    return {
        **_case(case_name(image) if case_id is None else case_id, image, masks, group or ""),
        **synthetic_mark(entry),
    }
