"""Conduct a study: execute its runs, collect what they found, and report it, whatever failed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from custom_components.study.plans.attention_panels import (
    panel_runs,
    panels_of,
    remove_panel_inputs,
    write_panel_inputs,
)
from custom_components.study.plans.cap_plan import CapStudy
from custom_components.study.plans.collect_cap import collect_cap
from custom_components.study.plans.collect_seg import collect_seg
from custom_components.study.plans.seg_plan import SegStudy
from custom_components.study.report.study_report import HTML_NAME
from custom_components.study.results.study_results import ClassificationResults, FailedRun, SegmentationResults
from custom_components.study.runs.data_fingerprint import DataFingerprint
from custom_components.study.runs.provenance import provenance
from custom_components.study.runs.run import Run
from custom_components.study.runs.run_hash import code_state, run_hashes
from custom_components.study.runs.run_stamp import finished_seconds
from custom_components.study.runs.run_times import in_words, seconds_left
from custom_components.study.runs.runner import Outcome, Runner

Study = CapStudy | SegStudy
Results = ClassificationResults | SegmentationResults
Write = Callable[[Any, dict[str, Any], Path], object]


def conduct(
    study: Study, runner: Runner, write: Write, num_panels: int = 6, settings: Mapping[str, Any] | None = None
) -> Outcome:
    """Execute the runs of a study and report their results.

    Args:
        study: what is planned.
        runner: executes it.
        write: writes results and provenance into a folder.
        num_panels: most attention figures of covid_cap_bundle.
        settings: of the study, for its provenance.

    Returns:
        What became of the runs.
    """
    (study.folder / HTML_NAME).unlink(missing_ok=True)  # of an earlier state: where it is, the study is complete
    code, runs = code_state(), study.runs()
    hashes = run_hashes(runs, code)
    outcome = runner.execute(runs, hashes)
    results = collect(study, outcome)
    if isinstance(study, CapStudy) and isinstance(results, ClassificationResults):
        shown = panel_runs(study, results, num_panels)
        hashes = run_hashes(shown, code, hashes)
        _show(study, shown, runner, hashes, outcome)
        results, runs = replace(results, panels=panels_of(study, shown), failed=tuple(outcome.failed)), [*runs, *shown]
    made_with = provenance(runs, hashes, outcome, data_of(study), {**(settings or {}), "protocol": study.words()}, code)
    write(_without_places(results, study), made_with, study.folder)
    return outcome


def collect(study: Study, outcome: Outcome) -> Results:
    """Results of the runs that are finished."""
    return collect_cap(study, outcome) if isinstance(study, CapStudy) else collect_seg(study, outcome)


def data_of(study: Study) -> dict[str, DataFingerprint]:
    """Fingerprints of the data sets of a study."""
    test = study.test if isinstance(study, CapStudy) else None
    return {"folds": study.data.fingerprint} | ({} if test is None else {"test": test.fingerprint})


def plan_text(study: Study, num_panels: int, workers: int) -> str:
    """The runs of a study as Markdown, with those that are finished, and the time that the others may take."""
    runs = study.runs()
    hashes = run_hashes(runs, code_state())
    finished = {run.name: finished_seconds(run, hashes[run.name]) for run in runs}
    seconds = {name: value for name, value in finished.items() if value is not None}
    waiting = [run for run in runs if run.name not in seconds]
    left_s = seconds_left(waiting, seconds, {run.name: run.kind for run in runs}, workers)
    rows = [f"| {run.name} | {', '.join(run.config_files)} | {_state(seconds.get(run.name))} |" for run in runs]
    panels = isinstance(study, CapStudy) and study.has_ensemble and num_panels > 0
    later = [f"Then attention figures of up to {num_panels} scans, chosen among the scores."] if panels else []
    counts = f"{len(runs)} runs, {len(seconds)} of them finished; time left: {in_words(left_s) if waiting else 'none'}."
    return "\n".join(["| run | configs | |", "|---|---|---|", *rows, "", counts, *later])


def _show(study: CapStudy, shown: Sequence[Run], runner: Runner, hashes: Mapping[str, str], outcome: Outcome) -> None:
    """Execute the inference of the scans to show."""
    try:
        for run in shown:
            trained = all(name in outcome.seconds for name in run.needs)
            if trained and finished_seconds(run, hashes[run.name]) is None:
                write_panel_inputs(study, run)
        if shown:
            runner.execute(shown, hashes, outcome)
    finally:
        remove_panel_inputs(shown)


def _state(seconds: float | None) -> str:
    return "" if seconds is None else f"finished in {seconds:.0f} s"


def _without_places(results: Results, study: Study) -> Results:
    """Reasons of failures without the folders of this machine."""
    roots = {str(study.folder): "<study>", str(study.data.root): "<data>", str(Path.home()): "~"}
    failed = []
    for run in results.failed:
        reason = run.reason
        for root, word in roots.items():
            reason = reason.replace(root, word)
        failed.append(FailedRun(run.name, reason))
    return replace(results, failed=tuple(failed))
