"""Subgroups of the scans: by size of infection, and by any column of the datalist."""

import re
from collections.abc import Iterable
from itertools import pairwise
from numbers import Real

import numpy as np
import pandas as pd
from custom_components.infection_size import RATIO_BANDS, ratio_band

# Lower limit in years of each age band; the last band is open.
AGE_BANDS_FROM = (0, 18, 40, 60, 80)

# Maximum number of groups: a numeric column with more values is split into thirds, a text column is an error.
MOST_GROUPS = 12

_DICOM_AGE = re.compile(r"\s*(\d+)([YMWD])\s*")
_YEARS_OF = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def subgroup_of(cases: pd.DataFrame, column: str) -> pd.Series:
    """Assign each scan to a subgroup.

    ``ratio`` is split into the paper's bands (< 0.005, 0.005 - 0.030, > 0.030), ``age`` at 18, 40, 60 and 80 years.
    Any other column defines one group per value if it has at most 12 values; numbers with more are split at their
    tertiles.

    Args:
        cases: one row per scan.
        column: column name; ``ratio`` is infection volume / lung volume, ``age`` is years or a DICOM age (``052Y``).

    Returns:
        Group names as an ordered categorical with the index of ``cases``, missing if unknown. Empty bands are kept as
        categories.

    Raises:
        ValueError: if the column is missing, has more than 12 groups, or an age or ratio is not valid.

    Example:
        >>> cases = pd.DataFrame({"ratio": [0.004, 0.005, 0.2, np.nan], "age": [17, "052Y", 81, None]})
        >>> subgroup_of(cases, "ratio").tolist()
        ['< 0.005', '0.005 - 0.030', '> 0.030', nan]
        >>> subgroup_of(cases, "age").value_counts(sort=False).to_dict()
        {'0 - 17': 1, '18 - 39': 0, '40 - 59': 1, '60 - 79': 0, '80 and over': 1}
    """
    if column not in cases.columns:
        raise ValueError(f"The table has no column {column}. Expected one of {', '.join(map(str, cases.columns))}.")
    values = cases[column]
    if column == "ratio":
        return _named(values.astype(float).map(ratio_band), RATIO_BANDS)
    if column == "age":
        return _age_bands(values)
    known = values[values.notna() & (values.astype(str) != "")]
    if known.nunique() <= MOST_GROUPS:
        return _named(values.map(_name), [_name(value) for value in _sorted(known.unique())])
    if not pd.api.types.is_numeric_dtype(values):
        raise ValueError(
            f"Column {column} has {known.nunique()} different values. Expected at most {MOST_GROUPS}: merge "
            "some values or choose another column."
        )
    return _thirds(values)


def split_subgroups(cases: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Split scans by :func:`subgroup_of`, in order and with empty bands; scans of unknown group are excluded.

    Example:
        >>> cases = pd.DataFrame({"sex": ["F", "M", "F", ""], "label": [1, 0, 0, 1]})
        >>> {name: len(rows) for name, rows in split_subgroups(cases, "sex").items()}
        {'F': 2, 'M': 1}
    """
    groups = subgroup_of(cases, column)
    return {name: cases[(groups == name).to_numpy()] for name in groups.cat.categories}


def can_group_by(cases: pd.DataFrame, column: str) -> bool:
    """Whether a column has at least two subgroups.

    Example:
        >>> cases = pd.DataFrame({"site": ["Wuhan", "Jilin"], "scanner": ["uCT 780", "uCT 780"]})
        >>> can_group_by(cases, "site"), can_group_by(cases, "scanner")
        (True, False)
    """
    try:
        return subgroup_of(cases, column).nunique() > 1
    except ValueError:
        return False


def years_of_age(value: object) -> float:
    """Convert an age to years: a number of years, or a DICOM age with D, W, M or Y; NaN if unknown.

    Raises:
        ValueError: if it is not an age.

    Example:
        >>> years_of_age("052Y"), years_of_age("006M"), years_of_age(52), years_of_age(None)
        (52.0, 0.5, 52.0, nan)
    """
    if pd.isna(value) or value == "":  # type: ignore[call-overload]
        return np.nan
    of_dicom = _DICOM_AGE.fullmatch(str(value))
    try:
        years = int(of_dicom[1]) * _YEARS_OF[of_dicom[2]] if of_dicom else float(str(value))
    except ValueError:
        years = -1.0
    if not 0 <= years < 150:
        raise ValueError(f"age is {value!r}. Expected years, such as 52, or a DICOM age, such as 052Y.")
    return years


def _age_bands(values: pd.Series) -> pd.Series:
    names = [*(f"{start} - {end - 1}" for start, end in pairwise(AGE_BANDS_FROM)), f"{AGE_BANDS_FROM[-1]} and over"]
    return pd.cut(values.map(years_of_age).astype(float), [*AGE_BANDS_FROM, np.inf], right=False, labels=names)


def _thirds(values: pd.Series) -> pd.Series:
    edges = np.unique(np.nanquantile(values.astype(float), [0, 1 / 3, 2 / 3, 1])).tolist()
    inner = [f"{edge:.4g}" for edge in edges[1:-1]]
    if len(inner) < 2:
        raise ValueError(f"Column {values.name} has too many equal values to split into thirds. Choose another column.")
    names = [f"<= {inner[0]}", f"> {inner[0]} - {inner[1]}", f"> {inner[1]}"]
    return pd.cut(values.astype(float), edges, include_lowest=True, labels=names)


def _named(names: pd.Series, order: Iterable[str]) -> pd.Series:
    return names.astype(pd.CategoricalDtype(list(order), ordered=True))


def _name(value: object) -> str:
    """Name of a value; integers stored as float because of missing values are printed as integers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _sorted(values: Iterable[object]) -> list[object]:
    """Numbers by size, then names."""
    return sorted(values, key=lambda value: (0, value, "") if isinstance(value, Real) else (1, 0, str(value)))
