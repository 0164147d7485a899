"""VB-Net's configs: segment_train.yaml and segment_evaluate.yaml, on phantoms."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from custom_components import VBNet
from custom_components.images.ct_reader import CTReader
from custom_components.phantom import write_scan_dataset
from custom_components.transforms.lungs.segment_lungs import (
    OVERLAP,
    PATCH_SIZE,
    SPACING_MM,
    WINDOW_HU,
    segment_lungs_and_infection,
)
from monai.transforms import LoadImage

from tests.bundles.cap.conftest import datalist_of, write_datalist
from tests.bundles.conftest import ROOT, Bundle, as_without_card, class_name, epochs_kept, knobs_of, rows_of, scalars

TRAIN, EVALUATE = "segment_train.yaml", "segment_evaluate.yaml"
NETWORK = {"features": [8, 16, 32], "convolutions": [1, 2], "bottleneck_from": 32}
GRID = {"spacing_mm": [4.4, 4.8, 6.0], "patch_size": [64, 64, 32], "amp": False}
SMALL = {**GRID, **{f"network_def#{key}": value for key, value in NETWORK.items()}}
PATCHES = {"draw_size": [80, 72, 40], "draws_per_scan": 4, "batch_size": 2, "num_workers": 0}
GOLDEN = {**PATCHES, "epochs": 9, "val_interval": 3, "learning_rate": 0.005, "fold": 1}

SCANS, FOLDS = 16, 4

BUNDLE = Bundle(ROOT / "covid_cap_bundle", SMALL)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Phantoms fine enough for a thin rim of lung to be more than one voxel."""
    return write_scan_dataset(
        tmp_path_factory.mktemp("chests") / "set", SCANS, (88, 80, 40), (4.1, 4.4, 7.0), num_folds=FOLDS
    )


def train(scans, root, **options):
    """The golden run: a shrunken VB-Net."""
    run = SimpleNamespace(dataset_dir=scans, ckpt_dir=root / "models", output_dir=root / "output")
    BUNDLE.run(TRAIN, "training", **{**GOLDEN, **options, **vars(run)})
    run.model = root / "models" / "model.pt"
    return run


def evaluate(run, folder):
    files = {"dataset_dir": run.dataset_dir, "ckpt_path": run.model, "output_dir": folder}
    BUNDLE.run(EVALUATE, "evaluating", **files, fold=1, overlay_slices=1)
    return folder


@pytest.fixture(scope="module")
def segmented(scans, tmp_path_factory):
    """The beginning of the golden run, trained once for all tests: enough for the lungs."""
    return train(scans, tmp_path_factory.mktemp("segment"), epochs=3)


@pytest.fixture(scope="module")
def evaluated(segmented, tmp_path_factory):
    return evaluate(segmented, tmp_path_factory.mktemp("eval"))


