"""The public data set COVID-CT-MD (Afshar et al., Sci Data 2021) as a datalist."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from custom_components.datalists.case_files import existing_root, files_by_case, natural_key
from custom_components.datalists.case_problems import id_problems, problem_report
from custom_components.datalists.datalist_file import new_datalist, write_datalist
from custom_components.datalists.scans import MASK_FOLDERS, PATH_KEYS, Scan, scan_problems
from custom_components.datasets.datalist import PROGRESS_FROM, complete_datalist
from custom_components.infection_size import CAP, CLASS_NAMES, COVID
from tqdm import tqdm

CLASS_FOLDERS = ("covid-19 cases", "cap cases")
PATIENT_FOLDERS = {COVID: re.compile(r"P\d+"), CAP: re.compile(r"cap\d+", re.IGNORECASE)}

_logger = logging.getLogger(__name__)


def convert_covid_ct_md(
    dataset_dir: str | Path,
    output: str | Path,
    lung_masks: str | Path = "",
    infection_masks: str | Path = "",
    num_folds: int = 5,
    seed: int = 0,
) -> Path:
    """Create a datalist for COVID-CT-MD as published: ``COVID-19 Cases/P001``, ``Cap Cases/cap001``, DICOM series.

    The class is read from the folder name. ``Normal Cases`` are ignored; the patient folders may also be directly in
    ``dataset_dir``. The published set has no masks. With both kinds of masks, the datalist can be used for training and
    has ratios and folds as from ``build_datalist``; otherwise only for inference.

    Args:
        dataset_dir: the unpacked data set.
        output: JSON file to write; must not exist.
        lung_masks: folder of lung masks on the scans' own grids, ``P001.nii.gz`` ..., one for each scan.
        infection_masks: folder of infection masks, in the same way.
        num_folds: folds of cross-validation, if used for training.
        seed: random seed of the folds.

    Returns:
        The datalist; its image paths are the DICOM folders.

    Raises:
        ValueError: when there are no such folders, or series or masks cannot be used (lists all).
    """
    root = existing_root(dataset_dir)
    target = new_datalist(output)
    cases = _series_folders(root)
    problems = id_problems(case["case_id"] for case in cases)
    cases = _with_masks(cases, {"lung": lung_masks, "infection": infection_masks}, problems)
    if lung_masks and infection_masks:
        return complete_datalist(root, cases, target, num_folds, seed, problems)
    progress = tqdm(cases, "series", disable=True if len(cases) < PROGRESS_FROM else None, unit="case")
    problems += [problem for case in progress for problem in scan_problems(case)]
    if problems:
        raise ValueError(problem_report(root, problems))
    write_datalist([{**case, "label": CLASS_NAMES[case["label"]]} for case in cases], target, PATH_KEYS)
    _logger.info("Wrote %s: %d scans for inference. %s", target, len(cases), _missing(lung_masks, infection_masks))
    return target


def _series_folders(root: Path) -> list[Scan]:
    inner = [folder for folder in root.iterdir() if folder.name.lower() in CLASS_FOLDERS and folder.is_dir()]
    folders = [folder for parent in (root, *inner) for folder in parent.iterdir() if folder.is_dir()]
    cases = [
        {"case_id": folder.name, "patient_id": folder.name, "image": str(folder), "label": label}
        for folder in sorted(folders, key=lambda folder: natural_key(folder.name))
        for label, name in PATIENT_FOLDERS.items()
        if name.fullmatch(folder.name)
    ]
    if not cases:
        raise ValueError(
            f"Data set {root} has no patients. Expected the folders 'COVID-19 Cases' and 'Cap Cases' of COVID-CT-MD, "
            "or folders such as P001 and cap001: unpack the archives and give the folder that contains them."
        )
    return cases


def _with_masks(cases: Sequence[Scan], folders: dict[str, str | Path], problems: list[str]) -> list[Scan]:
    names = [case["case_id"] for case in cases]
    masks = {
        key: files_by_case(Path(str(folder)).expanduser().absolute(), names, problems, "the data set", "a series")
        for key, folder in folders.items()
        if folder
    }
    return [
        {**case, **{key: str(found[case["case_id"]]) for key, found in masks.items() if case["case_id"] in found}}
        for case in cases
    ]


def _missing(lung_masks: str | Path, infection_masks: str | Path) -> str:
    given = {"lung": lung_masks, "infection": infection_masks}
    missing = " and ".join(key for key in MASK_FOLDERS if not given[key])
    options = " ".join(f"--{key}_masks FOLDER" for key in MASK_FOLDERS)
    return f"Training needs {missing} masks as well (FOLDER/P001.nii.gz, ...): convert again with {options}"
