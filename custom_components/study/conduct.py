"""Execute the runs of a study, collect their results and write the report, even if some runs failed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from custom_components.study.plans.study import Study
from custom_components.study.report.study_report import HTML_NAME, RESAMPLES, write_study
from custom_components.study.results.study_results import FailedRun
from custom_components.study.runs.fingerprints import code_state, run_hashes
from custom_components.study.runs.provenance import provenance
from custom_components.study.runs.run import Run
from custom_components.study.runs.run_folder import finished_seconds
from custom_components.study.runs.run_times import expected_seconds, in_words
from custom_components.study.runs.runner import Outcome, Runner
from custom_components.study.runs.schedule import end_times, longest_chain

# Numbers of parallel runs for which a dry run gives the time left.
WORKERS_SHOWN = (1, 4, 8)


def conduct(
    study: Study, runner: Runner, settings: Mapping[str, Any] | None = None, resamples: int = RESAMPLES
) -> Outcome:
    """Execute the runs of a study and report their results.

    Args:
        study: planned runs and their report.
        runner: executes the runs.
        settings: options of the study, recorded in its provenance.
        resamples: number of bootstrap resamples.

    Returns:
        Outcome of the runs.
    """
    (study.folder / HTML_NAME).unlink(missing_ok=True)  # an old report would mark the study as complete
    code, runs = code_state(), study.runs()
    hashes = run_hashes(runs, code)
    outcome = runner.execute(runs, hashes)
    later = study.later_runs(outcome)
    hashes = run_hashes(later, code, hashes)
    if later:
        runner.execute(later, hashes, outcome)
    data = {name: own.fingerprint for name, own in study.data_sets.items()}
    options = {**(settings or {}), "protocol": dict(study.words())}
    made_with = provenance([*runs, *later], hashes, outcome, data, options, code)
    report = study.report(replace(outcome, failed=_without_places(outcome.failed, study)), resamples)
    write_study(report, made_with, study.folder)
    return outcome


def plan_text(study: Study, workers: int) -> str:
    """List the runs of a study as Markdown, with finished runs and the estimated time for the others."""
    runs = study.runs()
    hashes = run_hashes(runs, code_state())
    finished = {run.name: finished_seconds(run, hashes[run.name]) for run in runs}
    seconds = {name: value for name, value in finished.items() if value is not None}
    waiting = [run for run in runs if run.name not in seconds]
    expected = expected_seconds(waiting, seconds, {run.name: run.kind for run in runs}, study.estimates())
    left_s = None if expected is None else _left_s(waiting, expected, workers)
    states = {name: f"finished in {value:.0f} s" for name, value in seconds.items()}
    rows = [f"| {run.name} | {', '.join(run.config_files)} | {states.get(run.name, '')} |" for run in runs]
    counts = f"{len(runs)} runs, {len(seconds)} finished; time left: {in_words(left_s) if waiting else 'none'}."
    further = [*_times(waiting, expected, workers), *filter(None, (study.estimate_words, study.later_words))]
    return "\n".join(["| run | configs | |", "|---|---|---|", *rows, "", counts, *further])


def _left_s(waiting: Sequence[Run], expected: Mapping[str, float], workers: int) -> float:
    return max(end_times(waiting, expected, workers).values(), default=0.0)


def _times(waiting: Sequence[Run], expected: Mapping[str, float] | None, workers: int) -> list[str]:
    """Time left by the number of parallel runs, as Markdown; empty if it is not known or nothing is left."""
    if not waiting or expected is None:
        return []
    counts = sorted({*WORKERS_SHOWN, workers})
    rows = [f"| {count} | {in_words(_left_s(waiting, expected, count))} |" for count in counts]
    chain = f"The longest chain of runs that need each other takes {in_words(longest_chain(waiting, expected))}."
    return ["", "| parallel runs (one per GPU) | time left |", "|---|---|", *rows, "", chain]


def _without_places(failed: Sequence[FailedRun], study: Study) -> list[FailedRun]:
    """Replace folders of this machine in the failure reasons."""
    data = {str(own.root): "<data>" for own in study.data_sets.values()}
    found = []
    for run in failed:
        reason = run.reason
        for root, word in {str(study.folder): "<study>", **data, str(Path.home()): "~"}.items():
            reason = reason.replace(root, word)
        found.append(FailedRun(run.name, reason))
    return found
