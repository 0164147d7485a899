"""What a study found, in long tables: what its runs give, and what its tables, figures and report are made of."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from custom_components.files.report_files import unquoted
from custom_components.infection_size import CAP, COVID, ratio_band

# Cross-validation's own cases, and those of a test set that no fold trained on.
TV, TEST = "tv", "test"
CLASS_TITLES = {COVID: "COVID-19", CAP: "CAP"}
# The protocol by which a paper scored itself; both bundles have one of this name.
PAPER = "paper"

# Columns that say what a scan is, where its files are and what was predicted; all others can be looked at as groups.
OWN_COLUMNS = (
    *("set", "case_id", "patient_id", "label", "ratio", "ratio_band", "fold", "group"),
    *("image", "lung", "infection", "system", "probability", "attention_dice"),
)

_KEY = ["set", "case_id"]


@dataclass(frozen=True)
class FailedRun:
    """A run that did not finish.

    Args:
        name: of the run, such as ``attention_us/fold_2/train``.
        reason: the last line of its error, without names of patients.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class ClassificationResults:
    """Results of a study of ``covid_cap_bundle``.

    Args:
        protocols: how cases were split, checkpoints chosen and the ensemble searched, in words, by the protocol's name
            (``nested`` or ``paper``).
        cases: one row a scan: ``set`` (``tv`` or ``test``), ``case_id``, ``patient_id``, ``label`` (1 COVID-19, 0 CAP),
            ``ratio`` (NaN where unknown), ``fold`` (of the datalist; -1 in the test set), and any other column of the
            datalist (site, age, sex), as it is there.
        predictions: one row for each system, scan and model that was applied to it: ``system`` (one of ``systems``),
            ``set``, ``fold`` (of the model: it validated that fold), ``case_id``, ``probability`` of COVID-19 (NaN
            where there is none) and ``attention_dice`` (NaN where there is none). In ``tv`` each scan has one model,
            the one that left it out; in ``test`` each fold's.
        systems: titles of the systems in the order of Table II; the ensemble last.
        ensemble: the search, one row for each ``set`` and ``fold`` that its result was applied to: ``set``, ``fold``,
            ``w_outside``, ``w_inside``, ``low``, ``high`` (Eq. 5 and Sec. III-E), ``auc`` (where it was searched).
        panels: attention figures of single scans (PNG) by their case id, correct ones and failures.
        failed: runs that did not finish.
    """

    protocols: dict[str, str]
    cases: pd.DataFrame
    predictions: pd.DataFrame
    systems: tuple[str, ...]
    ensemble: pd.DataFrame
    panels: dict[str, Path]
    failed: tuple[FailedRun, ...] = ()

    @cached_property
    def scans(self) -> pd.DataFrame:
        """Predictions with what is known of their scans.

        One row a prediction, in the order of sets, systems, models and case ids: all columns of ``predictions``
        (``fold`` being the model's), the other columns of ``cases``, and ``ratio_band``, empty where the ratio is
        unknown.

        Raises:
            ValueError: naming a case, when a scan is listed twice, or a prediction is of no scan, of no system, or
                there twice.
        """
        _check(self)
        twice = [name for name in self.predictions.columns if name in self.cases.columns and name not in _KEY]
        cases = self.cases.drop(columns=twice).assign(ratio_band=self.cases["ratio"].map(ratio_band))
        joined = self.predictions.merge(cases, on=_KEY, how="left", validate="many_to_one")
        order = {name: place for place, name in enumerate((TV, TEST, *self.systems))}
        places = joined.assign(
            label=joined["label"].astype(int), _set=joined["set"].map(order), _system=joined["system"].map(order)
        )
        in_order = places.sort_values(["_set", "_system", "fold", "case_id"], ignore_index=True)
        return in_order.drop(columns=["_set", "_system"])

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets that have scans: cross-validation's, and the test set where there is one."""
        return tuple(name for name in (TV, TEST) if (self.cases["set"] == name).any())

    @property
    def folds(self) -> list[int]:
        """Folds of the data list, which are also its models."""
        return sorted({int(fold) for fold in self.cases.loc[self.cases["set"] == TV, "fold"]})

    def of_system(self, name: str, system: str) -> pd.DataFrame:
        """Rows of :attr:`scans` of one set and system."""
        return self.scans[(self.scans["set"] == name) & (self.scans["system"] == system)]

    def missing_models(self) -> dict[tuple[str, str], list[int]]:
        """Folds without any prediction, by set and system; only those that miss one."""
        models = self.predictions[["set", "system", "fold"]].drop_duplicates()
        there = {key: set(rows["fold"]) for key, rows in models.groupby(["set", "system"])}
        missing = {
            (name, system): [fold for fold in self.folds if fold not in there.get((name, system), set())]
            for name in self.sets
            for system in self.systems
        }
        return {key: folds for key, folds in missing.items() if folds}


