"""Validation scores that leave a site, and scores of several sites together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from custom_components.metrics.lesion_scores import mean_lesion_dice
from custom_components.study.statistics.bootstrap import bootstrap_interval
from custom_components.study.statistics.case_statistics import CASE_STATISTICS
from custom_components.study.tables.table import Table, interval_of, table_frame
from monai.handlers import IgniteMetricHandler
from monai.metrics import compute_roc_auc, do_metric_reduction
from scipy.special import expit

AUC, LESION_DICE, MASK_DICE = "auc", "lesion_dice", "mask_dice"
TITLES = {AUC: "AUC", LESION_DICE: "Mean lesion Dice", MASK_DICE: "Mean Dice of lungs and infection"}
POOLED = "all sites"

# What a site sends of its scores: ``kind``, ``values`` (a row of numbers per case) and ``patients`` (codes).
SiteScores = Mapping[str, Any]


def site_scores(handler: IgniteMetricHandler, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores of a finished evaluation as plain numbers, without any name.

    Args:
        handler: key metric of the evaluator that was run; its metric has a buffer with the values of each case.
        cases: the cases in the order of the evaluation; their patients become the codes 0, 1, ..., by first appearance.

    Returns:
        ``kind``; ``values``, a row per case: logit and label (AUC), the 16 pixel counts of ``LesionScores``, or the
        Dice of lungs and infection; ``patients``, the code of each case's patient, known to this message only.

    Raises:
        ValueError: when a case has no score.
    """
    details = handler.metric_fn.get_buffer()
    if isinstance(details, Sequence):
        kind, values = AUC, torch.cat([part.reshape(len(part), -1) for part in details], dim=1)
    elif details.ndim == 3:
        kind, values = LESION_DICE, details.flatten(start_dim=1)
    else:
        kind, values = MASK_DICE, details
    if len(values) != len(cases):
        raise ValueError(f"{len(values)} scores of {len(cases)} cases. Expected one score for each case.")
    patients = [str(case.get("patient_id") or case.get("group") or number) for number, case in enumerate(cases)]
    codes = {name: code for code, name in enumerate(dict.fromkeys(patients))}
    return {"kind": kind, "values": values.double().tolist(), "patients": [codes[name] for name in patients]}


def pooled_score(scores: Sequence[SiteScores]) -> float:
    """The score of all sites' cases as if they were in one place; NaN if nothing can be scored.

    Args:
        scores: from :func:`site_scores`, of one kind; sites without cases do not count.

    Raises:
        ValueError: when the sites have scores of different kinds.

    Example:
        >>> first = {"kind": "auc", "values": [[2.0, 1.0]], "patients": [0]}
        >>> pooled_score([first, {"kind": "auc", "values": [[-1.0, 0.0], [3.0, 0.0]], "patients": [0, 1]}])
        0.5
    """
    known = [one for one in scores if len(one["values"])]
    if len(kinds := {one["kind"] for one in known}) > 1:
        raise ValueError(f"The sites have scores of different kinds: {', '.join(sorted(kinds))}. Use one config.")
    return _SCORES[known[0]["kind"]](np.concatenate([one["values"] for one in known])) if known else float("nan")


def _auc(values: np.ndarray) -> float:
    scores, labels = torch.tensor(values).chunk(2, dim=1)
    known = ~torch.isnan(scores[:, 0])
    if len(scores[known].unique(dim=0)) == 0 or any(len(column.unique()) < 2 for column in labels[known].T):
        return float("nan")
    return float(np.mean(np.asarray(compute_roc_auc(scores[known], labels[known]))))


def _lesion_dice(values: np.ndarray) -> float:
    return float(mean_lesion_dice(torch.tensor(values).reshape(-1, 4, 4)))


def _mask_dice(values: np.ndarray) -> float:
    return float(do_metric_reduction(torch.tensor(values), "mean")[0])


_SCORES: dict[str, Callable[[np.ndarray], float]] = {AUC: _auc, LESION_DICE: _lesion_dice, MASK_DICE: _mask_dice}


def site_score_table(scores: Mapping[str, SiteScores], protocol: str, name: str = "sites") -> Table:
    """Score of each site and of all together, with 95 % bootstrap intervals by patient.

    Args:
        scores: from :func:`site_scores`, by site.
        protocol: which model and which cases, for the note.
        name: file name of the table.
    """
    kind = next(one["kind"] for one in scores.values())
    cases = pd.concat([_cases(site, one) for site, one in scores.items()], ignore_index=True)
    rows = {site: _row(cases[cases["site"] == site], kind) for site in scores}
    if len(scores) > 1:
        rows[POOLED] = _row(cases, kind)
    note = f"{protocol} Bootstrap by patient, 2000 resamples, 95 % intervals."
    return Table(name, f"{TITLES[kind]} at each site", note, table_frame(rows, ["site"]))


def _cases(site: str, scores: SiteScores) -> pd.DataFrame:
    values = pd.DataFrame(np.array(scores["values"]))
    if scores["kind"] == AUC and len(values.columns) == 2:
        values = values.assign(probability=expit(values[0]), label=values[1].astype(int))
    return values.assign(site=site, patient_id=[f"{site} {code}" for code in scores["patients"]])


def _row(cases: pd.DataFrame, kind: str) -> dict[str, object]:
    numbers = [column for column in cases.columns if isinstance(column, int)]
    whole = CASE_STATISTICS[AUC] if "probability" in cases else lambda frame: _SCORES[kind](frame[numbers].to_numpy())
    found = bootstrap_interval(cases, whole)
    patients = cases["patient_id"].nunique()
    cell = interval_of(found, patients, len(cases))
    return {"cases": len(cases), "patients": patients, TITLES[kind]: cell}
