"""List the scans of covid_cap_bundle with their files, labels and folds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from custom_components.datalists.case_files import IMAGE_FOLDER, PHANTOM, existing_root, files_by_case, images_in
from custom_components.datalists.case_problems import (
    case_headers,
    geometry_problems,
    id_problems,
    output_name_problems,
    problem_report,
    shared_image_problems,
)
from custom_components.datalists.datalist_file import datalist_content, datalist_file, path_inside, synthetic_mark
from custom_components.datalists.folds import patient_problems
from custom_components.dicom.series import holds_dicom
from custom_components.images.ct_reader import case_name
from custom_components.infection_size import CLASS_NAMES, NORMAL, THREE_CLASSES, check_ratio, scan_group

# ``case_id``, ``image`` and, if required or available, the other keys of ``list_scans``.
Scan = dict[str, Any]

MASK_FOLDERS = {"lung": "lungs", "infection": "infections"}
PATH_KEYS = ("image", *MASK_FOLDERS)
REQUIRED = (*PATH_KEYS, "label", "fold", "ratio")
SLICE_SUFFIXES = (".png", ".jpg", ".jpeg")
MOST_FOLDS = 10**6
BUILD = "python -m custom_components build_datalist --dataset_dir"

UNLABELLED_LAYOUTS = (
    "Expected a NIfTI file, a DICOM folder, a folder of these, a folder with images/ (and lungs/, infections/), "
    "a datalist JSON, or the word 'phantom'"
)


def list_scans(
    dataset_dir: str | Path | None, labelled: bool = True, check_files: bool = True, normals: bool = False
) -> list[Scan]:
    """List the scans of a data set and check datalist and headers.

    With labels, for training and evaluation, the data set is one of

    - a datalist JSON, or a folder with a ``datalist.json``: ``{"cases": [{"case_id", "patient_id", "image", "lung",
      "infection", "label": "covid" | "cap", "fold", "ratio", "group"}]}``, as ``build_datalist`` writes it, paths
      relative to the JSON;
    - the word ``"phantom"``: the built-in synthetic data set.

    Without labels, for inference, it can also be one NIfTI file, one DICOM folder, a folder of these, or a folder with
    ``images/`` and optional masks of the same names in ``lungs/`` and ``infections/``.
    All problems are reported together.

    Args:
        dataset_dir: one of the above.
        labelled: whether every scan needs masks, label, fold and ratio.
        check_files: whether to read the headers. If False, bad files are found only when they are loaded, so that an
            inference can continue with the other scans.
        normals: whether normal scans are listed too, as a third class (``label`` 2, ``group`` normal); if False, a
            normal scan is an error where labels are required.

    Returns:
        Scans in the order of the JSON or in natural order of the files. With labels: ``case_id``, ``patient_id``,
        ``image``, ``lung``, ``infection`` (absolute paths), ``label`` (1 COVID-19, 0 CAP), ``fold``, ``ratio`` and
        ``group``. Without labels: ``case_id``, ``image`` and, if available, ``lung``, ``infection``, ``ratio`` and
        ``label``. Phantoms have ``synthetic``, which is True.

    Raises:
        ValueError: lists up to ten problems: entries without label or mask, unknown labels, ratios out of range, groups
            that contradict them, patients in two folds, misaligned masks, slices instead of volumes, duplicate case
            ids, an empty data set.
    """
    root = _root(dataset_dir)
    problems: list[str] = []
    scans = _find(root, labelled, problems, normals)
    problems += id_problems(scan["case_id"] for scan in scans) + shared_image_problems(scans)
    problems += patient_problems(scans) if labelled else []
    problems += [] if labelled or problems else output_name_problems(scans)
    problems += [problem for scan in scans for problem in scan_problems(scan, check_files)]
    if problems:
        raise ValueError(problem_report(root, problems))
    if not scans:
        raise ValueError(f"Data set {root} has no scans. {UNLABELLED_LAYOUTS}.")
    return scans


def list_images(dataset_dir: str | Path) -> list[Scan]:
    """List the cases of a datalist that need no masks, labels or folds yet; its images are not read.

    Args:
        dataset_dir: a datalist JSON, or its folder.

    Returns:
        The entries with all their columns: ``case_id``, ``patient_id`` and ``image`` always, paths of files absolute,
        and ``label`` 1 (COVID-19) or 0 (CAP), or the text of another label.

    Raises:
        ValueError: lists up to ten problems: entries without image, invalid folds, patients in two folds, duplicate
            case ids or images; or when there is no datalist or no case.
    """
    root = existing_root(dataset_dir)
    path = datalist_file(root)
    if path is None:
        raise ValueError(f"{root} is not a datalist. Give a JSON file, or the folder of a datalist.json.")
    problems: list[str] = []
    cases = _entries_by(_image_of, path, problems)
    problems += id_problems(case["case_id"] for case in cases) + shared_image_problems(cases)
    problems += patient_problems([case for case in cases if "fold" in case])
    if problems or not cases:
        raise ValueError(problem_report(root, problems or ["it has no cases"]))
    return cases


def scan_problems(scan: Scan, check_files: bool = True) -> list[str]:
    """Problems of one scan's files that are visible in names and headers.

    Args:
        scan: ``case_id``, and the paths ``image`` and, if available, ``lung`` and ``infection``.
        check_files: whether to read the headers.

    Returns:
        Sentences that name the case.
    """
    image = Path(scan["image"])
    expected = "Expected a CT volume: NIfTI (.nii, .nii.gz) or the folder of one DICOM series"
    if image.name.lower().endswith(SLICE_SUFFIXES):
        return [f"Case {scan['case_id']}: {image.name} is a 2D image. {expected}"]
    if not check_files:
        return []
    headers, problems = case_headers(scan, tuple(MASK_FOLDERS), "NIfTI")
    if "image" in headers and 1 in headers["image"].shape:
        size = " x ".join(map(str, headers["image"].shape))
        problems.append(f"Case {scan['case_id']}: {image.name} is one slice ({size}). {expected}")
    return problems + geometry_problems(scan, headers)


def scans_in_folders(root: Path, mask_keys: tuple[str, ...], problems: list[str]) -> list[Scan]:
    """Scans of ``root/images`` with their masks of the same names.

    Args:
        root: folder with ``images/``.
        mask_keys: keys of the wanted masks, of ``lung`` and ``infection``.
        problems: list to which images without mask and masks without image are added.

    Returns:
        ``case_id``, ``image`` and the found masks of each scan, in natural order.
    """
    images = images_in(root / IMAGE_FOLDER)
    names = [case_name(path) for path in images]
    masks = {key: files_by_case(root / MASK_FOLDERS[key], names, problems) for key in mask_keys}
    return [
        {
            "case_id": name,
            "image": str(image),
            **{key: str(found[name]) for key, found in masks.items() if name in found},
        }
        for name, image in zip(names, images, strict=True)
    ]


def class_label(name: Any, normals: bool = False) -> int:
    """Label of a class by its name.

    Args:
        name: ``covid``, ``cap`` or, with ``normals``, ``normal``.
        normals: whether normal scans are a class.

    Raises:
        ValueError: when it is none of them.

    Example:
        >>> class_label("covid"), class_label("CAP ")
        (1, 0)
    """
    labels = {known: label for label, known in (THREE_CLASSES if normals else CLASS_NAMES).items()}
    found = str(name).strip().lower()
    if found == NORMAL and not normals:
        raise ValueError("label is 'normal', but there are two classes. Remove it, or see recipes/three_classes.yaml")
    if found not in labels:
        raise ValueError(f"label is {name!r}. Expected 'covid' (COVID-19) or 'cap' (community-acquired pneumonia)")
    return labels[found]


def fold_number(value: Any) -> int:
    """Check the number of a fold.

    Raises:
        ValueError: when it is not a whole number, negative or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST_FOLDS:
        raise ValueError(f"fold is {repr(value)[:40]}. Expected a whole number, 0 or more")
    return value


