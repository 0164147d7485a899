"""Data set of a study: cases, additional datalist columns and fingerprint."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.datalists.case_files import PHANTOM, existing_root
from custom_components.datalists.datalist_file import datalist_content, datalist_file, path_inside
from custom_components.datalists.scans import PATH_KEYS as SCAN_PATHS
from custom_components.datalists.scans import list_scans
from custom_components.datalists.slices import list_cases
from custom_components.datalists.split import PATH_KEYS as SLICE_PATHS
from custom_components.datasets.slice_labels import SLICE_LABELS, read_slice_table
from custom_components.labels import SYNTHETIC
from custom_components.phantom import phantom_dataset, phantom_scan_dataset
from custom_components.study.runs.fingerprints import DataFingerprint, fingerprint

# Datalist columns are shown in tables, except these, which can identify a person.
IDENTITY = frozenset(
    ("name", "patientname", "patientid", "birthdate", "patientbirthdate", "dateofbirth", "mrn", "accessionnumber")
)


@dataclass(frozen=True)
class Hashes:
    """How the files of a data set are hashed.

    Args:
        known: file that caches the hashes of the data files; None disables the cache.
        keep: whether new hashes are stored in ``known``.
        needed: whether the files are hashed at all; False if no run can have finished with them.
    """

    known: Path | None = None
    keep: bool = True
    needed: bool = True


@dataclass(frozen=True)
class StudyData:
    """Cases that a study reads.

    Args:
        root: the data set: a folder or a datalist.
        cases: cases from ``list_scans`` or ``list_cases``.
        further: other columns of the datalist, one mapping per case.
        path_keys: entries of a case that are files or folders.
        hashes: how the files are hashed.
        slice_labels: by case, labels of its slices and lobes, uint8 (slices, 1 + lobes), slices from the head; empty
            for most data sets. They score finished runs, so that they are not part of the fingerprint.
    """

    root: Path
    cases: Sequence[Mapping[str, Any]]
    further: Sequence[Mapping[str, Any]]
    path_keys: Sequence[str]
    hashes: Hashes
    slice_labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> DataFingerprint:
        """Fingerprint of the cases and their files; the files are read at first access."""
        if not self.hashes.needed:
            return DataFingerprint("", len(self.cases), 0, 0)
        return fingerprint(self.cases, self.path_keys, self.hashes.known, self.hashes.keep)


def scan_data(dataset_dir: str | Path, hashes: Hashes | None = None) -> StudyData:
    """The labelled scans of covid_cap_bundle, as ``list_scans`` takes them."""
    root = Path(phantom_scan_dataset()) if str(dataset_dir) == PHANTOM else existing_root(dataset_dir)
    scans = list_scans(root)
    further = further_columns(root, scans, (*SCAN_PATHS, "case_id", "label", "fold", "ratio", "group", SLICE_LABELS))
    return StudyData(root.absolute(), scans, further, SCAN_PATHS, hashes or Hashes(), _slice_labels(root, scans))


def slice_data(dataset_dir: str | Path, hashes: Hashes | None = None) -> StudyData:
    """The cases of covid_seg_bundle with masks, as ``list_cases`` takes them."""
    root = Path(phantom_dataset()) if str(dataset_dir) == PHANTOM else existing_root(dataset_dir)
    cases = list_cases(root)
    further = further_columns(root, cases, (*SLICE_PATHS, "case_id", "group"))
    return StudyData(root.absolute(), cases, further, SLICE_PATHS, hashes or Hashes())


def further_columns(root: Path, cases: Sequence[Any], own: Sequence[str]) -> list[dict[str, Any]]:
    """Additional datalist columns of each case: not read by the bundles and not identifying the patient.

    Args:
        root: folder or datalist of the data set.
        cases: listed cases.
        own: columns that the bundles read.

    Returns:
        One mapping per case, empty without a datalist. Lists and objects are converted to JSON text.
    """
    path = datalist_file(root)
    if path is None:
        return [{} for _ in cases]
    entries = _entries(path)
    hidden = {_letters(key) for key in (*own, SYNTHETIC)} | IDENTITY
    return [{key: _plain(value) for key, value in entry.items() if _letters(key) not in hidden} for entry in entries]


def _slice_labels(root: Path, scans: Sequence[Any]) -> dict[str, np.ndarray]:
    path = datalist_file(root)
    if path is None:
        return {}
    listed = zip(scans, _entries(path), strict=True)
    names = {scan["case_id"]: entry[SLICE_LABELS] for scan, entry in listed if entry.get(SLICE_LABELS)}
    return {case_id: _labels_of(case_id, path.parent, name) for case_id, name in names.items()}


def _labels_of(case_id: str, folder: Path, name: Any) -> np.ndarray:
    try:
        return read_slice_table(path_inside(folder, name))
    except ValueError as error:
        remedy = f"Correct it, or remove {SLICE_LABELS} from the datalist."
        raise ValueError(f"Case {case_id}: {SLICE_LABELS} {error} {remedy}") from error


def _entries(path: Path) -> list[dict[str, Any]]:
    content = datalist_content(path)
    found: list[dict[str, Any]] = content.get("cases", content.get("training"))
    return found


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _letters(column: str) -> str:
    return re.sub(r"[^a-z]", "", column.lower())
