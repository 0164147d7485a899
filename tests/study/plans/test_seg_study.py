from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from custom_components.labels import LESION_CLASSES
from custom_components.study.plans.seg_study import NETWORKS, SegStudy
from custom_components.study.plans.study_data import slice_data
from custom_components.study.results.study_results import FailedRun
from custom_components.study.runs.overrides import config_content
from custom_components.study.runs.run import check_plan
from custom_components.study.runs.runner import Outcome

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_slices

BUNDLE = ROOT / "covid_seg_bundle"
SMALL = {"spatial_size": [48, 40], "network_def#features": [8, 16], "epochs": 3, "draws_per_image": 4}
FAILED = "paper/unet/augmented/fold_1"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return slice_data(write_slices(tmp_path_factory.mktemp("slices")))


@pytest.fixture
def study(data, tmp_path):
    def make(**changes) -> SegStudy:
        return SegStudy(BUNDLE, tmp_path / "study", data, **{"num_folds": 3, "overrides": SMALL, **changes})

    return make


def test_each_network_is_trained_in_both_ways_and_scored_by_both_protocols(study):
    runs = study().runs()
    check_plan(runs)
    assert [run.name.split("/")[0] for run in runs] == ["group"] * 48 + ["paper"] * 48  # one protocol after the other
    assert runs[0].name == "group/m/augmented/fold_0/train"
    assert runs[-1].name == "paper/unet/not_augmented/fold_2/evaluate"


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("augmented", [True, False])
def test_a_network_is_trained_with_its_overlays(study, network, augmented):
    kinds = {"m": ("resnext", "lsh"), "m_a": ("resnext", "none"), "m_r": ("plain", "lsh"), "unet": ("plain", "none")}
    arm = next(arm for arm in study().arms() if (arm.network, arm.augmented) == (network, augmented))
    for run in (study().training(arm), study().evaluation(arm)):
        content = config_content(run.config_paths, run.overrides)
        definition = {"encoder": "resnext", "attention": "lsh", **content["network_def"]}
        assert (definition["encoder"], definition["attention"]) == kinds[network]
        assert (definition["features"], content["spatial_size"]) == ([8, 16], [48, 40])
    training = config_content(study().training(arm).config_paths, study().training(arm).overrides)
    assert training["draws_per_image"] == (4 if augmented else 1)
    assert bool(training["train"]["random_transforms"]) == augmented


def test_a_peer_is_trained_and_scored_with_the_same_configs_if_selected(study):
    assert "flexible_unet" not in study().networks
    plan = study(networks=("m", "flexible_unet"))
    arm = next(arm for arm in plan.arms() if arm.network == "flexible_unet")
    contents = [config_content(run.config_paths, run.overrides) for run in (plan.training(arm), plan.evaluation(arm))]
    assert [content["network_def"]["_target_"] for content in contents] == ["FlexibleUNet"] * 2
    assert contents[0]["spatial_size"] == contents[1]["spatial_size"]
    assert all("features" not in content["network_def"] for content in contents)


def test_an_override_that_no_network_of_the_study_has_is_refused(study):
    with pytest.raises(ValueError, match="'network_def#features', but no run of this study has it"):
        study(networks=("flexible_unet",), overrides={"network_def#features": [8, 16]})


@pytest.mark.parametrize("augmented", [True, False])
def test_a_recipe_is_added_to_every_training_and_adds_no_augmentation(study, augmented):
    plan = study(recipe=("lesion_patches.yaml", "dice_cross_entropy.yaml"), augmentation=(augmented,))
    for arm in plan.arms():
        assert arm.augmented == augmented
        content = config_content(plan.training(arm).config_paths, plan.training(arm).overrides)
        assert content["loss"]["_target_"] == "custom_components.DiceCrossEntropy"
        assert len(content["train"]["random_transforms"]) == (3 if augmented else 0)
        assert "recipes/dice_cross_entropy.yaml" not in plan.evaluation(arm).config_files
        assert plan.evaluation(arm).overrides.get("overlay_slices") is None


def test_training_and_score_split_in_the_same_way(study):
    for arm in study(overrides={**SMALL, "seed": 5, "border": 1}).arms():
        both = (study().training(arm), study().evaluation(arm))
        splits = {tuple(run.overrides[key] for key in ("fold", "num_folds", "protocol")) for run in both}
        assert splits == {(arm.fold, 3, arm.protocol)}
        assert both[1].needs == (both[0].name,)
        assert both[1].places["ckpt_path"] == both[0].folder / both[0].outputs[0]


def test_the_split_depends_on_the_seed(study):
    folds = [
        [case["case_id"] for case in study(overrides={"seed": seed}).split("paper", 0)["validation"]] for seed in (0, 1)
    ]
    assert folds[0] != folds[1]


def test_overlays_are_drawn_only_for_augmented_networks(study):
    for arm in study().arms():
        drawn = config_content(*(lambda run: (run.config_paths, run.overrides))(study().evaluation(arm)))
        assert drawn["overlay_slices"] == (1 if arm.augmented else 0)


