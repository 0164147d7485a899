"""The scans of a data set with what is known of them, and the datalists of those that have masks."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_components.datalists.case_files import existing_root, natural_key
from custom_components.datalists.case_problems import problem_report, shorten
from custom_components.datalists.datalist_file import DATALIST_NAME, datalist_file, write_datalist
from custom_components.datalists.label_table import read_label_table
from custom_components.datalists.scans import MASK_FOLDERS, PATH_KEYS, Scan, list_images
from custom_components.datasets.datalist import check_labelled, write_measured
from custom_components.diagnosis.queue import scan_sources
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.files.atomic import absolute_path
from custom_components.infection_size import NORMAL, NORMAL_CLASS, THREE_CLASSES, scan_group
from custom_components.masks.case_masks import CaseMasks, masks_folder

OTHERS_NAME = "other_cases.json"
# Entries of a datalist that depend on the masks.
COMPUTED = (*MASK_FOLDERS, "ratio", "group")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSet:
    """The scans of a data set.

    Args:
        sources: the scans; those of a datalist have its case ids.
        known: what is known of a case besides its masks, by case id: the columns of the datalist and of the table of
            labels.
    """

    sources: Sequence[ScanSource]
    known: Mapping[str, Scan] = field(default_factory=dict)


@dataclass(frozen=True)
class Lists:
    """Datalists that were written.

    Args:
        training: the scans of COVID-19 and CAP, and normal ones if they are a class; None without any, or if they
            cannot be split into folds.
        others: the other scans; None without any.
        problem: why there is no list for training although there are labels; empty if there is one.
    """

    training: Path | None = None
    others: Path | None = None
    problem: str = ""


def find_scans(data: str | Path, labels: str | Path, num_folds: int, normals: bool = False) -> DataSet:
    """List the scans of a data set, and check before any is read that its labelled cases can be split into folds.

    Args:
        data: a datalist or its folder; otherwise a scan or a folder of scans, as for :func:`scan_sources`.
        labels: CSV with ``case_id``, ``label`` and optionally ``patient_id`` and ``fold``; empty for none.
        num_folds: number of folds, unless given.
        normals: whether normal scans are a class, for a training with three classes.

    Returns:
        The scans.

    Raises:
        ValueError: when there is no scan, datalist or table have problems, or the labels do not allow these folds.
    """
    root = existing_root(data)
    cases = list_images(root) if datalist_file(root) else []
    known = {case["case_id"]: {key: case[key] for key in case if key not in COMPUTED} for case in cases}
    masked = [case["case_id"] for case in cases if any(key in case for key in MASK_FOLDERS)]
    if masked:
        _logger.warning(
            "%d cases have masks already: %s. The new datalist has the new masks; the old files are not changed.",
            len(masked), shorten(masked),
        )  # fmt: skip
    for row in _rows(labels):
        known[row["case_id"]] = {"patient_id": row["case_id"], **known.get(row["case_id"], {}), **row}
    if normals:
        known = {name: _as_class(case) for name, case in known.items()}
    labelled = [case for case in known.values() if is_labelled(case)]
    if labelled:
        check_labelled(labelled, num_folds)
    sources = [ScanSource(Path(case["image"]), name=case["case_id"]) for case in cases] or scan_sources(root)
    return DataSet(sources, known)


def _rows(labels: str | Path) -> list[Scan]:
    """Rows of a table of labels, without the paths of files."""
    if not labels:
        return []
    problems: list[str] = []
    path = absolute_path(labels)
    table = read_label_table(path, problems)
    if problems:
        raise ValueError(problem_report(path, problems))
    unknown = () if "patient_id" in table.columns else ("patient_id",)
    return [{key: value for key, value in row.items() if key not in (*PATH_KEYS, *unknown)} for row in table.cases]


def is_labelled(case: Mapping[str, Any]) -> bool:
    """Whether a case has one of the classes of the classifier.

    Example:
        >>> is_labelled({"label": 0}), is_labelled({"label": "normal"}), is_labelled({})
        (True, False, False)
    """
    return case.get("label") in THREE_CLASSES


def _as_class(case: Scan) -> Scan:
    return {**case, "label": NORMAL_CLASS} if case.get("label") == NORMAL else case


def write_lists(
    folder: Path, cases: Sequence[CaseMasks], images: Mapping[str, Path], data_set: DataSet, num_folds: int, seed: int
) -> Lists:
    """Write the datalist for training, and that of the cases which a training cannot use.

    Args:
        folder: folder of the lists.
        cases: the cases with masks, which are in ``folder/masks``.
        images: the given file or folder of each scan by case id.
        data_set: what is known of the cases.
        num_folds: number of folds, unless given.
        seed: random seed of the folds.

    Returns:
        The lists.
    """
    entries = [
        _entry(case, images[case.case_id], folder, data_set.known.get(case.case_id, {}))
        for case in sorted(cases, key=lambda case: natural_key(case.case_id))
    ]
    found = {entry["case_id"] for entry in entries}
    missing = [name for name, case in data_set.known.items() if is_labelled(case) and name not in found]
    if missing:
        _logger.warning("%d labelled cases have no masks: %s. They are not listed.", len(missing), shorten(missing))
    labelled, others = ([one for one in entries if is_labelled(one) == wanted] for wanted in (True, False))
    training, problem = None, ""
    if labelled:
        try:
            training = write_measured(labelled, folder / DATALIST_NAME, num_folds, seed)
        except ValueError as error:
            problem = str(error)
    return Lists(training, _write_others(folder / OTHERS_NAME, others), problem)


def _entry(case: CaseMasks, given: Path, folder: Path, known: Scan) -> Scan:
    paths = {key: str(path) for key, path in case.paths(masks_folder(folder) / case.case_id).items()}
    measured = {"image": str(given / case.image), **paths, "ratio": case.ratio}
    entry = {"case_id": case.case_id, "patient_id": case.case_id, **known, **measured}
    return {**entry, "group": scan_group(entry["label"], case.ratio)} if is_labelled(entry) else entry


def _write_others(path: Path, entries: Sequence[Scan]) -> Path | None:
    if not entries:
        path.unlink(missing_ok=True)
        return None
    write_datalist(entries, path, PATH_KEYS)
    labels = Counter(entry.get("label", "none") for entry in entries)
    _logger.info(
        "Wrote %s: %d cases whose label is neither covid nor cap (%s): %s. A training's datalist leaves them out.",
        path, len(entries), ", ".join(labels), shorten([entry["case_id"] for entry in entries]),
    )  # fmt: skip
    return path
