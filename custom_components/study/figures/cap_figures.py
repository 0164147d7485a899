"""Figures of a study of covid_cap_bundle."""

from collections.abc import Iterator

import pandas as pd
from custom_components.infection_size import COVID
from custom_components.study.figures.contact_sheet import Picture, draw_contact_sheets
from custom_components.study.figures.drawing import Drawing
from custom_components.study.figures.score_plots import draw_fold_dots, draw_forest
from custom_components.study.results.study_results import CLASS_TITLES, ClassificationResults
from custom_components.study.tables.interval_tables import GROUP_METRICS
from custom_components.study.tables.model_scores import METRICS, SET_TITLES, fold_scores, missing_note
from custom_components.study.tables.table import Table, joined_notes


def draw_auc_folds(results: ClassificationResults) -> Drawing:
    """Draw the scores of each fold model: one row per set, one panel per score."""
    rows = [
        {"panel_row": SET_TITLES[name], "panel": title, "system": system, "fold": fold, "value": value}
        for name in results.sets
        for metric, title in METRICS.items()
        for system in results.systems
        for fold, value in fold_scores(results, name, system, metric).items()
    ]
    note = joined_notes(
        "Each point is the model of one fold, scored on its validation fold (TV set) or on the whole test set; the bar "
        "is the mean. Folds without a score have no point.",
        missing_note(results),
    )
    return draw_fold_dots(pd.DataFrame(rows), "folds", "Scores of each fold", note)


def draw_subgroups(name: str, table: Table) -> Drawing:
    """Draw a table of :func:`~custom_components.study.tables.interval_tables.subgroup_tables`, one panel per score."""
    metrics = [METRICS[metric] for metric in GROUP_METRICS]
    rows = [
        {"heading": by, "group": f"{group} ({row['COVID-19']} / {row['CAP']})", "metric": metric, "cell": row[metric]}
        for (by, group), row in zip(table.frame.index, table.frame.to_dict("records"), strict=True)
        for metric in metrics
    ]
    note = "In brackets: scans with COVID-19 / CAP. Dotted line: all scans. Groups with one class have no AUC. "
    return draw_forest(pd.DataFrame(rows), metrics, f"subgroups_{name}", table.title, note + table.note)


def draw_attention_sheets(results: ClassificationResults) -> Iterator[Drawing]:
    """Draw attention figures of correctly classified scans and of failures (Fig. 5 and 6)."""
    called = [_picture(results, case_id) for case_id in _in_order(results)]
    rightly = [picture for picture, is_right in called if is_right is not False]
    wrongly = [picture for picture, is_right in called if is_right is False]
    note = (
        "Axial and coronal view. Above each: class, size of the infection and probability of COVID-19 (test set: mean "
        "over the fold models)."
    )
    yield from draw_contact_sheets("attention", "Where the networks looked", note, rightly)
    yield from draw_contact_sheets("failures", "Failures: misclassified scans", note, wrongly)


def _in_order(results: ClassificationResults) -> list[str]:
    """Scans with a picture: COVID-19 first, then by infection size, ascending."""
    there = [case_id for case_id, path in results.panels.items() if path.is_file()]
    shown = results.cases[results.cases["case_id"].isin(there)]
    order = shown.sort_values(["label", "ratio", "case_id"], ascending=[False, True, True])
    return list(dict.fromkeys(order["case_id"]))


def _picture(results: ClassificationResults, case_id: str) -> tuple[Picture, bool | None]:
    """Picture with caption, and whether the last system with a probability classified the scan correctly."""
    case = results.cases[results.cases["case_id"] == case_id].iloc[0]
    rows = results.scans[(results.scans["case_id"] == case_id) & (results.scans["set"] == case["set"])]
    means = rows.groupby("system")["probability"].mean().reindex(results.systems).dropna()
    ratio = "of unknown size" if pd.isna(case["ratio"]) else f"{100 * case['ratio']:.2g} % of the lungs"
    known = f"{case_id} ({SET_TITLES[case['set']]}): {CLASS_TITLES[case['label']]}, infection {ratio}."
    if means.empty:
        return Picture(results.panels[case_id], f"{known} No probability."), None
    is_right = bool((means.iloc[-1] >= 0.5) == (case["label"] == COVID))
    text = f"{known} {means.index[-1]}: {means.iloc[-1]:.3f}, {'right' if is_right else 'wrong'}."
    return Picture(results.panels[case_id], text), is_right