def test_the_protocols_are_described_in_words(study, tmp_path):
    words = study().words()
    assert list(words) == ["group", "paper"]
    assert words["group"].startswith("3 folds, group. ")
    assert "random slices: patients may leak" in words["paper"]
    blocks = SegStudy(BUNDLE, tmp_path, slice_data(write_slices(tmp_path / "b", groups=False)), num_folds=3)
    assert "contiguous blocks of cases" in blocks.words()["group"]


def test_too_many_folds_are_an_error_before_training(study):
    with pytest.raises(ValueError, match="6 groups cannot make 7 folds"):
        study(num_folds=7)


def test_two_images_with_the_same_name_in_a_fold_are_an_error_before_training(study, tmp_path):
    folder = write_slices(tmp_path / "set")
    text = (folder / "datalist.json").read_text(encoding="utf-8")
    (folder / "again").mkdir()
    (folder / "images/slice001.png").rename(folder / "again/slice000.png")
    (folder / "datalist.json").write_text(text.replace("images/slice001.png", "again/slice000.png"), encoding="utf-8")
    with pytest.raises(ValueError, match="1 names of images occur more than once: slice000"):
        SegStudy(BUNDLE, tmp_path, slice_data(folder), num_folds=3)


def write_run(run, names: list[str], first: float, overlays: bool) -> None:
    """A per_case.csv as LesionScoreTable writes it, whose numbers tell where they stand; effusion is nowhere."""
    table = pd.DataFrame({"case_id": names})
    for c, lesion in enumerate(LESION_CLASSES):
        for number, score in enumerate(("dice", "precision", "accuracy")):
            value = first + table.index + 0.1 * number + 0.01 * c
            table[f"{score}_{lesion}"] = np.nan if lesion == "pleural_effusion" else value
        table[f"pixels_true_{lesion}"], table[f"pixels_pred_{lesion}"] = c, 100 + c
    for name in names if overlays else ():
        (run.folder / "eval" / name).mkdir(parents=True)
        (run.folder / "eval" / name / f"{name}_overlay_000.png").touch()
    (run.folder / "eval").mkdir(parents=True, exist_ok=True)
    table.to_csv(run.folder / "eval/per_case.csv", index=False)


@pytest.fixture
def scored(tmp_path):
    data = slice_data(write_slices(tmp_path / "slices"))
    return SegStudy(ROOT / "covid_seg_bundle", tmp_path / "study", data, networks=("m", "unet"), num_folds=3)


@pytest.fixture
def outcome(scored):
    made = Outcome()
    for number, arm in enumerate(scored.arms()):
        run = scored.evaluation(arm)
        if arm.name == FAILED:
            made.failed.append(FailedRun(run.name, "reason"))
            continue
        names = [Path(case["image"]).stem for case in scored.split(arm.protocol, arm.fold)["validation"]]
        write_run(run, names, 10.0 * number, arm.augmented)
        made.seconds[run.name] = 1.0
    return made


@pytest.fixture
def results(scored, outcome):
    return scored.collect(outcome)


def test_each_case_is_scored_once_in_each_arm_that_is_complete(results):
    counts = results.scores.groupby(["protocol", "network", "augmented", "lesion"]).size()
    assert counts.drop(("paper", "U-Net", True)).unique().tolist() == [12]
    assert counts["paper", "U-Net", True].unique().tolist() == [8]
    own = results.scores[(results.scores["protocol"] == "group") & (results.scores["lesion"] == "ground_glass")]
    assert own.groupby(["network", "augmented"])["case_id"].nunique().unique().tolist() == [12]
    assert [run.name for run in results.failed] == [f"{FAILED}/evaluate"]


def test_cases_have_the_ids_and_columns_of_the_datalist(results):
    assert set(results.scores["case_id"]) == set(results.cases["case_id"]) == {f"c{number}" for number in range(12)}
    assert list(results.cases.columns) == ["case_id", "group", "scanner"]
    assert results.cases["scanner"].tolist() == ["A", "B"] * 6


def test_scores_belong_to_their_case_class_and_network(results, scored):
    arm = next(arm for arm in scored.arms() if arm.name == "paper/m/not_augmented/fold_2")
    first = 10.0 * list(scored.arms()).index(arm)
    case = scored.split("paper", 2)["validation"][1]["case_id"]
    own = results.scores_of("M", False, "paper").set_index("case_id").loc[case].set_index("lesion")
    assert own["fold"].tolist() == [2, 2, 2]
    row = own.loc["consolidation"]
    assert row[["dice", "precision", "accuracy"]].tolist() == pytest.approx([first + 1.01, first + 1.11, first + 1.21])
    assert row[["pixels_true", "pixels_pred"]].tolist() == [1, 101]


def test_an_absent_class_has_pixel_counts_but_no_score(results):
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


def test_a_study_without_finished_runs_has_empty_results(scored):
    nothing = scored.collect(Outcome())
    assert (len(nothing.scores), len(nothing.cases), nothing.overlays) == (0, 12, {})
    assert nothing.scores["dice"].dtype == float
