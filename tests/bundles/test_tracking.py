import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.conftest import ROOT, TORCHRUN, Bundle, scalars
from tests.bundles.seg.conftest import BUNDLE as SEG
from tests.bundles.small_runs import write_small_data

mlflow = pytest.importorskip("mlflow", reason="needs mlflow: pip install mlflow")

COMMANDS = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
LEARNING = {"epochs": 2, "num_workers": 0}


@dataclass(frozen=True)
class Tracked:
    """A bundle, the settings of its short training, and what it is scored by."""

    bundle: Bundle
    overlay: str
    training: dict[str, Any]
    evaluation: dict[str, Any]
    metric: str
    score: tuple[str, str]


TRACKED = {
    "seg": Tracked(
        SEG,
        "no_attention.yaml",
        {**LEARNING, "num_folds": 4, "draws_per_image": 1, "batch_size": 3},
        {"num_folds": 4, "fold": 0},
        "mean_dice",
        ("dice", "mean"),
    ),
    "cap": Tracked(
        CAP,
        "plain.yaml",
        {**LEARNING, "fold": 0, "batch_size": 3, "cache_dir": ""},
        {"num_workers": 0, "fold": 0, "cache_dir": ""},
        "auc",
        ("overall", "auc"),
    ),
}


@pytest.fixture(scope="module", params=list(TRACKED))
def tracked(request) -> Tracked:
    return TRACKED[request.param]