@dataclass(frozen=True)
class SegmentationResults:
    """Results of a study of ``covid_seg_bundle``.

    Args:
        protocols: in words, by their names in ``scores`` (``group``, ``paper``), the one that counts first.
        cases: one row a case: ``case_id``, ``group`` (empty where unknown), and any other column of the datalist.
        scores: one row for each network, protocol, case and lesion class: ``network`` (one of ``networks``),
            ``augmented`` (bool), ``protocol``, ``fold``, ``case_id``, ``lesion`` (``ground_glass``, ...), ``dice``,
            ``precision``, ``accuracy`` (NaN where the class is in neither truth nor prediction), ``pixels_true``,
            ``pixels_pred``.
        networks: titles of the networks in the order of Table II: M, M-A, M-R, U-Net.
        overlays: overlay figures of single cases (PNG) by (network, protocol, case id), of the first way of training.
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
        """Networks, each in every way in which it was trained."""
        return [(network, augmented) for network in self.networks for augmented in self.augmentation]

    def scores_of(self, network: str, augmented: bool, protocol: str) -> pd.DataFrame:
        """Rows of ``scores`` of one network."""
        scores = self.scores
        where = (scores["network"] == network) & (scores["augmented"] == augmented) & (scores["protocol"] == protocol)
        return scores[where]

    def is_incomplete(self, network: str, augmented: bool, protocol: str) -> bool:
        """Whether a network was scored on some of the cases and not on all."""
        return 0 < self.scores_of(network, augmented, protocol)["case_id"].nunique() < len(self.cases)


def read_case_table(path: Path) -> pd.DataFrame:
    """Read the ``per_case.csv`` of an evaluation, as :func:`custom_components.files.report_files.write_csv` wrote it.

    Args:
        path: the file.

    Returns:
        The table, ``case_id`` as text; NaN where a cell is empty, and nowhere else.
    """
    table = pd.read_csv(path, dtype={"case_id": str}, keep_default_na=False, na_values=[""])
    return table.assign(case_id=table["case_id"].map(unquoted, na_action="ignore"))


def _check(results: ClassificationResults) -> None:
    predictions = results.predictions
    _refuse(results.cases.duplicated(_KEY), results.cases, "is listed twice in one set")
    known = predictions.merge(results.cases[_KEY].drop_duplicates(), on=_KEY, how="left", indicator=True)
    _refuse(known["_merge"] == "left_only", known, "has a prediction and is in no datalist")
    _refuse(~predictions["system"].isin(results.systems), predictions, "has a prediction of an unknown system")
    keys = [*_KEY, "system"]
    in_tv = predictions["set"] == TV
    twice = (in_tv & predictions.duplicated(keys)) | predictions.duplicated([*keys, "fold"])
    _refuse(twice, predictions, "has two predictions of one system where one is expected")


def _refuse(wrong: pd.Series, frame: pd.DataFrame, what: str) -> None:
    if wrong.any():
        case = frame.loc[wrong.to_numpy(), "case_id"].iloc[0]
        raise ValueError(
            f"Case {case} {what} ({int(wrong.sum())} such rows). Expected results as the study collects them: "
            "evaluate the data set anew."
        )
