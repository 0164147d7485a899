"""Build and check the classifier's datalist."""

import logging
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.datalists.case_files import IMAGE_FOLDER, existing_root, files_by_case, natural_key
from custom_components.datalists.case_problems import id_problems, problem_report, shared_image_problems, shorten
from custom_components.datalists.datalist_file import DATALIST_NAME, new_datalist, write_datalist
from custom_components.datalists.folds import assign_folds, check_folds, check_patients, patient_problems
from custom_components.datalists.label_table import read_label_table
from custom_components.datalists.scans import MASK_FOLDERS, PATH_KEYS, Scan, list_scans, scan_problems, scans_in_folders
from custom_components.datasets.conversion import load_volume
from custom_components.files.atomic import absolute_path
from custom_components.images.ct_reader import CTReader, LabelReader
from custom_components.infection_size import CLASS_NAMES, COVID, THREE_CLASSES, groups_of, size_group
from custom_components.transforms.align_masks import AlignMasksd
from custom_components.transforms.checks.scan import CheckScand
from custom_components.transforms.infection_ratio import infection_ratio
from tqdm import tqdm

TABLE_NAME = "labels.csv"
PROGRESS_FROM = 20
FIRST_KEYS = ("case_id", "patient_id", *PATH_KEYS, "label", "fold", "ratio", "group")

LAYOUTS = (
    f"Expected {IMAGE_FOLDER}/, lungs/, infections/ (NIfTI of the same names; images also as DICOM folders) and "
    f"{TABLE_NAME} with the columns case_id and label, or the folders covid/ and cap/, each with these three folders"
)

_logger = logging.getLogger(__name__)

# Allowed difference between a stored ratio and that of the masks: four decimals are enough.
RATIO_TOLERANCE = 1e-4


def build_datalist(
    dataset_dir: str | Path, output: str | Path = "", labels: str | Path = "", num_folds: int = 5, seed: int = 0
) -> Path:
    """Create the datalist of a data set: check all scans and masks, measure infections, assign folds.

    The data set is one of

    - a folder with ``images/`` (NIfTI files, or one folder of DICOM files per case), ``lungs/``, ``infections/``
      (NIfTI masks of 0 and 1, or 0 and 255, with the same names) and ``labels.csv`` with the columns ``case_id``,
      ``label`` (``covid`` or ``cap``) and optionally ``patient_id``, ``fold``, ``image``, ``lung``, ``infection``
      (paths relative to the table) and others, which are kept;
    - a folder with ``covid/`` and ``cap/``, each with ``images/``, ``lungs/`` and ``infections/``.

    Args:
        dataset_dir: one of the above.
        output: JSON file to write, must not exist; default: ``datalist.json`` in the data set.
        labels: the table, if it is in another place.
        num_folds: folds of cross-validation, unless the table has them; 1 for evaluation only.
        seed: random seed of the folds.

    Returns:
        The datalist.

    Raises:
        ValueError: listing the problems of all scans together.
    """
    root = existing_root(dataset_dir)
    target = new_datalist(output or root / DATALIST_NAME)
    problems: list[str] = []
    table = _table(root, labels)
    cases = _from_table(root, table, problems) if table else _from_class_folders(root, problems)
    return complete_datalist(root, cases, target, num_folds, seed, problems)


def complete_datalist(
    root: Path, cases: Sequence[Scan], target: Path, num_folds: int, seed: int, problems: Sequence[str]
) -> Path:
    """Check and measure labelled cases, assign folds unless given, and write the datalist.

    Args:
        root: the data set, for messages.
        cases: ``case_id``, ``patient_id``, ``label`` (1 or 0), the paths that were found, and any other keys.
        target: file to write.
        num_folds: number of folds.
        seed: random seed of the folds.
        problems: problems found so far.

    Returns:
        ``target``.

    Raises:
        ValueError: listing all problems together.
    """
    ordered = sorted(cases, key=lambda case: natural_key(case["case_id"]))
    given = any("fold" in case for case in ordered)
    found = [*problems, *id_problems(case["case_id"] for case in ordered), *shared_image_problems(ordered)]
    found += patient_problems(ordered) if given else []
    if ordered and not found:  # before the scans are read, which may take hours
        check_labelled(ordered, num_folds)
    progress = tqdm(ordered, "scans", disable=True if len(ordered) < PROGRESS_FROM else None, unit="case")
    measured = [_measured(case, found) for case in progress]
    if found:
        raise ValueError(problem_report(root, found))
    if not measured:
        raise ValueError(f"Data set {root} has no cases. {LAYOUTS}.")
    return write_measured(measured, target, num_folds, seed)


