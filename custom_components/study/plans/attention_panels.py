"""Attention figures of left-out scans, as in Fig. 5 (correct) and Fig. 6 (failures) of Ouyang et al. 2020."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from custom_components.files.atomic import atomic_path
from custom_components.files.report_files import write_json
from custom_components.handlers.load_weights import read_state_dict
from custom_components.images.ct_reader import case_name
from custom_components.infection_size import COVID, RATIO_BANDS, ratio_band
from custom_components.study.plans.cap_plan import ENSEMBLE_TITLE, PLAIN, SIZE_BALANCED, UNIFORM, CapStudy
from custom_components.study.results.study_results import TV, ClassificationResults
from custom_components.study.runs.overrides import overrides_for
from custom_components.study.runs.run import INFERENCE, Run
from custom_components.study.runs.study_folder import RUNS

CONFIG = "inference.json"
INPUT, DATALIST, WEIGHTS = "input", "datalist.json", "ensemble.pt"
THRESHOLD = 0.5


def choose_panels(results: ClassificationResults, count: int) -> list[str]:
    """Choose scans to show: half of them correct COVID-19 scans, half failures.

    Correct ones are taken in turn from the bands of the infection ratio, small to large; of a band, and of the
    failures, those come first whose probability is the most decided, COVID-19 before CAP among the failures.

    Args:
        results: with the ensemble's predictions.
        count: most scans to choose.

    Returns:
        Case ids, correct ones first; fewer where there are no more.
    """
    scans = _ensemble_scans(results)
    is_right = (scans["probability"] >= THRESHOLD) == (scans["label"] == COVID)
    right = scans[is_right & (scans["label"] == COVID)].sort_values(["probability", "case_id"], ascending=[False, True])
    wrong = scans[~is_right].assign(distance=lambda frame: (frame["probability"] - THRESHOLD).abs())
    wrong = wrong.sort_values(["label", "distance", "case_id"], ascending=[False, False, True])
    failures = wrong["case_id"].tolist()[: count // 2]
    return _in_turn(right)[: count - len(failures)] + failures


def panel_runs(study: CapStudy, results: ClassificationResults, count: int) -> list[Run]:
    """Plan the inference of the scans to show, by the models that left them out.

    Args:
        study: the study.
        results: of its runs.
        count: most scans to show.

    Returns:
        A run for each fold that has any; none without ensemble.
    """
    if not study.has_ensemble or count == 0 or results.ensemble.empty:
        return []
    chosen, rules = set(choose_panels(results, count)), results.ensemble
    by_fold: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for scan in study.data.cases:
        taken = {case_name(other["image"]) for other in by_fold[scan["fold"]]}
        if scan["case_id"] in chosen and case_name(scan["image"]) not in taken:
            by_fold[scan["fold"]].append(scan)
    found = rules[(rules["set"] == TV) & rules["w_inside"].notna()]
    rows = {int(row["fold"]): row for _, row in found.iterrows()}
    return [_run(study, fold, by_fold[fold], rows[fold]) for fold in sorted(by_fold) if by_fold[fold] and fold in rows]


def write_panel_inputs(study: CapStudy, run: Run) -> None:
    """Write what an inference of scans to show reads: their datalist, and both branches as one file of weights.

    Args:
        study: the study; the branches are trained.
        run: one of :func:`panel_runs`.
    """
    fold = _fold(run)
    names = {Path(output).parent.name for output in run.outputs}
    scans = [scan for scan in study.data.cases if scan["fold"] == fold and case_name(scan["image"]) in names]
    keys = ("case_id", "image", "lung", "infection", "ratio")
    write_json(run.places["dataset_dir"], {"cases": [{key: scan[key] for key in keys} for scan in scans]})
    branches = {"uniform": UNIFORM, "size_balanced": SIZE_BALANCED}
    joint = {}
    for name, system in branches.items():
        state = read_state_dict(study.training(system, fold).folder / study.weights)
        joint.update({f"{name}.{key}": tensor for key, tensor in state.items()})
    with atomic_path(run.places["ckpt_path"]) as temporary:
        torch.save(joint, temporary)


def remove_panel_inputs(runs: Sequence[Run]) -> None:
    """Remove what :func:`write_panel_inputs` wrote."""
    for run in runs:
        shutil.rmtree(run.places["dataset_dir"].parent, ignore_errors=True)


def panels_of(study: CapStudy, runs: Sequence[Run]) -> dict[str, Path]:
    """Figures that the runs drew, by case id; also of a run that failed at another scan."""
    by_name = {(scan["fold"], case_name(scan["image"])): scan["case_id"] for scan in study.data.cases}
    drawn = ((_fold(run), run.folder / output) for run in runs for output in run.outputs)
    return {by_name[fold, path.parent.name]: path for fold, path in drawn if path.is_file()}


def _ensemble_scans(results: ClassificationResults) -> pd.DataFrame:
    found = results.predictions
    own = found[(found["system"] == ENSEMBLE_TITLE) & (found["set"] == TV) & found["probability"].notna()]
    cases = results.cases[results.cases["set"] == TV]
    return own[["case_id", "probability"]].merge(cases[["case_id", "label", "ratio"]], on="case_id")


def _in_turn(scans: pd.DataFrame) -> list[str]:
    """Case ids, one of each band of the ratio after the other."""
    bands = scans["ratio"].map(ratio_band)
    columns = [scans.loc[bands == band, "case_id"].tolist() for band in RATIO_BANDS]
    longest = max(map(len, columns), default=0)
    return [column[place] for place in range(longest) for column in columns if place < len(column)]


def _run(study: CapStudy, fold: int, scans: Sequence[Mapping[str, Any]], rule: pd.Series) -> Run:
    name = f"panels/fold_{fold}/show"
    folder = study.folder / RUNS / name
    given = folder.parent / INPUT
    trainings = [study.training(system, fold) for system in (UNIFORM, SIZE_BALANCED, PLAIN) if system in study.systems]
    places = {"dataset_dir": given / DATALIST, "ckpt_path": given / WEIGHTS, "output_dir": folder / "eval"}
    if PLAIN in study.systems:
        places["plain_ckpt_path"] = trainings[-1].folder / study.weights
    names = [case_name(scan["image"]) for scan in scans]
    return Run(
        name=name,
        kind="panels show",
        bundle=study.bundle,
        verb=INFERENCE,
        config_files=(CONFIG,),
        folder=folder,
        overrides={**_overrides(study), **_rule(rule)},
        places=places,
        outputs=tuple(f"eval/{name}/{name}_attention.png" for name in names),
        needs=tuple(training.name for training in trainings),
        data=json.dumps([study.data.fingerprint.sha256, [scan["case_id"] for scan in scans]]),
    )


def _overrides(study: CapStudy) -> dict[str, Any]:
    """The classifiers are two branches of the inference's network, and the plain network beside them."""
    given = dict(_renamed(study.overrides))
    return overrides_for(given, [str(study.bundle / "configs" / CONFIG)])


def _renamed(overrides: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in overrides.items():
        first, *rest = key.replace("#", "::").split("::")
        for name in ("branch_def", "plain_def") if first == "network_def" else (first,):
            yield "::".join((name, *rest)), value


def _rule(rule: pd.Series) -> dict[str, list[float]]:
    pairs = {"weights": ("w_outside", "w_inside"), "ratio_thresholds": ("low", "high")}
    return {key: [float(rule[name]) for name in names] for key, names in pairs.items()}


def _fold(run: Run) -> int:
    return int(run.folder.parent.name.removeprefix("fold_"))
