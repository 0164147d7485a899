"""Conduct a study: execute its runs, collect what they found, and report it, whatever failed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from custom_components.study.plans.study_data import StudyData
from custom_components.study.report.study_report import HTML_NAME, RESAMPLES, Report, write_study
from custom_components.study.results.study_results import FailedRun
from custom_components.study.runs.fingerprints import code_state, run_hashes
from custom_components.study.runs.provenance import provenance
from custom_components.study.runs.run import Run
from custom_components.study.runs.run_folder import finished_seconds
from custom_components.study.runs.run_times import in_words, seconds_left
from custom_components.study.runs.runner import Outcome, Runner


class Study(Protocol):
    """What is planned for a bundle, and how its results are reported."""

    @property
    def folder(self) -> Path:
        """Of the study."""

    @property
    def bundle(self) -> Path:
        """Folder of the bundle."""

    @property
    def data_sets(self) -> Mapping[str, StudyData]:
        """What is read, by what it is for."""

    @property
    def later_words(self) -> str:
        """What the later runs will do; empty when that is nothing."""

    def words(self) -> Mapping[str, str]:
        """The protocols in words, by their names."""

    def runs(self) -> list[Run]:
        """What can be planned from the data alone."""

    def later_runs(self, outcome: Outcome) -> list[Run]:
        """What is planned from the scores of the finished runs."""

    def report(self, outcome: Outcome, resamples: int = RESAMPLES) -> Report:
        """Tables and figures of the finished runs."""


def conduct(
    study: Study, runner: Runner, settings: Mapping[str, Any] | None = None, resamples: int = RESAMPLES
) -> Outcome:
    """Execute the runs of a study and report their results.

    Args:
        study: what is planned.
        runner: executes it.
        settings: of the study, for its provenance.
        resamples: of every bootstrap.

    Returns:
        What became of the runs.
    """
    (study.folder / HTML_NAME).unlink(missing_ok=True)  # of an earlier state: where it is, the study is complete
    code, runs = code_state(), study.runs()
    hashes = run_hashes(runs, code)
    outcome = runner.execute(runs, hashes)
    later = study.later_runs(outcome)
    hashes = run_hashes(later, code, hashes)
    if later:
        runner.execute(later, hashes, outcome)
    data = {name: own.fingerprint for name, own in study.data_sets.items()}
    told = {**(settings or {}), "protocol": dict(study.words())}
    made_with = provenance([*runs, *later], hashes, outcome, data, told, code)
    report = study.report(replace(outcome, failed=_without_places(outcome.failed, study)), resamples)
    write_study(report, made_with, study.folder)
    return outcome


def plan_text(study: Study, workers: int) -> str:
    """The runs of a study as Markdown, with those that are finished, and the time that the others may take."""
    runs = study.runs()
    hashes = run_hashes(runs, code_state())
    finished = {run.name: finished_seconds(run, hashes[run.name]) for run in runs}
    seconds = {name: value for name, value in finished.items() if value is not None}
    waiting = [run for run in runs if run.name not in seconds]
    left_s = seconds_left(waiting, seconds, {run.name: run.kind for run in runs}, workers)
    states = {name: f"finished in {value:.0f} s" for name, value in seconds.items()}
    rows = [f"| {run.name} | {', '.join(run.config_files)} | {states.get(run.name, '')} |" for run in runs]
    counts = f"{len(runs)} runs, {len(seconds)} of them finished; time left: {in_words(left_s) if waiting else 'none'}."
    later = [study.later_words] if study.later_words else []
    return "\n".join(["| run | configs | |", "|---|---|---|", *rows, "", counts, *later])


def _without_places(failed: Sequence[FailedRun], study: Study) -> list[FailedRun]:
    """Reasons of failures without the folders of this machine."""
    data = {str(own.root): "<data>" for own in study.data_sets.values()}
    found = []
    for run in failed:
        reason = run.reason
        for root, word in {str(study.folder): "<study>", **data, str(Path.home()): "~"}.items():
            reason = reason.replace(root, word)
        found.append(FailedRun(run.name, reason))
    return found