def test_the_training_has_what_monai_and_its_tools_ask_for(scans, tmp_path):
    folders = {"dataset_dir": scans, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    workflow = BUNDLE.workflow(TRAIN, **SMALL, **PATCHES, **folders)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_both_configs_have_the_same_network_and_grid():
    train, evaluate = BUNDLE.parser_of(TRAIN), BUNDLE.parser_of(EVALUATE)
    for key in ("spacing_mm", "window_hu", "patch_size", "window_overlap"):
        assert train.get(key) == as_without_card(evaluate.get(key))
    channels = ("spatial_dims", "in_channels", "out_channels")
    assert [train["network_def"][name] for name in channels] == [evaluate["network_def"][name] for name in channels]
    assert evaluate["network_def"]["network"]["_target_"] == train["network_def"]["_target_"]
    assert tuple(train.get("spacing_mm")) == SPACING_MM
    assert (tuple(train.get("patch_size")), train.get("window_overlap")) == (PATCH_SIZE, OVERLAP)
    assert tuple(train.get("window_hu")) == WINDOW_HU


def test_the_shipped_network_is_the_default_one():
    parser = BUNDLE.parser_of(TRAIN)
    parser["bundle_root"] = str(BUNDLE.folder)
    network = parser.get_parsed_content("network_def")
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    assert shapes == {name: value.shape for name, value in VBNet().state_dict().items()}


def test_what_is_to_be_set_stands_on_top():
    knobs = knobs_of(BUNDLE.folder / "configs" / TRAIN)
    assert knobs >= {
        "dataset_dir",
        "fold",
        "spacing_mm",
        "patch_size",
        "epochs",
        "learning_rate",
        "batch_size",
        "resume",
    }


def test_the_parts_are_monai_s():
    parser = BUNDLE.parser_of(TRAIN)
    parser["device"] = "$torch.device('cpu')"
    assert class_name(parser.get_parsed_content("loss")) == "DiceCELoss"
    assert class_name(parser.get_parsed_content("optimizer")) == "AdamW"


def test_patches_have_their_size_and_their_intensities_stay_in_the_window(scans):
    parser = BUNDLE.parser_of(TRAIN)
    parser.update({"dataset_dir": str(scans), **GRID, **PATCHES})
    dataset = parser.get_parsed_content("train#dataset")
    greys = []
    for index in range(6):
        (patch,) = dataset[index]
        assert patch["image"].shape == patch["label"].shape == (1, *GRID["patch_size"])
        assert set(np.unique(patch["label"])) <= {0, 1, 2}
        assert 0 <= patch["image"].min() <= patch["image"].max() <= 1
        inside = patch["image"][patch["label"] == 1]
        greys += [float(inside.median())] if inside.numel() > 100 else []
    assert np.ptp(greys) > 0.02  # each patch has its own curve


def test_lungs_are_learned(evaluated):
    summary = json.loads((evaluated / "summary.json").read_text(encoding="utf-8"))
    assert summary["dice_lung"]["min"] > 0.85


@pytest.mark.slow  # three minutes of one core
def test_lungs_and_infection_are_learned(scans, tmp_path):
    folder = evaluate(train(scans, tmp_path), tmp_path / "eval")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["dice_lung"]["min"] > 0.9
    assert summary["surface_dice_lung"]["mean"] > 0.5
    assert summary["dice_infection"]["max"] > 0.25  # of the scan with much of it; the other has 2.5 ml


def test_the_fold_that_did_not_train_is_scored(segmented, evaluated):
    split = json.loads((segmented.ckpt_dir / "split.json").read_text(encoding="utf-8"))
    rows = rows_of(evaluated / "per_case.csv")
    held_out = sorted(case["case_id"] for case in datalist_of(segmented.dataset_dir) if case["fold"] == 1)
    assert sorted(row["case_id"] for row in rows) == held_out
    assert split["protocol"] == f"fold 1 of {FOLDS}, by patient"


def test_every_case_has_an_overlay(evaluated):
    rows = rows_of(evaluated / "per_case.csv")
    for row in rows:
        (figure,) = (evaluated / row["case_id"]).iterdir()
        assert figure.read_bytes().startswith(b"\x89PNG")


def test_scores_of_training_and_evaluation_agree(segmented, evaluated):
    """One on the network's grid, the other on the scans' own."""
    rows = rows_of(evaluated / "per_case.csv")
    dice = [float(row[f"dice_{name}"]) for row in rows for name in ("lung", "infection") if row[f"dice_{name}"]]
    best = max(value for _, value in scalars(segmented.output_dir, "val_mean_dice"))
    assert np.mean(dice) == pytest.approx(best, abs=0.06)


def test_the_loss_falls(segmented):
    losses = [value for _, value in scalars(segmented.output_dir, "train_loss")]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:3])


def test_a_ct_is_segmented_by_the_trained_network(segmented):
    network = VBNet(**NETWORK)
    network.load_state_dict(torch.load(segmented.model, weights_only=True))
    case = next(case for case in datalist_of(segmented.dataset_dir) if case["fold"] == 1)
    image, lung = (
        LoadImage(reader=CTReader(), ensure_channel_first=True)(segmented.dataset_dir / case[key])
        for key in ("image", "lung")
    )
    lungs, _ = segment_lungs_and_infection(image, network, **GRID)
    both = float(((lungs > 0) & (lung > 0)).sum())
    assert 2 * both / float((lungs > 0).sum() + (lung > 0).sum()) > 0.9
    assert np.unique(lungs).tolist() == [0, 1, 2]


@pytest.mark.slow
def test_training_resumes_where_it_stopped(scans, tmp_path):
    folders = {"dataset_dir": scans, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    short = {**GOLDEN, "draws_per_scan": 1, "val_interval": 1}
    BUNDLE.run(TRAIN, "training", **{**short, **folders, "epochs": 1})
    BUNDLE.run(TRAIN, "training", **{**short, **folders, "epochs": 2, "resume": True})
    assert epochs_kept(tmp_path / "models") == [1, 2]
    assert [step for step, _ in scalars(tmp_path / "output", "val_mean_dice")] == [1, 2]


def test_scans_of_one_disease_are_enough(scans, tmp_path):
    cases = [case for case in datalist_of(scans) if case["label"] == "covid"]
    for case in cases:
        case.update({key: str(scans / case[key]) for key in ("image", "lung", "infection")})
    (tmp_path / "covid").mkdir()
    dataset = write_datalist(tmp_path / "covid", cases)
    folders = {"dataset_dir": dataset, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    BUNDLE.run(TRAIN, "training", **{**GOLDEN, **folders, "epochs": 1, "val_interval": 1, "draws_per_scan": 1})
    assert len(cases) == SCANS // 2
    assert (tmp_path / "models" / "model.pt").is_file()
