"""Predictions of a study beside what is known of the scans."""

import pandas as pd
from custom_components.infection_size import ratio_band
from custom_components.study.results.study_results import TEST, TV, ClassificationResults

# Columns that say what a scan is, where its files are and what was predicted; all others can be looked at as groups.
OWN_COLUMNS = (
    *("set", "case_id", "patient_id", "label", "ratio", "ratio_band", "fold", "group"),
    *("image", "lung", "infection", "system", "probability", "attention_dice"),
)

_KEY = ["set", "case_id"]


def predicted_scans(results: ClassificationResults) -> pd.DataFrame:
    """Join predictions and scans.

    Args:
        results: of a study.

    Returns:
        One row a prediction, in the order of sets, systems, models and case ids: all columns of ``predictions``
        (``fold`` being the model's), the other columns of ``cases``, and ``ratio_band``, empty where the ratio is
        unknown.

    Raises:
        ValueError: naming a case, when a scan is listed twice, or a prediction is of no scan, of no system, or there
            twice.
    """
    _check(results)
    twice = [name for name in results.predictions.columns if name in results.cases.columns and name not in _KEY]
    cases = results.cases.drop(columns=twice).assign(ratio_band=results.cases["ratio"].map(ratio_band))
    joined = results.predictions.merge(cases, on=_KEY, how="left", validate="many_to_one")
    order = {name: place for place, name in enumerate((TV, TEST, *results.systems))}
    places = joined.assign(
        label=joined["label"].astype(int), _set=joined["set"].map(order), _system=joined["system"].map(order)
    )
    in_order = places.sort_values(["_set", "_system", "fold", "case_id"], ignore_index=True)
    return in_order.drop(columns=["_set", "_system"])


def of_system(scans: pd.DataFrame, name: str, system: str) -> pd.DataFrame:
    """Predictions of one system in one set, rows of :func:`predicted_scans`."""
    return scans[(scans["set"] == name) & (scans["system"] == system)]


def sets_of(results: ClassificationResults) -> tuple[str, ...]:
    """The sets that have scans: cross-validation's, and the test set where there is one."""
    return tuple(name for name in (TV, TEST) if (results.cases["set"] == name).any())


def folds_of(results: ClassificationResults) -> list[int]:
    """Folds of the data list, which are also its models."""
    folds = results.cases.loc[results.cases["set"] == TV, "fold"]
    return sorted({int(fold) for fold in folds})


def missing_models(results: ClassificationResults) -> dict[tuple[str, str], list[int]]:
    """Folds without any prediction.

    Returns:
        By set and system; only those that miss one.
    """
    models = results.predictions[["set", "system", "fold"]].drop_duplicates()
    there = {key: set(rows["fold"]) for key, rows in models.groupby(["set", "system"])}
    missing = {
        (name, system): [fold for fold in folds_of(results) if fold not in there.get((name, system), set())]
        for name in sets_of(results)
        for system in results.systems
    }
    return {key: folds for key, folds in missing.items() if folds}


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
