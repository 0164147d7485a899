"""What the notes of a study's tables say of predictions that are not there."""

from collections.abc import Iterator

import pandas as pd
from custom_components.study.results.predicted_scans import missing_models
from custom_components.study.results.study_results import TEST, TV, ClassificationResults, FailedRun
from custom_components.study.tables.model_scores import INCOMPLETE
from custom_components.study.tables.table import Cell

SET_TITLES = {TV: "TV set", TEST: "Test set"}


def mark_of(results: ClassificationResults, name: str, system: str) -> str:
    """The sign beside numbers of a system that misses a fold in a set; empty where none is missing."""
    return INCOMPLETE if (name, system) in missing_models(results) else ""


def missing_note(results: ClassificationResults, scans: pd.DataFrame) -> str:
    """Sentences on folds and scans that are in no number of a table; empty where all are.

    Args:
        results: of the study.
        scans: its predictions, as :func:`custom_components.study.results.predicted_scans.predicted_scans` joins them.

    Returns:
        The note.
    """
    return joined_notes(*_without_folds(results), failed_note(results.failed), *_without_probability(scans))


def failed_note(failed: tuple[FailedRun, ...]) -> str:
    """Names of the runs that did not finish; empty without any."""
    return f"Failed: {', '.join(run.name for run in failed)}." if failed else ""


def undefined_note(frame: pd.DataFrame) -> str:
    """How many resamples at most did not define a number of a table; empty where all did."""
    most = max((cell.undefined for row in frame.to_numpy() for cell in row if isinstance(cell, Cell)), default=0)
    if not most:
        return ""
    return f"Resamples in which a number is not defined (at most {most}, each in the CSV) are left out of its interval."


def joined_notes(*parts: str) -> str:
    """Sentences in one paragraph, without the empty ones."""
    return " ".join(part for part in parts if part)


def _without_folds(results: ClassificationResults) -> Iterator[str]:
    missing = missing_models(results)
    for system in dict.fromkeys(system for _, system in missing):
        where = [
            f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))} ({SET_TITLES[name]})"
            for (name, other), folds in missing.items()
            if other == system
        ]
        yield f"{INCOMPLETE} {system} is without {' and '.join(where)}."


def _without_probability(scans: pd.DataFrame) -> Iterator[str]:
    for system, rows in scans.groupby("system", sort=False):
        known = rows.assign(missing=rows["probability"].isna()).groupby(["set", "case_id"], sort=False)["missing"].any()
        where = [
            f"{int(missing.sum())} of {len(missing)} scans ({SET_TITLES[str(name)]})"
            for name, missing in known.groupby("set", sort=False)
            if missing.any()
        ]
        if where:
            yield f"{system} has no probability of {' and '.join(where)}: left out."
