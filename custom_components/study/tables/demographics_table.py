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


def descriptive_columns(cases: pd.DataFrame) -> list[str]:
    """Additional datalist columns that describe scans and cannot identify a person.

    Example:
        >>> descriptive_columns(pd.DataFrame(columns=["case_id", "label", "age", "PatientName", "site"]))
        ['age', 'site']
    """
    return [str(name) for name in cases.columns if name not in OWN_COLUMNS and not _IDENTIFYING.search(str(name))]


def demographics_table(cases: pd.DataFrame, sets: tuple[str, ...]) -> Table:
    """Count images and patients and describe them by each additional column of the datalist.

    One row per characteristic and class, one column per set. Images and infection ratios are counted by scan, all else
    by patient, from each patient's first scan (by case id).
    """
    scans = {SET_TITLES[name]: cases[cases["set"] == name] for name in sets}
    patients = {key: frame.sort_values("case_id").drop_duplicates("patient_id") for key, frame in scans.items()}
    found = {column: _described(column, patients) for column in descriptive_columns(cases)}
    rows = _rows("Images", scans, len) | _rows("Patients", scans, lambda frame: frame["patient_id"].nunique())
    for own in (_measured("Infection ratio", "ratio", scans, 4), *found.values()):
        rows |= own
    frame = table_frame(rows, ["characteristic", "class"]).rename_axis(columns="set")
    note = _note([column for column, own in found.items() if not own])
    return Table("table_1_demographics", "Table I. Images and patients", note, frame)


def _rows(title: str, frames: dict[str, pd.DataFrame], count: Callable[[pd.DataFrame], object]) -> dict:
    return {
        (title, name): {key: count(frame[frame["label"].isin(labels)]) for key, frame in frames.items()}
        for name, labels in CLASS_ROWS.items()
    }


def _measured(title: str, column: str, frames: dict[str, pd.DataFrame], digits: int = 1) -> dict:
    """Median with range, as in the paper, and mean with standard deviation."""

    def median(frame: pd.DataFrame) -> Cell:
        known = frame[column].dropna().astype(float)
        return Cell(known.median(), known.min(), known.max(), n=len(known), digits=digits)

    def mean(frame: pd.DataFrame) -> Cell:
        known = frame[column].dropna().astype(float)
        return Cell(known.mean(), sd=known.std(), n=len(known), digits=digits)

    return _rows(f"{title}, median (range)", frames, median) | _rows(f"{title}, mean ± sd", frames, mean)


def _described(column: str, patients: dict[str, pd.DataFrame]) -> dict:
    """Rows of one datalist column; none if it is empty or has too many values."""
    joined = pd.concat({key: frame[column] for key, frame in patients.items()})
    known = joined[joined.notna() & (joined.astype(str) != "")]
    if known.empty:
        return {}
    if column != "age" and known.nunique() <= MOST_GROUPS:
        return _counted(column, patients, sorted(known.astype(str).unique()))
    numbers = _numbers(known, column)
    if numbers.isna().any():
        return {}
    frames = {
        key: frame.assign(**{column: numbers[numbers.index.get_level_values(0) == key].droplevel(0)})
        for key, frame in patients.items()
    }
    return _measured("Age in years" if column == "age" else column, column, frames)


def _numbers(known: pd.Series, column: str) -> pd.Series:
    if column != "age":
        return pd.to_numeric(known, errors="coerce")
    try:
        return known.map(years_of_age)
    except ValueError:
        return known.map(lambda _: np.nan)


def _counted(column: str, patients: dict[str, pd.DataFrame], names: list[str]) -> dict:
    """Number of patients per value of a column, including missing values."""

    def count(frame: pd.DataFrame, name: str) -> int:
        return int((frame[column].where(frame[column].notna(), "").astype(str) == name).sum())

    unknown = [""] if any(count(frame, "") for frame in patients.values()) else []
    rows: dict = {}
    for name in (*names, *unknown):
        rows |= _rows(f"{column}: {name or 'unknown'}", patients, partial(count, name=name))
    return rows


def _note(left_out: list[str]) -> str:
    note = (
        "Images and infection ratios are counted by scan, all else by patient, from the datalist entry of the "
        "patient's first scan. Missing values are not imputed."
    )
    which = f"Not shown because empty or with more than {MOST_GROUPS} different values: {', '.join(left_out)}."
    return joined_notes(note, which if left_out else "")
