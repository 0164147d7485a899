"""Demographics (Table I of Ouyang et al. 2020) from the columns of the datalist."""

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from custom_components.infection_size import CAP, COVID
from custom_components.study.results.study_results import OWN_COLUMNS
from custom_components.study.results.subgroups import MOST_GROUPS, years_of_age
from custom_components.study.tables.model_scores import SET_TITLES
from custom_components.study.tables.table import Cell, Table, joined_notes, table_frame

CLASS_ROWS = {"COVID-19": (COVID,), "CAP": (CAP,), "Total": (COVID, CAP)}

# Columns that may identify a person are never shown.
_IDENTIFYING = re.compile(r"patient|name|birth|uid|date|accession|path|file|(^|_)(id|mrn)($|_)", re.IGNORECASE)
_UNKNOWN = "unknown"


def descriptive_columns(cases: pd.DataFrame) -> list[str]:
    """Additional datalist columns that describe scans and cannot identify a person.

    Example:
        >>> descriptive_columns(pd.DataFrame(columns=["case_id", "label", "age", "PatientName", "site"]))
        ['age', 'site']
    """
    return [str(name) for name in cases.columns if name not in OWN_COLUMNS and not _IDENTIFYING.search(str(name))]


def demographics_table(cases: pd.DataFrame, sets: tuple[str, ...]) -> Table:
    """Count images and patients and describe them by each additional column of the datalist.

    Args:
        cases: cases of the study; see :class:`custom_components.study.results.study_results.ClassificationResults`.
        sets: sets to show, one column each.

    Returns:
        One row per characteristic and class. Images and infection ratios are counted by scan, all else by patient,
        from each patient's first scan (by case id).
    """
    rows: dict[tuple[str, str], list[object]] = {}
    columns = [cases[cases["set"] == name] for name in sets]
    patients = [frame.sort_values("case_id").drop_duplicates("patient_id") for frame in columns]
    left_out: list[str] = []
    rows |= _rows("Images", columns, len)
    rows |= _rows("Patients", columns, lambda frame: frame["patient_id"].nunique())
    rows |= _measured("Infection ratio", "ratio", columns, 4)
    for column in descriptive_columns(cases):
        found = _described(column, patients)
        rows |= found
        left_out += [] if found else [column]
    titles = [SET_TITLES[name] for name in sets]
    cells = {key: dict(zip(titles, values, strict=True)) for key, values in rows.items()}
    frame = table_frame(cells, ["characteristic", "class"]).rename_axis(columns="set")
    return Table("table_1_demographics", "Table I. Images and patients", _note(left_out), frame)


def _rows(title: str, frames: list[pd.DataFrame], count: Callable[[pd.DataFrame], object]) -> dict:
    return {
        (title, name): [count(frame[frame["label"].isin(labels)]) for frame in frames]
        for name, labels in CLASS_ROWS.items()
    }


def _measured(title: str, column: str, frames: list[pd.DataFrame], digits: int = 1) -> dict:
    """Median with range, as in the paper, and mean with standard deviation."""

    def values(frame: pd.DataFrame) -> pd.Series:
        return frame[column].dropna().astype(float)

    def median(frame: pd.DataFrame) -> Cell:
        known = values(frame)
        return Cell(known.median(), known.min(), known.max(), n=len(known), digits=digits)

    def mean(frame: pd.DataFrame) -> Cell:
        known = values(frame)
        return Cell(known.mean(), sd=known.std(ddof=1), n=len(known), digits=digits)

    return _rows(f"{title}, median (range)", frames, median) | _rows(f"{title}, mean ± sd", frames, mean)


def _described(column: str, patients: list[pd.DataFrame]) -> dict:
    """Rows of one datalist column; none if it is empty or has too many values."""
    joined = pd.concat([frame[column] for frame in patients], keys=range(len(patients)))
    known = joined[joined.notna() & (joined.astype(str) != "")]
    if known.empty:
        return {}
    if column != "age" and known.nunique() <= MOST_GROUPS:
        return _counted(column, patients, sorted(known.astype(str).unique()))
    numbers = _numbers(known, column)
    if numbers.isna().any():
        return {}
    frames = [frame.assign(**{column: numbers.xs(key).reindex(frame.index)}) for key, frame in enumerate(patients)]
    return _measured("Age in years" if column == "age" else column, column, frames)


def _numbers(known: pd.Series, column: str) -> pd.Series:
    if column != "age":
        return pd.to_numeric(known, errors="coerce")
    try:
        return known.map(years_of_age)
    except ValueError:
        return known.map(lambda _: np.nan)


def _counted(column: str, patients: list[pd.DataFrame], names: list[str]) -> dict:
    """Number of patients per value of a column, including missing values."""
    rows: dict = {}
    texts = [frame.assign(**{column: frame[column].where(frame[column].notna(), "").astype(str)}) for frame in patients]
    has_unknown = any((frame[column] == "").any() for frame in texts)
    for name in [*names, *([""] if has_unknown else [])]:
        rows |= _rows(f"{column}: {name or _UNKNOWN}", texts, partial(_count, column=column, name=name))
    return rows


def _count(frame: pd.DataFrame, column: str, name: str) -> int:
    return int((frame[column] == name).sum())


def _note(left_out: list[str]) -> str:
    note = (
        "Images and infection ratios are counted by scan, all else by patient, from the datalist entry of the "
        "patient's first scan. Missing values are not imputed."
    )
    which = f"Not shown because empty or with more than {MOST_GROUPS} different values: {', '.join(left_out)}."
    return joined_notes(note, which if left_out else "")
