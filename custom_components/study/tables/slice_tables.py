"""Tables of the slice and lobe labels: AUC of the infection mask and of each system's attention over the slices."""

from collections.abc import Iterator

import pandas as pd
from custom_components.study.results.slice_scores import LUNG_AREA, MASK, REGIONS
from custom_components.study.results.study_results import CLASS_TITLES, TEST, ClassificationResults
from custom_components.study.statistics.bootstrap import bootstrap_interval
from custom_components.study.statistics.case_statistics import median_of
from custom_components.study.tables.model_scores import SET_TITLES
from custom_components.study.tables.table import Table, interval_of, joined_notes, mean_cell_of, table_frame

SCANS = "Scans"

_NOTE = (
    "AUC over the slices of each scan: share of the lung that is infected (infection mask) or attended (soft mask of "
    "Eq. 2; of Grad-CAM for RN34 + US), against the slices that radiologists marked; ties count half. Slices without "
    "lung are left out, unless marked. Left and right lung: a slice is marked if one of the lung's lobes is. "
    "Approximation: lobes are not segmented, so the share is that of the lobe's whole lung, and slices in which only "
    "another lobe of this lung is marked are left out. Without both kinds of slices there is no AUC. Lung area is the "
    "trivial predictor: most marked slices are in the middle of the lungs, where a network without any skill often "
    "looks. The attention is evidence for COVID-19, in CAP scans too."
)


def slice_tables(results: ClassificationResults, scores: pd.DataFrame, resamples: int) -> Iterator[tuple[str, Table]]:
    """Median AUC over the scans by class and region, one column per source; nothing without labelled scans.

    Args:
        results: the results.
        scores: as from :func:`~custom_components.study.results.slice_scores.slice_scores`.
        resamples: number of bootstrap resamples.

    Yields:
        Each set with its table.
    """
    by_scan = scans_of(results, scores)
    for name in results.sets:
        own = by_scan[by_scan["set"] == name]
        classes = {title: own[own["label"] == label] for label, title in CLASS_TITLES.items()}
        rows = {
            (title, region.title): _cells(results, scans[scans["region"] == region.title], resamples)
            for title, scans in classes.items()
            for region in REGIONS
            if len(scans)
        }
        if rows:
            frame = table_frame(rows, ["class", "labels of"])
            title = f"Slices marked by radiologists: AUC of infection mask and attention, {SET_TITLES[name]}"
            yield name, Table(f"slices_{name}", title, _note(name, resamples), frame)


def scans_of(results: ClassificationResults, scores: pd.DataFrame) -> pd.DataFrame:
    """Mean of the AUC over the models of each scan, source and region, with the scan's class and patient."""
    means = scores.groupby(["set", "source", "case_id", "region"], sort=False)["auc"].mean().reset_index()
    return means.merge(results.cases[["set", "case_id", "patient_id", "label"]], on=["set", "case_id"])


def sources_of(results: ClassificationResults, scores: pd.DataFrame) -> list[str]:
    """The masks, then the systems with attention, in the order of the results."""
    there = set(scores["source"])
    return [source for source in (LUNG_AREA, MASK, *results.systems) if source in there]


def _cells(results: ClassificationResults, scores: pd.DataFrame, resamples: int) -> dict[str, object]:
    cells: dict[str, object] = {}
    for source in sources_of(results, scores):
        own = scores[scores["source"] == source].dropna(subset="auc")
        found = bootstrap_interval(own, median_of("auc"), resamples=resamples) if len(own) else None
        cells[source] = interval_of(found, own["patient_id"].nunique(), len(own)) if found else mean_cell_of([], 0)
    return {**cells, SCANS: int(scores.loc[scores["source"] == MASK, "auc"].notna().sum())}


def _note(name: str, resamples: int) -> str:
    models = "Attention: mean of the AUC over the fold models." if name == TEST else ""
    interval = (
        f"Median over the scans with 95 % interval: percentiles of {resamples} bootstrap resamples of patients; too "
        "narrow with fewer than about 20."
    )
    return joined_notes(_NOTE, interval, models)
