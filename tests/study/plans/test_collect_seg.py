import csv
from pathlib import Path

import pytest
from custom_components.labels import LESION_CLASSES
from custom_components.study.plans.collect_seg import collect_seg
from custom_components.study.plans.seg_plan import SegStudy
from custom_components.study.plans.study_data import slice_data
from custom_components.study.results.study_results import FailedRun
from custom_components.study.runs.runner import Outcome

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_slices

FAILED = "paper/unet/augmented/fold_1"


def write_run(run, names: list[str], first: float, overlays: bool) -> None:
    """A per_case.csv as LesionScoreTable writes it, whose numbers tell where they stand; effusion is nowhere."""
    folder = run.folder / "eval"
    folder.mkdir(parents=True)
    rows = []
    for place, name in enumerate(names):
        row = {"case_id": name}
        for number, score in enumerate(("dice", "precision", "accuracy")):
            row |= {
                f"{score}_{lesion}": first + place + 0.1 * number + 0.01 * c for c, lesion in enumerate(LESION_CLASSES)
            }
            row[f"{score}_pleural_effusion"] = ""
        for number, side in enumerate(("true", "pred")):
            row |= {f"pixels_{side}_{lesion}": 100 * number + c for c, lesion in enumerate(LESION_CLASSES)}
        rows.append(row)
        if overlays:
            (folder / name).mkdir()
            (folder / name / f"{name}_overlay_000.png").touch()
    with (folder / "per_case.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def study(tmp_path):
    data = slice_data(write_slices(tmp_path / "slices"), None)
    return SegStudy(ROOT / "covid_seg_bundle", tmp_path / "study", data, networks=("m", "unet"), num_folds=3)


@pytest.fixture
def outcome(study):
    made = Outcome()
    for number, arm in enumerate(study.arms()):
        run = study.evaluation(arm)
        if arm.name == FAILED:
            made.failed.append(FailedRun(run.name, "reason"))
            continue
        names = [Path(case["image"]).stem for case in study.split(arm.protocol, arm.fold)["validation"]]
        write_run(run, names, 10.0 * number, arm.augmented)
        made.seconds[run.name] = 1.0
    return made


@pytest.fixture
def results(study, outcome):
    return collect_seg(study, outcome)


def test_each_case_is_scored_once_in_each_arm_that_is_complete(results):
    counts = results.scores.groupby(["protocol", "network", "augmented", "lesion"]).size()
    assert counts.drop(("paper", "U-Net", True)).unique().tolist() == [12]
    assert counts["paper", "U-Net", True].unique().tolist() == [8]
    own = results.scores[(results.scores["protocol"] == "group") & (results.scores["lesion"] == "ground_glass")]
    assert own.groupby(["network", "augmented"])["case_id"].nunique().unique().tolist() == [12]


def test_cases_have_the_datalists_names_and_columns_and_not_the_files(results):
    assert set(results.scores["case_id"]) == set(results.cases["case_id"]) == {f"c{number}" for number in range(12)}
    assert list(results.cases.columns) == ["case_id", "group", "scanner"]
    assert results.cases["scanner"].tolist() == ["A", "B"] * 6


def test_numbers_stand_where_they_belong(results, study):
    arm = next(arm for arm in study.arms() if arm.name == "paper/m/not_augmented/fold_2")
    first = 10.0 * list(study.arms()).index(arm)
    case = study.split("paper", 2)["validation"][1]["case_id"]
    scores = results.scores
    own = scores[
        (scores["protocol"] == "paper")
        & (scores["network"] == "M")
        & ~scores["augmented"]
        & (scores["case_id"] == case)
    ].set_index("lesion")
    assert own["fold"].tolist() == [2, 2, 2]
    row = own.loc["consolidation"]
    assert row[["dice", "precision", "accuracy"]].tolist() == pytest.approx([first + 1.01, first + 1.11, first + 1.21])
    assert row[["pixels_true", "pixels_pred"]].tolist() == [1, 101]


def test_a_class_that_is_nowhere_has_no_score_and_its_pixels(results):
    effusion = results.scores[results.scores["lesion"] == "pleural_effusion"]
    assert effusion[["dice", "precision", "accuracy"]].isna().all().all()
    assert (effusion["pixels_true"] == 2).all()


def test_overlays_are_those_of_the_augmented_networks(results):
    assert len(results.overlays) == 2 * 2 * 12 - 4
    key, path = next(iter(results.overlays.items()))
    assert key[:2] == ("M", "group")
    assert path.is_file()
    assert "augmented" in path.parts
    number = int(key[2].removeprefix("c"))
    assert path.name == f"slice{number:03d}_overlay_000.png"


def test_the_protocol_that_counts_comes_first(results):
    assert list(results.protocols) == ["group", "paper"]
    assert results.networks == ("M", "U-Net")
    assert [run.name for run in results.failed] == [f"{FAILED}/evaluate"]


def test_a_study_of_which_nothing_is_finished_has_results_without_rows(study):
    nothing = collect_seg(study, Outcome())
    assert (len(nothing.scores), len(nothing.cases), nothing.overlays) == (0, 12, {})
    assert nothing.scores["dice"].dtype == float