def _root(dataset_dir: str | Path | None) -> Path:
    if str(dataset_dir) == PHANTOM:
        from custom_components.phantom import phantom_scan_dataset

        return Path(phantom_scan_dataset()).absolute()
    return existing_root(dataset_dir)


def _find(root: Path, labelled: bool, problems: list[str], normals: bool) -> list[Scan]:
    datalist = datalist_file(root)
    if datalist:
        return _entries_by(partial(_from_entry, labelled=labelled, normals=normals), datalist, problems)
    if labelled:
        raise ValueError(f"Data set {root} has no datalist.json. Create it with: {BUILD} {root}")
    if (root / IMAGE_FOLDER).is_dir():
        mask_keys = tuple(key for key, folder in MASK_FOLDERS.items() if (root / folder).is_dir())
        return scans_in_folders(root, mask_keys, problems)
    alone = root.is_file() or holds_dicom(root)
    return [{"case_id": case_name(path), "image": str(path)} for path in ([root] if alone else images_in(root))]


def _entries_by(read: Callable[[Any, Path], Scan], path: Path, problems: list[str]) -> list[Scan]:
    """What ``read`` makes of each entry of a datalist and its folder; bad entries become problems."""
    scans = []
    for number, entry in enumerate(_entries(path), start=1):
        try:
            scans.append(read(entry, path.parent))
        except ValueError as error:
            named = isinstance(entry, dict) and entry.get("case_id")
            problems.append(f"Case {entry['case_id']}: {error}" if named else f"entry {number}: {error}")
    return scans


