"""Check, before a network runs, that the data set contains lesions."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from custom_components.datalists.case_problems import shorten
from custom_components.images.ct_reader import LabelReader, case_name
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES

_CLASSES = ", ".join(f"{value} ({name.replace('_', ' ')})" for value, name in enumerate(LESION_CLASSES, start=1))

_logger = logging.getLogger(__name__)


def check_lesions(**parts: Sequence[Mapping[str, Any]]) -> None:
    """Check that labels contain a lesion class and not only 255; warn about parts without lesions.

    Labels are read one by one until each part has a lesion. For most data sets this takes one or two files.

    Args:
        parts: cases by purpose (``training``, ``validation``, ``scored``), each with the path of its ``label``; empty
            parts are ignored.

    Raises:
        ValueError: when no label has a lesion class and some have 255 (names the cases), or a label cannot be read.
    """
    ignoring = {name: _labels_without_class(cases) for name, cases in parts.items() if cases}
    empty = {name: found for name, found in ignoring.items() if found is not None}
    only_ignored = [case for found in empty.values() for case in found]
    if len(empty) == len(ignoring) and only_ignored:
        raise ValueError(
            f"No label map has a lesion class, and {len(only_ignored):,} contain 255, the ignored value: "
            f"{shorten(only_ignored)}. Expected {_CLASSES}: in masks of 0 and 255, replace 255 with the class that "
            "it stands for."
        )
    for name in empty:
        _warn(name, len(parts[name]), f"a lesion ({_CLASSES}) in its label")


def check_infections(**parts: Sequence[Mapping[str, Any]]) -> None:
    """Warn when no scan in a part of a data set has an infection, according to the ratios in the datalist.

    Args:
        parts: scans by purpose, each with its ``ratio``; empty parts are ignored.
    """
    for name, scans in parts.items():
        if scans and not any(scan["ratio"] > 0 for scan in scans):
            _warn(name, len(scans), "infection in its mask")


def _labels_without_class(cases: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Names of cases whose labels contain 255; None when any label has a lesion class."""
    reader, ignoring = LabelReader(), []
    for case in cases:
        label, _ = reader.get_data(reader.read(case["label"]))
        if np.any((label >= 1) & (label <= len(LESION_CLASSES))):
            return None
        if np.any(label == IGNORE_LABEL):
            ignoring.append(str(case.get("case_id") or case_name(case["label"])))
    return ignoring


def _warn(name: str, count: int, what: str) -> None:
    _logger.warning(
        "None of the %d %s cases has %s. Expected at least one: without examples the network cannot learn it, and "
        "Dice is 0 or undefined. Choose another fold, or add cases.",
        count, name, what,
    )  # fmt: skip
