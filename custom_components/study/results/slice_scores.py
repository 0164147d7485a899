"""How well the infection mask and the attention maps tell the slices that radiologists marked, scan by scan.

Slice labels say whether a slice has infection, lobe labels in which lobes (COVID-CT-MD, see
:mod:`custom_components.datasets.slice_labels`). The predictor is the share of the lung that is infected, or attended,
in the slice.

Approximation: lobes are not segmented. The predictor of a lobe is the share of its whole lung (left or right), and
slices in which only another lobe of this lung is infected are left out. A lobe's score therefore says whether the mask
or the attention is in the right slices of the right lung, not whether it is on the right side of a fissure.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from custom_components.datasets.slice_labels import COLUMNS
from custom_components.handlers.slice_table import AREAS, SIDES, SLICE
from sklearn.metrics import roc_auc_score

# Columns of the labels: of the slice, and of the lobes.
INFECTED, *LOBES = COLUMNS[1:]
# Sources of the predictor, next to the titles of the systems. The area of the lung is the trivial one: most marked
# slices are in the middle of the lungs.
LUNG_AREA, MASK = "Lung area", "Infection mask"

# The columns of one scan and model: a table, or an array for each name.
Columns = pd.DataFrame | Mapping[str, np.ndarray]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LungRegion:
    """Part of the lungs with labels.

    Args:
        title: its name.
        sides: lungs whose share is the predictor.
        lobes: columns of the labels; a slice is positive if one of them is.
        others: columns of the labels; a slice is left out if one of them is positive and none of ``lobes``.
    """

    title: str
    sides: tuple[str, ...]
    lobes: tuple[str, ...]
    others: tuple[str, ...] = ()


def _lobe(place: int, title: str, side: str, own: range) -> LungRegion:
    others = tuple(LOBES[other] for other in own if other != place)
    return LungRegion(title, (side,), (LOBES[place],), others)


# In the order of the published labels: left lower, left upper, right lower, right middle, right upper lobe.
_LEFT, _RIGHT = range(2), range(2, 5)
REGIONS = (
    LungRegion("Both lungs", tuple(SIDES), (INFECTED,)),
    LungRegion("Left lung", ("left",), tuple(LOBES[place] for place in _LEFT)),
    LungRegion("Right lung", ("right",), tuple(LOBES[place] for place in _RIGHT)),
    _lobe(1, "Left upper lobe", "left", _LEFT),
    _lobe(0, "Left lower lobe", "left", _LEFT),
    _lobe(4, "Right upper lobe", "right", _RIGHT),
    _lobe(3, "Right middle lobe", "right", _RIGHT),
    _lobe(2, "Right lower lobe", "right", _RIGHT),
)


def labelled_slices(table: pd.DataFrame, labels: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Join the slice table of an evaluation with the labels.

    A scan whose labels have another number of slices is left out with a warning.

    Args:
        table: ``slices.csv`` of :class:`~custom_components.SliceTable`.
        labels: by case, uint8 (slices, 1 + lobes), slices from the head.

    Returns:
        The rows of labelled scans with ``infected`` and, NaN if unknown, ``lobe_1`` to ``lobe_5``.
    """
    parts = [pd.DataFrame(columns=["case_id", SLICE, *AREAS, INFECTED, *LOBES])]
    for case_id, rows in table.groupby("case_id", sort=False):
        own = labels.get(str(case_id))
        if own is None:
            continue
        if len(own) != len(rows):
            _logger.warning(
                "Case %s: its labels have %d slices, the scan has %d. They are not used: convert the data set again.",
                case_id, len(own), len(rows),
            )  # fmt: skip
            continue
        known = pd.DataFrame(own[rows[SLICE]], index=rows.index, columns=[INFECTED, *LOBES][: own.shape[1]])
        parts.append(rows.join(known.reindex(columns=[INFECTED, *LOBES])))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def slice_scores(slices: pd.DataFrame) -> pd.DataFrame:
    """AUC of each scan over its slices, for each source and region.

    Args:
        slices: ``slices`` of the results.

    Returns:
        ``set``, ``source`` (``Lung area``, ``Infection mask``, or a system by its attention), ``fold`` (of the model),
        ``case_id``, ``region`` (title) and ``auc`` (NaN: see :func:`slice_auc`). The masks are those of the scan's
        first model; the other models have the same.
    """
    rows: list[dict[str, object]] = []
    seen: set[tuple[object, object]] = set()
    keys = ["system", "set", "fold", "case_id"]
    for (system, name, fold, case_id), own in slices.groupby(keys, sort=False) if len(slices) else ():
        arrays = {key: own[key].to_numpy(dtype=np.float64) for key in (*AREAS, INFECTED, *LOBES)}
        masks = {} if (name, case_id) in seen else {"lung": LUNG_AREA, "infection": MASK}
        sources = {**masks, "attention": system}
        seen.add((name, case_id))
        for column, source in sources.items():
            head = {"set": name, "source": source, "fold": fold, "case_id": case_id}
            rows += [{**head, "region": title, "auc": auc} for title, auc in _aucs(arrays, column)]
    return pd.DataFrame(rows, columns=["set", "source", "fold", "case_id", "region", "auc"])


def slice_auc(slices: Columns, region: LungRegion, column: str) -> float:
    """AUC of one scan: the probability that a marked slice has a larger share than a slice that is not marked.

    Slices without lung say nothing about the predictor and are left out, unless they are marked: then the share is 0.

    Args:
        slices: columns of one scan and model, as from :func:`labelled_slices`.
        region: labels and lungs to use.
        column: ``infection`` or ``attention``; with ``lung``, the predictor is not a share but the area of the lung.

    Returns:
        The AUC (ties count half); NaN if the labels are unknown, all slices have the same label, or, for one lung, the
        lungs could not be separated.
    """
    labels = _array(slices, region.lobes + region.others)
    lungs = _areas(slices, "lung", tuple(SIDES))
    if np.isnan(labels).any() or (len(region.sides) == 1 and not lungs.any(axis=0).all()):
        return math.nan
    marked = np.any(labels[:, : len(region.lobes)], axis=1)
    area = _areas(slices, "lung", region.sides).sum(axis=1)
    kept = marked | ((area > 0) & ~labels.any(axis=1))
    share = area if column == "lung" else lung_share(slices, column, region.sides)
    return float(roc_auc_score(marked[kept], share[kept])) if len(set(marked[kept])) == 2 else math.nan


def lung_share(slices: Columns, column: str, sides: tuple[str, ...] = tuple(SIDES)) -> np.ndarray:
    """Share of the lung that is infected or attended in each slice; 0 without lung.

    Args:
        slices: columns of a slice table.
        column: ``infection`` or ``attention``.
        sides: lungs to use.
    """
    own, lung = (_areas(slices, name, sides).sum(axis=1) for name in (column, "lung"))
    share: np.ndarray = np.divide(own, lung, out=np.zeros(len(own)), where=lung > 0)
    return share


def _areas(slices: Columns, name: str, sides: tuple[str, ...]) -> np.ndarray:
    return _array(slices, [f"{name}_{side}_cm2" for side in sides])


def _array(slices: Columns, names: Sequence[str]) -> np.ndarray:
    """The columns side by side, (slices, columns)."""
    return np.column_stack([np.asarray(slices[name], dtype=np.float64) for name in names])


def _aucs(slices: Columns, column: str) -> Iterator[tuple[str, float]]:
    for region in REGIONS:
        yield region.title, slice_auc(slices, region, column)