def check_labelled(cases: Sequence[Scan], num_folds: int) -> None:
    """Check, before scans are read, that labelled cases can be split into folds.

    Args:
        cases: ``patient_id``, ``label`` (1 or 0) and, if given, ``fold`` of each case.
        num_folds: number of folds, unless given.

    Raises:
        ValueError: when a class has too few patients, a fold would have only one class, or some cases have no fold.
    """
    without = [case["case_id"] for case in cases if "fold" not in case]
    if not without:
        check_folds(cases, [case["fold"] for case in cases])
        return
    if len(without) < len(cases):
        raise ValueError(
            f"{len(without)} of {len(cases)} labelled cases have no fold: {shorten(without)}. Give all a fold, or none."
        )
    check_patients(cases, num_folds)


def write_measured(cases: Sequence[Scan], target: Path, num_folds: int, seed: int) -> Path:
    """Assign folds unless given, and write the datalist of measured cases.

    Args:
        cases: as for :func:`complete_datalist`, with ``ratio`` and ``group``; all or none with ``fold``.
        target: file to write.
        num_folds: number of folds.
        seed: random seed of the folds.

    Returns:
        ``target``.

    Raises:
        ValueError: when a class has too few patients, or a fold would have only one class.
    """
    check_labelled(cases, num_folds)
    given = all("fold" in case for case in cases)
    folds = [case["fold"] for case in cases] if given else assign_folds(cases, num_folds, seed)
    entries = [{**case, "fold": fold} for case, fold in zip(cases, folds, strict=True)]
    write_datalist([_entry(case) for case in entries], target, PATH_KEYS)
    _log(entries, target)
    return target


def _table(root: Path, labels: str | Path) -> Path | None:
    if labels:
        return absolute_path(labels)
    return root / TABLE_NAME if (root / TABLE_NAME).is_file() else None


def _from_table(root: Path, path: Path, problems: list[str]) -> list[Scan]:
    """Rows of the table; missing paths are filled with the files named after the case id."""
    table = read_label_table(path, problems)
    files = {
        key: files_by_case(root / folder, table.case_ids, problems, table.name, "a row", "a file")
        for key, folder in {"image": IMAGE_FOLDER, **MASK_FOLDERS}.items()
        if key not in table.columns
    }
    return [
        {**case, **{key: str(found[case["case_id"]]) for key, found in files.items() if case["case_id"] in found}}
        for case in table.cases
    ]


def _from_class_folders(root: Path, problems: list[str]) -> list[Scan]:
    if not all((root / name / IMAGE_FOLDER).is_dir() for name in CLASS_NAMES.values()):
        folders = " and ".join(f"{name}/{IMAGE_FOLDER}/" for name in CLASS_NAMES.values())
        raise ValueError(f"Data set {root} has neither {TABLE_NAME} nor {folders}. {LAYOUTS}.")
    cases = []
    for label, name in CLASS_NAMES.items():
        own: list[str] = []
        found = scans_in_folders(root / name, tuple(MASK_FOLDERS), own)
        cases += [{**case, "patient_id": case["case_id"], "label": label} for case in found]
        problems += [f"{name}/: {problem}" for problem in own]
    return cases


def _measured(case: Scan, problems: list[str]) -> Scan:
    """Add ratio and group to a case; a bad case becomes a problem and stays without them."""
    if any(key not in case for key in PATH_KEYS):
        return case  # already reported with all other missing files
    own = scan_problems(case)
    problems += own
    if own:
        return case
    try:
        ratio = checked_ratio(case)
    except ValueError as error:
        problems.append(str(error))
        return case
    return {**case, "ratio": ratio, "group": size_group(case["label"], ratio)}


