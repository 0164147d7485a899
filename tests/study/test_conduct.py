import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from custom_components.study import conduct as conduct_module
from custom_components.study.conduct import conduct, plan_text
from custom_components.study.plans.cap_study import CapStudy
from custom_components.study.plans.seg_study import SegStudy
from custom_components.study.plans.study_data import scan_data, slice_data
from custom_components.study.results.study_results import FailedRun
from custom_components.study.runs.fingerprints import code_state, run_hashes
from custom_components.study.runs.run_folder import stamp_done
from custom_components.study.runs.runner import Outcome, Runner

from tests.bundles.conftest import ROOT
from tests.study.plans.test_cap_study import write_table
from tests.study.small_data import write_scans, write_slices


class StandinRunner(Runner):
    """Executes nothing: a run is finished when it is a stand-in for one that scores or draws."""

    def __init__(self, fails: str = "nothing", panels: bool = True) -> None:
        super().__init__()
        self.fails, self.panels, self.executed = fails, panels, []

    def execute(self, runs, hashes, outcome=None) -> Outcome:
        outcome = outcome or Outcome()
        for run in runs:
            self.executed.append(run.name)
            if self.fails in run.name:
                where = f"{run.folder}/x.pt and {run.places['dataset_dir']}/1.nii.gz and {Path.home()}/me"
                outcome.failed.append(FailedRun(run.name, f"no such file: {where}"))
                continue
            assert run.name in hashes
            outcome.seconds[run.name] = 1.0
            self.pretend(run)
        return outcome

    def pretend(self, run) -> None:
        if run.name.startswith("panels"):
            with run.inputs():
                assert all(path.is_file() for path in (run.places["dataset_dir"], run.places["ckpt_path"]))
            for name in run.outputs:
                (run.folder / name).parent.mkdir(parents=True)
                (run.folder / name).touch()
        elif "train" in run.name:
            (run.folder / "models").mkdir(parents=True)
            torch.save({"w": torch.zeros(1)}, run.folder / run.outputs[0])
        else:
            scans = scan_data(run.places["dataset_dir"]).cases
            write_table(run, [scan for scan in scans if scan["fold"] == run.overrides["fold"]], 7)


@pytest.fixture
def study(tmp_path) -> CapStudy:
    data = scan_data(write_scans(tmp_path / "scans"))
    return CapStudy(ROOT / "covid_cap_bundle", tmp_path / "study", data, num_panels=3)


@pytest.fixture
def written(monkeypatch) -> list:
    """What would be reported, with its provenance and folder; nothing is drawn."""
    calls: list = []
    monkeypatch.setattr(CapStudy, "report", lambda study, outcome, resamples: outcome)
    monkeypatch.setattr(conduct_module, "write_study", lambda *given: calls.append(given))
    return calls


def test_scores_come_first_then_figures_of_single_scans_then_the_report(study, written):
    runner = StandinRunner()
    outcome = conduct(study, runner, {"bundle": "covid_cap_bundle"})
    ((_, made_with, folder),) = written
    panels = study.collect(outcome).panels
    assert outcome.failed == []
    assert folder == study.folder
    assert runner.executed[:18] == [run.name for run in study.runs()]
    assert runner.executed[18:]
    assert all(name.startswith("panels/") for name in runner.executed[18:])
    assert len(panels) == 3
    assert all(panel.path.is_file() for panel in panels)
    assert set(made_with["runs"]) == set(runner.executed)
    assert made_with["study"] == {"bundle": "covid_cap_bundle", "protocol": study.words()}
    assert not list((study.folder / "runs/panels").glob("*/input"))


def test_reported_failures_have_no_folders_of_this_machine(study, written):
    conduct(replace(study, num_panels=0), StandinRunner(fails="fold_1/train"))
    first = written[0][0].failed[0]
    assert first.name == "plain_us/fold_1/train"
    assert first.reason == "no such file: <study>/runs/plain_us/fold_1/train/x.pt and <data>/1.nii.gz and ~/me"


def test_failing_figures_do_not_change_the_rest(study, written):
    outcome = conduct(study, StandinRunner(fails="panels"))
    assert study.collect(outcome).panels == ()
    assert {run.name.split("/")[0] for run in written[0][0].failed} == {"panels"}
    assert len(outcome.seconds) == 18


def test_a_study_whose_runs_all_failed_has_a_report(study, tmp_path):
    slices = slice_data(write_slices(tmp_path / "slices"))
    seg = SegStudy(ROOT / "covid_seg_bundle", tmp_path / "seg", slices, networks=("unet",), num_folds=2)
    for own, first in ((study, "plain_us/fold_0/train"), (seg, "paper/unet/augmented/fold_0/train")):
        conduct(own, StandinRunner(fails="_"), resamples=20)
        assert first in (own.folder / "report.html").read_text(encoding="utf-8")
        assert json.loads((own.folder / "provenance.json").read_text(encoding="utf-8"))["seconds"] == 0


def test_an_old_report_is_removed_before_the_runs(study):
    class Stopped(StandinRunner):
        def execute(self, *_):
            raise KeyboardInterrupt

    study.folder.mkdir()
    (study.folder / "report.html").touch()
    with pytest.raises(KeyboardInterrupt):
        conduct(study, Stopped())
    assert not (study.folder / "report.html").exists()


def test_the_plan_lists_finished_runs_and_the_remaining_time(study):
    runs = study.runs()
    hashes = run_hashes(runs, code_state())
    for run, seconds in zip(runs[:2], (1800.0, 60.0), strict=True):
        for name in run.outputs:
            (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (run.folder / name).write_text("1", encoding="utf-8")
        stamp_done(run, hashes[run.name], seconds)
    text = plan_text(study, workers=2)
    assert (
        "| plain_us/fold_0/train | train.yaml, networks/plain.yaml, recipes/last_weights.yaml | finished in 1800 s |"
        in text
    )
    assert "18 runs, 2 finished; time left: 2 h 4 min." in text  # 8 trainings and 8 evaluations, two at once
    assert text.endswith("Then attention figures of up to 3 scans for each set and system, selected by their scores.")
    assert "attention figures" not in plan_text(replace(study, num_panels=0), workers=2)
