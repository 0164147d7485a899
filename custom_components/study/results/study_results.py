"""Results of a study in long tables: input of its tables, figures and report."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

import pandas as pd
from custom_components.files.report_files import unquoted
from custom_components.infection_size import CAP, COVID, ratio_band

# Cross-validation cases, and test cases that no fold was trained on.
TV, TEST = "tv", "test"
CLASS_TITLES = {COVID: "COVID-19", CAP: "CAP"}
# Protocol of the papers; both bundles have one with this name.
PAPER = "paper"

# Columns with identity, files and predictions of a scan; all other columns can define subgroups.
OWN_COLUMNS = (
    *("set", "case_id", "patient_id", "label", "ratio", "ratio_band", "fold", "group"),
    *("image", "lung", "infection", "system", "probability", "attention_dice"),
)

_KEY = ["set", "case_id"]


@dataclass(frozen=True)
class FailedRun:
    """A run that did not finish.

    Args:
        name: name of the run, such as ``attention_us/fold_2/train``.
        reason: last line of its error, without patient names.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class AttentionPanel:
    """A scan whose attention is drawn.

    Args:
        set: set of the scan.
        fold: validation fold of the models whose attention is drawn; in ``tv`` the fold of the scan.
        case_id: the scan.
        right: systems that classified it correctly, and for which it was chosen as an example of that.
        wrong: systems that misclassified it, and for which it was chosen as an example of that.
        path: the figure (PNG); None if it is not drawn yet.
    """

    set: str
    fold: int
    case_id: str
    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    path: Path | None = None