def checked_ratio(case: Scan) -> float:
    """Read a case's CT and masks, check that they are what training needs, and measure the infection.

    Args:
        case: ``case_id`` and the paths ``image``, ``lung``, ``infection``.

    Returns:
        Infection volume / lung volume.

    Raises:
        ValueError: names the case when a file cannot be read or fails ``CheckScand``.
    """
    readers = {"image": CTReader(), "lung": LabelReader(), "infection": LabelReader()}
    volumes = {key: load_volume(case[key], reader) for key, reader in readers.items()}
    item: dict[Hashable, Any] = {"case_id": case["case_id"]}
    item = CheckScand()(AlignMasksd(tuple(MASK_FOLDERS))(item | volumes))
    return infection_ratio(item["infection"], item["lung"], case["case_id"])


def _entry(case: Scan) -> Scan:
    named = {**case, "label": THREE_CLASSES[case["label"]]}
    return {key: named[key] for key in (*FIRST_KEYS, *(key for key in named if key not in FIRST_KEYS))}


def _log(cases: Sequence[Scan], target: Path) -> None:
    _logger.info("Wrote %s:\n%s", target, fold_counts(cases))
    empty = [case["case_id"] for case in cases if case["label"] == COVID and case["ratio"] == 0]
    if empty:
        _logger.warning(
            "%d COVID-19 cases have an empty infection mask: %s. Check that they were segmented.",
            len(empty),
            shorten(empty),
        )


def fold_counts(cases: Sequence[Scan]) -> str:
    """Scans by fold and size group as text, with the number of patients.

    Example:
        >>> print(fold_counts([{"patient_id": "a", "label": 1, "fold": 0, "group": "covid_large"}]))
        fold  patients  scans  covid_small  covid_large  cap_small  cap_large
           0         1      1            0            1          0          0
         all         1      1            0            1          0          0
    """
    known = groups_of({case["label"] for case in cases})
    heads = ("fold", "patients", "scans", *known)
    folds = sorted({case["fold"] for case in cases})
    rows = [(str(fold), [case for case in cases if case["fold"] == fold]) for fold in folds]
    lines = ["  ".join(heads)]
    for name, own in [*rows, ("all", list(cases))]:
        groups = Counter(case["group"] for case in own)
        values = (name, len({case["patient_id"] for case in own}), len(own), *(groups[group] for group in known))
        lines.append("  ".join(f"{value:>{len(head)}}" for head, value in zip(heads, values, strict=True)))
    return "\n".join(lines)


def check_datalist(dataset_dir: str | Path, normals: bool = False) -> None:
    """Check every voxel of a datalist's scans before a training, for old datalists and those of other sources.

    A training checks the datalist and all headers before it starts, but voxels only when a scan is first loaded. This
    command checks both: lungs not empty, infection inside them, HU, NaN, and whether the listed ratio matches the
    masks. Nothing is written.

    Args:
        dataset_dir: a datalist JSON, or its folder.
        normals: accept normal scans, for a training with three classes.

    Raises:
        ValueError: listing the problems of all scans together.
    """
    scans = list_scans(dataset_dir, normals=normals)
    progress = tqdm(scans, "scans", disable=True if len(scans) < PROGRESS_FROM else None, unit="case")
    problems = [problem for problem in map(_problem, progress) if problem]
    if problems:
        raise ValueError(problem_report(Path(dataset_dir), problems))
    _logger.info("All scans of %s can be used:\n%s", dataset_dir, fold_counts(scans))


def _problem(scan: Mapping[str, Any]) -> str:
    """Problem of a scan; empty when there is none."""
    try:
        ratio = checked_ratio(dict(scan))
    except ValueError as error:
        return str(error)
    if abs(ratio - scan["ratio"]) > RATIO_TOLERANCE:
        return (
            f"Case {scan['case_id']}: ratio is {scan['ratio']:.4f} but that of the masks is {ratio:.4f}. Expected at "
            f"most {RATIO_TOLERANCE:g} between them. Correct it, or rebuild the datalist with build_datalist"
        )
    return ""
