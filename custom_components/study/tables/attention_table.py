"""How well the attention of a study's systems covers the infection."""

import pandas as pd
from custom_components.infection_size import COVID
from custom_components.study.results.predicted_scans import of_system, sets_of
from custom_components.study.results.study_results import ClassificationResults
from custom_components.study.statistics.bootstrap import bootstrap_interval
from custom_components.study.statistics.case_statistics import mean_of
from custom_components.study.tables.missing_predictions import SET_TITLES, joined_notes, missing_note
from custom_components.study.tables.table import Table, interval_of, table_frame


def attention_table(results: ClassificationResults, scans: pd.DataFrame, resamples: int) -> Table:
    """Dice of attention and infection of the COVID-19 scans.

    Args:
        results: of the study.
        scans: its predictions, as :func:`custom_components.study.results.predicted_scans.predicted_scans` joins them.
        resamples: of the bootstrap by patient.

    Returns:
        Rows of a set and a system; without rows when no system has attention.
    """
    rows = {}
    for name in sets_of(results):
        for system in results.systems:
            covid = of_system(scans[scans["label"] == COVID], name, system)
            if covid["attention_dice"].notna().any():
                rows[SET_TITLES[name], system] = _cells(covid, resamples)
    note = joined_notes(
        "Dice of the attention, cut at one half after Eq. 2, and the infection mask; of COVID-19 scans, which alone "
        f"are trained on it. Mean with 95 % interval, percentiles of {resamples} bootstrap resamples of patients; on "
        "a test set the mean over the models of the folds.",
        missing_note(results, scans[scans["system"].isin({system for _, system in rows})]),
    )
    return Table("attention_overlap", "Attention and infection", note, table_frame(rows, ["set", "system"]))


def _cells(scans: pd.DataFrame, resamples: int) -> dict[str, object]:
    by_case = scans.groupby(["case_id", "patient_id"])["attention_dice"].mean().dropna().reset_index()
    found = bootstrap_interval(by_case, mean_of("attention_dice"), resamples=resamples)
    dice = interval_of(found, by_case["patient_id"].nunique(), len(by_case))
    return {"Dice": dice, "Scans": len(by_case)}
