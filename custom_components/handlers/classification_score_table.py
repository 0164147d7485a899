import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.files.report_files import write_png
from custom_components.handlers.score_table import ScoreTable, listed_name
from custom_components.infection_size import CAP, CLASS_NAMES, COVID, THREE_CLASSES, ratio_band, size_group
from custom_components.metrics.case_numbers import (
    class_probabilities,
    covid_probability,
    final_probability,
    has_three_classes,
    known_ratio,
)
from custom_components.metrics.classification_scores import (
    PREDICTORS,
    attention_overlap,
    labels_and_probabilities,
    summarize_classification,
)
from custom_components.metrics.three_class_scores import most_likely, summarize_three_classes
from custom_components.pictures.roc import draw_roc
from custom_components.reports.score_tables import diagnosis_table
from monai.engines import Workflow

_logger = logging.getLogger(__name__)

_BRANCHES = {"p_us": "logit_us", "p_ss": "logit_ss"}
_DIGITS = 6


class ClassificationScoreTable(ScoreTable):
    """Ignite handler that writes the scores of the classification of COVID-19 versus CAP.

    Writes ``per_case.csv``, ``summary.json`` and ``roc.png``. A row of ``per_case.csv`` has the case's class, ratio,
    groups, probabilities and whether the diagnosis is correct. For COVID-19 cases with ``attention`` (the soft mask of
    Eq. 2) and ``infection`` on the same grid, it also has their Dice. Unknown values are empty cells or null. There
    are no ROC curves if all cases have the same class.

    Reads from each case ``label`` (1 COVID-19, 0 CAP), ``ratio`` (NaN if unknown), ``logit`` of the final probability
    and, if present, ``logit_us`` and ``logit_ss`` of the two branches and ``fold``. If the ratio is unknown, the logit
    may be NaN: the case is then listed and counted, but not scored.

    With the logits of three classes (COVID-19, CAP, normal; not in the paper) a row has ``p_cap``, ``p_covid`` and
    ``p_normal``, the prediction is the most likely class, and the summary has the scores of
    :func:`summarize_three_classes` instead; there is no threshold and no ``roc.png``.

    Args:
        output_dir: folder of the files.
        protocol: description of the split, copied to the summary.
        threshold: lowest probability at which a case is classified as COVID-19; not used with three classes.
        system: name of the system, for the summary; empty if unknown.
    """

    def __init__(self, output_dir: str | Path, protocol: str = "", threshold: float = 0.5, system: str = "") -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold:g}. Expected a probability, 0 to 1.")
        super().__init__(output_dir, protocol)
        self.threshold, self.system = threshold, system

    def describe(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Row of a case."""
        name = listed_name(item)
        if has_three_classes(item):
            return _three_class_row(item, name)
        label, ratio, probability = _label(item, name), known_ratio(item, name), final_probability(item, name)
        branches = {column: covid_probability(item, key, name) for column, key in _BRANCHES.items() if _has(item, key)}
        called = None if probability is None else COVID if probability >= self.threshold else CAP
        return {
            "case_id": name,
            **({"fold": int(item["fold"])} if _has(item, "fold") else {}),
            "label": CLASS_NAMES[label],
            "ratio": ratio,
            "size_group": None if ratio is None else size_group(label, ratio),
            "ratio_band": None if ratio is None else ratio_band(ratio),
            "probability": probability,
            **branches,
            "prediction": None if called is None else CLASS_NAMES[called],
            "correct": None if called is None else int(called == label),
            "attention_dice": _overlap(item, name) if label == COVID else None,
        }

    def write(self, engine: Workflow, cases: Sequence[dict[str, Any]], kept: Sequence[int]) -> None:
        """Write the table, the summary and, if there are both classes, the ROC curves."""
        if cases and "p_normal" in cases[0]:
            self.write_files(cases, self._named(summarize_three_classes(cases)))
            return
        self.write_files(cases, self._named(summarize_classification(cases, self.threshold)))
        target = self.output_dir / "roc.png"
        target.unlink(missing_ok=True)  # of an earlier run
        has_branches = any(name in row for name in _BRANCHES for row in cases)
        names = ("P_final" if has_branches else "P", "P_US", "P_SS")
        curves = {name: labels_and_probabilities(cases, column) for name, column in zip(names, PREDICTORS, strict=True)}
        drawn = {name: curve for name, curve in curves.items() if len(set(curve[0])) == len(CLASS_NAMES)}
        if drawn:
            write_png(target, draw_roc(drawn, self.protocol))
        else:
            _logger.warning("No ROC curves are drawn: the %d cases do not have both classes.", len(cases))

    def _named(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        return {**({"system": self.system} if self.system else {}), **_rounded(summary)}

    def table(self) -> str:
        """Scores of all cases, of each band of the infection ratio and of each size group."""
        return diagnosis_table(self.output_dir / "summary.json")


def _has(item: Mapping[str, Any], key: str) -> bool:
    return item.get(key) is not None


def _three_class_row(item: Mapping[str, Any], name: str) -> dict[str, Any]:
    label, ratio = _label(item, name, THREE_CLASSES), known_ratio(item, name)
    probabilities = class_probabilities(item, name)
    called = most_likely(probabilities)
    return {
        "case_id": name,
        **({"fold": int(item["fold"])} if _has(item, "fold") else {}),
        "label": THREE_CLASSES[label],
        "ratio": ratio,
        **{f"p_{one}": value for one, value in probabilities.items()},
        "prediction": called,
        "correct": int(called == THREE_CLASSES[label]),
        "attention_dice": _overlap(item, name) if label == COVID else None,
    }


def _label(item: Mapping[str, Any], name: str, classes: Mapping[int, str] = CLASS_NAMES) -> int:
    label = float(item["label"]) if _has(item, "label") else None
    if label is None or label not in classes:
        found = "missing" if label is None else f"{label:g}"
        known = "1 (COVID-19) or 0 (CAP)" if len(classes) == 2 else "1 (COVID-19), 0 (CAP) or 2 (normal)"
        raise ValueError(f"Case {name}: label is {found}. Expected {known}.")
    return int(label)


def _overlap(item: Mapping[str, Any], name: str) -> float | None:
    if not (_has(item, "attention") and _has(item, "infection")):
        return None
    try:
        overlap = attention_overlap(item["attention"], item["infection"])
    except ValueError as error:
        raise ValueError(f"Case {name}: {error}") from error
    return None if math.isnan(overlap) else overlap


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(entry) for name, entry in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value