@dataclass(frozen=True)
class ClassificationResults:
    """Results of a study of ``covid_cap_bundle``.

    Args:
        protocols: protocol name (``nested`` or ``paper``) to a description of the split, checkpoint selection and
            ensemble search.
        cases: one row per scan: ``set`` (``tv`` or ``test``), ``case_id``, ``patient_id``, ``label`` (1 COVID-19,
            0 CAP), ``ratio`` (NaN if unknown), ``fold`` (of the datalist; -1 in the test set), and all other columns
            of the datalist (site, age, sex), unchanged.
        predictions: one row per system, scan and model: ``system`` (one of ``systems``), ``set``, ``fold``
            (validation fold of the model), ``case_id``, ``probability`` of COVID-19 and ``attention_dice`` (both NaN
            if missing). In ``tv`` each scan has one model, which was not trained on it; in ``test`` every fold model.
        systems: titles of the systems in the order of Table II; the ensemble last.
        ensemble: one row per ``set`` and ``fold`` that a searched rule was applied to: ``set``, ``fold``,
            ``w_outside``, ``w_inside``, ``low``, ``high`` (Eq. 5 and Sec. III-E), ``auc`` (on the search data).
        panels: scans whose attention is drawn.
        failed: runs that did not finish.
        variants: those of ``systems`` that are shown but not tested in pairs, so that they do not add to the number of
            tests: the ensemble with the weights of the paper.
        slices: one row per slice of each scan with slice labels, and model: ``system``, ``set``, ``fold``, and the
            columns of :func:`~custom_components.study.results.slice_scores.labelled_slices`; empty without labels.
    """

    protocols: dict[str, str]
    cases: pd.DataFrame
    predictions: pd.DataFrame
    systems: tuple[str, ...]
    ensemble: pd.DataFrame
    panels: tuple[AttentionPanel, ...]
    failed: tuple[FailedRun, ...] = ()
    variants: tuple[str, ...] = ()
    slices: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of systems to compare."""
        return list(combinations([system for system in self.systems if system not in self.variants], 2))

    @cached_property
    def scans(self) -> pd.DataFrame:
        """Predictions joined with the columns of their scans.

        One row per prediction, sorted by set, system, model and case id: all columns of ``predictions`` (``fold`` is
        the model's), the other columns of ``cases``, and ``ratio_band`` (missing if the ratio is unknown).

        Raises:
            ValueError: if a scan is listed twice, or a prediction has an unknown scan or system or occurs twice.
        """
        _check(self)
        twice = [name for name in self.predictions.columns if name in self.cases.columns and name not in _KEY]
        cases = self.cases.drop(columns=twice).assign(ratio_band=self.cases["ratio"].map(ratio_band))
        joined = self.predictions.merge(cases, on=_KEY, how="left", validate="many_to_one")
        order = {name: place for place, name in enumerate((TV, TEST, *self.systems))}
        joined = joined.assign(label=joined["label"].astype(int))
        keys = ["set", "system", "fold", "case_id"]
        return joined.sort_values(
            keys, key=lambda own: own.map(order) if own.name in keys[:2] else own, ignore_index=True
        )

    @property
    def sets(self) -> tuple[str, ...]:
        """Sets with scans: cross-validation and, if present, the test set."""
        return tuple(name for name in (TV, TEST) if (self.cases["set"] == name).any())

    @cached_property
    def folds(self) -> list[int]:
        """Folds of the datalist; each fold has one model."""
        return sorted({int(fold) for fold in self.cases.loc[self.cases["set"] == TV, "fold"]})

    def of_system(self, name: str, system: str) -> pd.DataFrame:
        """Rows of :attr:`scans` of one set and system."""
        return self.scans[(self.scans["set"] == name) & (self.scans["system"] == system)]

    @cached_property
    def missing_models(self) -> dict[tuple[str, str], list[int]]:
        """Folds without predictions, by set and system; only sets and systems with a missing fold."""
        there = set(self.predictions[["set", "system", "fold"]].itertuples(index=False, name=None))
        pairs = [(name, system) for name in self.sets for system in self.systems]
        missing = {pair: [fold for fold in self.folds if (*pair, fold) not in there] for pair in pairs}
        return {pair: folds for pair, folds in missing.items() if folds}


@dataclass(frozen=True)
class SegmentationResults:
    """Results of a study of ``covid_seg_bundle``.

    Args:
        protocols: protocol name in ``scores`` (``group``, ``paper``) to its description; the main protocol first.
        cases: one row per case: ``case_id``, ``group`` (empty if unknown), and all other columns of the datalist.
        scores: one row per network, protocol, case and lesion class: ``network`` (one of ``networks``),
            ``augmented`` (bool), ``protocol``, ``fold``, ``case_id``, ``lesion`` (``ground_glass``, ...), ``dice``,
            ``precision``, ``accuracy`` (NaN if the class is in neither truth nor prediction), ``pixels_true``,
            ``pixels_pred``.
        networks: titles of the networks in the order of Table II: M, M-A, M-R, U-Net.
        overlays: overlay figures (PNG) by (network, protocol, case id), for the first augmentation setting.
        failed: runs that did not finish.
        augmentation: whether networks were trained with augmentation, without, or both.
    """

    protocols: dict[str, str]
    cases: pd.DataFrame
    scores: pd.DataFrame
    networks: tuple[str, ...]
    overlays: dict[tuple[str, str, str], Path]
    failed: tuple[FailedRun, ...] = ()
    augmentation: tuple[bool, ...] = (True, False)

    @property
    def trained(self) -> list[tuple[str, bool]]:
        """Pairs of network and augmentation that were trained."""
        return [(network, augmented) for network in self.networks for augmented in self.augmentation]

    def scores_of(self, network: str, augmented: bool, protocol: str) -> pd.DataFrame:
        """Rows of ``scores`` of one network."""
        scores = self.scores
        where = (scores["network"] == network) & (scores["augmented"] == augmented) & (scores["protocol"] == protocol)
        return scores[where]

    def is_incomplete(self, network: str, augmented: bool, protocol: str) -> bool:
        """Whether a network was scored on some but not all cases."""
        return 0 < self.scores_of(network, augmented, protocol)["case_id"].nunique() < len(self.cases)


def read_case_table(path: Path) -> pd.DataFrame:
    """Read the ``per_case.csv`` of an evaluation, as :func:`custom_components.files.report_files.write_csv` wrote it.

    ``case_id`` is text; only empty cells are NaN.
    """
    table = pd.read_csv(path, dtype={"case_id": str}, keep_default_na=False, na_values=[""])
    return table.assign(case_id=table["case_id"].map(unquoted, na_action="ignore"))


def _check(results: ClassificationResults) -> None:
    predictions = results.predictions
    _refuse(results.cases.duplicated(_KEY), results.cases, "is listed twice in one set")
    known = predictions.merge(results.cases[_KEY].drop_duplicates(), on=_KEY, how="left", indicator=True)
    _refuse(known["_merge"] == "left_only", known, "has a prediction but is in no datalist")
    _refuse(~predictions["system"].isin(results.systems), predictions, "has a prediction by an unknown system")
    keys = [*_KEY, "system"]
    in_tv = predictions["set"] == TV
    twice = (in_tv & predictions.duplicated(keys)) | predictions.duplicated([*keys, "fold"])
    _refuse(twice, predictions, "has two predictions by one system, expected one")


def _refuse(wrong: pd.Series, frame: pd.DataFrame, what: str) -> None:
    if wrong.any():
        case = frame.loc[wrong.to_numpy(), "case_id"].iloc[0]
        raise ValueError(
            f"Case {case} {what} ({int(wrong.sum())} such rows). Expected the results that the study collects: "
            "evaluate the data set again."
        )