def _entries(path: Path) -> list[Any]:
    content = datalist_content(path)
    entries = content.get("cases") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(
            f'Datalist {path} has no list of cases. Expected {{"cases": [...]}}. Create it with: {BUILD} ...'
        )
    return entries


def _image_of(entry: Any, folder: Path) -> Scan:
    names = _named(entry, folder, ("image",))
    given = {key: _absolute_file(value, folder) for key, value in entry.items() if value not in (None, "")}
    case = {**given, **names, "patient_id": str(given.get("patient_id", names["case_id"])), **synthetic_mark(entry)}
    if "fold" in given:
        fold_number(given["fold"])
    if "label" in given:
        case["label"] = str(given["label"])  # a number would count as one of the two classes
        with suppress(ValueError):
            case["label"] = class_label(given["label"])
    return case


def _absolute_file(value: Any, folder: Path) -> Any:
    """A value of another column; absolute if it is the relative path of a file, which a new datalist would lose."""
    is_file = isinstance(value, str) and "/" in value and path_inside(folder, value).is_file()
    return str(folder / value) if is_file else value


def _named(entry: Any, folder: Path, required: Sequence[str], hint: str = "") -> Scan:
    """Case id and absolute paths of an entry, after a check that it has the required keys."""
    if not isinstance(entry, dict):
        raise ValueError(f"is {json.dumps(entry)[:40]}. Expected an object with 'image', masks and 'label'")
    missing = [key for key in required if entry.get(key) in (None, "")]
    if missing:
        raise ValueError(f"has no {' and no '.join(repr(key) for key in missing)}{hint}")
    paths = {key: str(path_inside(folder, entry[key])) for key in PATH_KEYS if entry.get(key) not in (None, "")}
    case_id = case_name(paths["image"]) if entry.get("case_id") is None else str(entry["case_id"])
    return {"case_id": case_id, **paths}


def _from_entry(entry: Any, folder: Path, labelled: bool, normals: bool = False) -> Scan:
    hint = f". Create the datalist with: {BUILD} ..." if labelled else ""
    names = _named(entry, folder, REQUIRED if labelled else ("image",), hint)
    known = _known(entry, labelled, normals)
    if not labelled:
        return {**names, **known}
    return {
        "patient_id": names["case_id"] if entry.get("patient_id") in (None, "") else str(entry["patient_id"]),
        **names,
        **known,
        "fold": fold_number(entry["fold"]),
        "group": _group(entry, known["label"], known["ratio"]),
    }


def _known(entry: dict[str, Any], labelled: bool, normals: bool) -> Scan:
    """Label and ratio of an entry, if available, and whether it is synthetic.

    A normal scan has no label, unless normal scans are a class, and is an error where one is required.
    """
    known: Scan = synthetic_mark(entry)
    if entry.get("label") not in (None, "") and (labelled or entry["label"] != NORMAL):
        known["label"] = class_label(entry["label"], normals)
    ratio = entry.get("ratio")
    if ratio is not None:
        if isinstance(ratio, bool) or not isinstance(ratio, int | float):
            raise ValueError(
                f"ratio is {repr(ratio)[:40]}. Expected infection volume / lung volume, a number from 0 to 1"
            )
        check_ratio(ratio)
        known["ratio"] = float(ratio)
    return known


def _group(entry: dict[str, Any], label: int, ratio: float) -> str:
    group = scan_group(label, ratio)
    if entry.get("group") not in (None, "", group):
        raise ValueError(
            f"group is {entry['group']!r} but {THREE_CLASSES[label]} of ratio {ratio:g} is {group}. "
            "Correct one of them, or remove the group"
        )
    return group
