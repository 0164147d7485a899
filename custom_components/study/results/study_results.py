"""What a study found, in long tables: what its runs give, and what its tables, figures and report are made of."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

# Cross-validation's own cases, and those of a test set that no fold trained on.
TV, TEST = "tv", "test"


@dataclass(frozen=True)
class FailedRun:
    """A run that did not finish.

    Args:
        name: of the run, such as ``attention_us/fold_2/train``.
        reason: the last line of its error, without names of patients.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class ClassificationResults:
    """Results of a study of ``covid_cap_bundle``.

    Args:
        protocol: how cases were split, checkpoints chosen and the ensemble searched, in words.
        cases: one row a scan: ``set`` (``tv`` or ``test``), ``case_id``, ``patient_id``, ``label`` (1 COVID-19, 0 CAP),
            ``ratio`` (NaN where unknown), ``fold`` (of the datalist; -1 in the test set), and any other column of the
            datalist (site, age, sex), as it is there.
        predictions: one row for each system, scan and model that was applied to it: ``system`` (one of ``systems``),
            ``set``, ``fold`` (of the model: it validated that fold), ``case_id``, ``probability`` of COVID-19 (NaN
            where there is none) and ``attention_dice`` (NaN where there is none). In ``tv`` each scan has one model,
            the one that left it out; in ``test`` each fold's.
        systems: titles of the systems in the order of Table II; the ensemble last.
        ensemble: the search, one row for each ``set`` and ``fold`` that its result was applied to: ``set``, ``fold``,
            ``w_outside``, ``w_inside``, ``low``, ``high`` (Eq. 5 and Sec. III-E), ``auc`` (where it was searched).
        panels: attention figures of single scans (PNG) by their case id, correct ones and failures.
        failed: runs that did not finish.
        is_paper_protocol: whether it is the paper's, under which the report prints the paper's paired t-test too.
    """

    protocol: str
    cases: pd.DataFrame
    predictions: pd.DataFrame
    systems: tuple[str, ...]
    ensemble: pd.DataFrame
    panels: dict[str, Path]
    failed: tuple[FailedRun, ...] = ()
    is_paper_protocol: bool = False


@dataclass(frozen=True)
class SegmentationResults:
    """Results of a study of ``covid_seg_bundle``.

    Args:
        protocols: in words, by their names in ``scores`` (``group``, ``paper``), the one that counts first.
        cases: one row a case: ``case_id``, ``group`` (empty where unknown), and any other column of the datalist.
        scores: one row for each network, protocol, case and lesion class: ``network`` (one of ``networks``),
            ``augmented`` (bool), ``protocol``, ``fold``, ``case_id``, ``lesion`` (``ground_glass``, ...), ``dice``,
            ``precision``, ``accuracy`` (NaN where the class is in neither truth nor prediction), ``pixels_true``,
            ``pixels_pred``.
        networks: titles of the networks in the order of Table II: M, M-A, M-R, U-Net.
        overlays: overlay figures of single cases (PNG) by (network, protocol, case id), of the first way of training.
        failed: runs that did not finish.
        augmentation: whether networks were trained with augmentation, without, or both.
    """

    protocols: dict[str, str]
    cases: pd.DataFrame
    scores: pd.DataFrame
    networks: tuple[str, ...]
    overlays: dict[tuple[str, str, str], Path]
    failed: tuple[FailedRun, ...] = ()
    augmentation: tuple[bool, ...] = (True, False)