@pytest.fixture(scope="module")
def data(tracked, tmp_path_factory) -> Path:
    return write_small_data(tracked.bundle, tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def trained(tracked, data, tmp_path_factory) -> SimpleNamespace:
    """A training with an overlay whose store is in a folder of its own, and the MLflow run that it left."""
    root = tmp_path_factory.mktemp("trained")
    folders = {"dataset_dir": data, "ckpt_dir": root / "models", "output_dir": root / "output"}
    store, kept = root / "store" / "new" / "runs.db", root / "used" / "config.json"
    chosen = {"tracking_uri": f"sqlite:///{store}", "save_execute_config": kept, "experiment_name": "lungs"}
    names = ["train.yaml", tracked.overlay]
    tracked.bundle.run(names, "training", tracking="mlflow", **tracked.training, **folders, **chosen)
    return SimpleNamespace(**folders, store=store, config=kept, run=only_run(store, "lungs"))


def only_run(store: Path, experiment: str = "monai_experiment") -> Any:
    """The run of a store that holds one."""
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    run.history = {
        name: [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    run.files = [entry.path for entry in client.list_artifacts(run.info.run_id)]
    return run


def test_a_training_leaves_the_losses_and_the_scores_that_tensorboard_shows(tracked, trained):
    run, name = trained.run, f"val_{tracked.metric}"
    assert run.info.status == "FINISHED"
    assert set(run.history) == {"train_loss", "lr_group_0", name}
    assert [step for step, _ in run.history["train_loss"]] == list(
        range(1, 2 * int(run.data.params["epoch_length"]) + 1)
    )
    assert [step for step, _ in run.history[name]] == [1, 2]
    for tag in ("train_loss", name):
        shown = scalars(trained.output_dir, tag)
        assert run.history[tag] == [(step, pytest.approx(value, rel=1e-5)) for step, value in shown]


def test_a_training_leaves_its_parameters_and_the_config_that_it_ran(tracked, trained):
    assert trained.run.data.params == {"max_epochs": "2", "epoch_length": "2"}
    assert trained.run.files == ["config.json"]
    artifacts = list((trained.store.parent / "mlruns").rglob("config.json"))
    assert [path.read_bytes() for path in artifacts] == [trained.config.read_bytes()]
    config = json.loads(trained.config.read_text(encoding="utf-8"))
    overlay = {"no_attention.yaml": ("network_def", "attention"), "plain.yaml": ("attention_weight",)}[tracked.overlay]
    for key in overlay:
        config = config[key]
    assert config in ("none", 0)


def test_the_store_names_no_case_and_no_patient(trained):
    cases = json.loads((trained.dataset_dir / "datalist.json").read_text(encoding="utf-8"))["cases"]
    names = {Path(case["image"]).name for case in cases}
    names |= {str(case[key]) for case in cases for key in ("patient_id", "group") if key in case}
    files = [trained.store, *(trained.store.parent / "mlruns").rglob("*.*")]
    assert len(names) > len(cases)
    assert len(files) == 2
    for file in files:
        assert not [name for name in names if name.encode() in file.read_bytes()], file


def test_an_evaluation_leaves_its_score_in_its_output_folder(tracked, data, trained, tmp_path):
    folders = {"dataset_dir": data, "ckpt_path": trained.ckpt_dir / "model.pt", "output_dir": tmp_path / "eval"}
    names = ["evaluate.yaml", *([tracked.overlay] if tracked.bundle is SEG else [])]
    tracked.bundle.run(names, "evaluating", tracking="mlflow", **tracked.evaluation, **folders)
    run = only_run(tmp_path / "eval" / "mlruns.db")
    block, score = tracked.score
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text(encoding="utf-8"))
    assert run.info.status == "FINISHED"
    assert run.history == {tracked.metric: [(1, pytest.approx(summary[block][score], abs=1e-6))]}
    assert len(list((tmp_path / "eval").glob("config_*.json"))) == 1


def test_an_inference_is_tracked_too(tracked, data, tmp_path):
    config = tracked.bundle.parser_of("inference.json")
    config.update(tracked.bundle.small)
    torch.save(config.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    image = sorted((data / "images").iterdir())[0]
    folders = {"dataset_dir": image, "ckpt_path": tmp_path / "model.pt", "output_dir": tmp_path / "out"}
    tracked.bundle.run("inference.json", tracking="mlflow", **folders)
    run = only_run(tmp_path / "out" / "mlruns.db")
    assert (run.info.status, run.data.params) == ("FINISHED", {"max_epochs": "1", "epoch_length": "1"})


def test_of_two_processes_one_tracks(tracked, data, tmp_path):
    files = tracked.bundle.config_files("train.yaml", "multi_gpu_train.json")
    folders = {"dataset_dir": data, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    settings = {**tracked.bundle.small, **tracked.training, **folders, "epochs": 1, "tracking": "mlflow"}
    done = tracked.bundle.command(tmp_path, "training", files, TORCHRUN, **settings)
    assert done.returncode == 0, done.stdout
    run = only_run(tmp_path / "output" / "mlruns.db")
    steps = [step for step, _ in run.history["train_loss"]]
    assert run.info.status == "FINISHED"
    assert steps == list(range(1, int(run.data.params["epoch_length"]) + 1))
    assert len(run.history[f"val_{tracked.metric}"]) == 1


def test_a_run_that_broke_off_is_resumed_under_its_name(tracked, data, tmp_path):
    store = tmp_path / "runs.db"
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    broken = client.create_run(client.create_experiment("monai_experiment"), run_name="first").info.run_id
    folders = {"dataset_dir": data, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    given = {**tracked.training, **folders, "epochs": 1, "tracking_uri": f"sqlite:///{store}"}
    for name in ("second", "first"):
        tracked.bundle.run("train.yaml", "training", tracking="mlflow", run_name=name, **given)
    runs = {run.info.run_name: run for run in client.search_runs([client.get_run(broken).info.experiment_id])}
    assert {name: run.info.run_id == broken for name, run in runs.items()} == {"second": False, "first": True}
    assert all(run.data.params["max_epochs"] == "1" for run in runs.values())


def test_the_commands_of_the_page_run_as_written(tracked, data, tmp_path):
    """In the real process, and with the bundle's own default places, moved away from the repository."""
    lines = re.findall(r"^python -m monai\.bundle run training .*$", COMMANDS, re.M)
    assert len(lines) == 2
    for number, line in enumerate(lines):
        words = shlex.split(line.replace("/path/to/data", str(data)).replace("/path/to/store", str(tmp_path / "store")))
        given = dict(zip((word.removeprefix("--") for word in words[5::2]), words[6::2], strict=True))
        files = tracked.bundle.config_files(Path(given.pop("config_file")).name)
        small = {**tracked.bundle.small, **tracked.training, "epochs": 1}
        done = tracked.bundle.command(
            tmp_path, "training", files, **{"bundle_root": tmp_path / str(number), **given, **small}
        )
        assert done.returncode == 0, done.stdout
    (store,) = (tmp_path / "0").rglob("mlruns.db")
    assert len(only_run(store).files) == 1
    run = only_run(tmp_path / "store" / "runs.db", "folds")
    assert (run.info.run_name, run.files) == ("fold_0", ["fold_0.json"])
