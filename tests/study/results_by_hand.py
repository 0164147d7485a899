"""Results of studies that never ran, small and drawn from a seed, in the form that a study collects them."""

import numpy as np
import pandas as pd
from custom_components.labels import LESION_CLASSES
from custom_components.study.report.cap_report import cap_report
from custom_components.study.report.seg_report import seg_report
from custom_components.study.report.study_report import Report
from custom_components.study.results.study_results import (
    TEST,
    TV,
    AttentionPanel,
    ClassificationResults,
    SegmentationResults,
)
from PIL import Image

SYSTEMS = ("RN34 + US", "Attention RN34 + US", "Attention RN34 + SS", "Attention RN34 + DS")
NETWORKS = ("M", "M-A", "M-R", "U-Net")
N_FOLDS = 3


def scans(name, n_covid, n_cap, rng):
    """Scans of one set: the first two of each class are of one patient, and one scan has no ratio."""
    rows = []
    for label, count in ((1, n_covid), (0, n_cap)):
        for number in range(count):
            patient = max(number, 1)
            rows.append(
                {
                    "set": name,
                    "case_id": f"{name}_{'covid' if label else 'cap'}_{number:02d}",
                    "patient_id": f"{name}-secret-{label}-{patient}",
                    "label": label,
                    "ratio": float(rng.choice([0.002, 0.004, 0.012, 0.08], p=[0.2, 0.2, 0.3, 0.3]) * (1 + label)),
                    "fold": patient % N_FOLDS if name == TV else -1,
                    "age": str(round(rng.uniform(18, 88))),
                    "sex": "F" if patient % 2 else "M",
                    "site": ("north", "south", "west")[patient % 3],
                }
            )
    rows[-1]["ratio"] = np.nan
    return pd.DataFrame(rows)


def classification_results(folder, n_tv=(23, 31), n_test=(19, 13), seed=0):
    """A study of four systems in three folds; ``n_test`` is (0, 0) for none without a test set."""
    rng = np.random.default_rng(seed)
    cases = pd.concat([scans(TV, *n_tv, rng), scans(TEST, *n_test, rng)] if sum(n_test) else [scans(TV, *n_tv, rng)])
    cases = cases.reset_index(drop=True)
    predictions = pd.concat([_predictions(cases, rng), _ensemble_predictions(cases, rng)], ignore_index=True)
    return ClassificationResults(
        protocols={"nested": "Folds by patient; weights of the last epoch; ensemble searched on the other folds."},
        cases=cases,
        predictions=predictions,
        systems=SYSTEMS,
        ensemble=_ensemble(bool(sum(n_test))),
        panels=_attention_panels(folder, cases),
    )


def _predictions(cases, rng):
    rows = []
    for place, system in enumerate(SYSTEMS[:-1]):
        for case in cases.itertuples():
            for fold in [case.fold] if case.set == TV else range(N_FOLDS):
                noise = rng.normal(0, 1.1 - 0.15 * place)
                probability = 1 / (1 + np.exp(-(2.4 * (case.label - 0.5) + noise)))
                dice = rng.uniform(0.2, 0.8) if case.label and place else np.nan
                rows.append(_row(system, case, fold, probability, dice))
    return pd.DataFrame(rows)


def _ensemble_predictions(cases, rng):
    rows = []
    for case in cases.itertuples():
        for fold in [case.fold] if case.set == TV else range(N_FOLDS):
            noise = np.nan if np.isnan(case.ratio) else rng.normal(0, 0.8)
            rows.append(_row(SYSTEMS[-1], case, fold, 1 / (1 + np.exp(-(2.6 * (case.label - 0.5) + noise))), np.nan))
    return pd.DataFrame(rows)


def _row(system, case, fold, probability, dice):
    named = {"system": system, "set": case.set, "fold": fold, "case_id": case.case_id}
    return {**named, "probability": probability, "attention_dice": dice}


def _ensemble(has_test):
    folds = [(TV, fold) for fold in range(N_FOLDS)] + ([(TEST, fold) for fold in range(N_FOLDS)] if has_test else [])
    found = {"w_outside": 0.35, "w_inside": 0.96, "low": 0.001, "high": 0.03}
    return pd.DataFrame([{"set": name, "fold": fold, **found, "auc": 0.9 + 0.01 * fold} for name, fold in folds])


def _attention_panels(folder, cases):
    """Three scans of the folds, and one of the test set if there is one."""
    chosen = cases[cases["case_id"].isin([f"{TV}_covid_02", f"{TV}_covid_03", f"{TV}_cap_04", f"{TEST}_covid_05"])]
    paths = _panels(folder, chosen["case_id"].tolist())
    return tuple(
        AttentionPanel(case.set, max(case.fold, 0), case.case_id, right=SYSTEMS[-1:], path=paths[case.case_id])
        for case in chosen.itertuples()
    )


def _panels(folder, case_ids):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for number, case_id in enumerate(case_ids):
        pixels = rng.integers(0, 90, (70 + 5 * number, 420, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{case_id}.png")
    return {case_id: folder / f"{case_id}.png" for case_id in case_ids}


def segmentation_results(folder, n_groups=5, slices=3, seed=0, has_groups=True):
    """A study of four networks, with and without augmentation, by group and by random slices.

    No case has a pleural effusion but the first, and in case_00 nothing of it is predicted.
    """
    rng = np.random.default_rng(seed)
    names = [
        (f"case_{g * slices + s:02d}", f"block_{g}" if has_groups else "")
        for g in range(n_groups)
        for s in range(slices)
    ]
    rows = [
        row
        for network in NETWORKS
        for augmented in (True, False)
        for protocol in ("group", "paper")
        for number, (case_id, _) in enumerate(names)
        for row in _lesion_rows(network, augmented, protocol, number, case_id, rng)
    ]
    keys = [(network, protocol, "case_01") for network in NETWORKS for protocol in ("group", "paper")]
    overlays = _panels(folder, ["_".join(key) for key in keys])
    return SegmentationResults(
        protocols={
            "group": "Folds by blocks of neighbouring slices.",
            "paper": "Folds of random slices: slices of one patient are trained on and scored.",
        },
        cases=pd.DataFrame(names, columns=["case_id", "group"]),
        scores=pd.DataFrame(rows),
        networks=NETWORKS,
        overlays={key: overlays["_".join(key)] for key in keys},
    )


def _lesion_rows(network, augmented, protocol, number, case_id, rng):
    level = 0.75 - 0.05 * NETWORKS.index(network) + 0.05 * augmented - 0.2 * (protocol == "group")
    for lesion in LESION_CLASSES:
        is_there = lesion != "pleural_effusion" or number == 0
        dice = float(np.clip(rng.normal(level, 0.08), 0, 1)) if is_there else np.nan
        yield {
            "network": network,
            "augmented": augmented,
            "protocol": protocol,
            "fold": number // 3 % N_FOLDS if protocol == "group" else number % N_FOLDS,
            "case_id": case_id,
            "lesion": lesion,
            "dice": dice,
            "precision": float(np.minimum(1, dice + 0.03)),
            "accuracy": 0.95 + 0.04 * dice,
            "pixels_true": 120 if is_there else 0,
            "pixels_pred": 90 if is_there else 0,
        }


def report_of(results, resamples) -> Report:
    make = {ClassificationResults: cap_report, SegmentationResults: seg_report}[type(results)]
    return make(results, resamples)
