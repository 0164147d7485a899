"""No file of weights, no checkpoint, no cache and no archive can run a command, whichever way it comes in."""

import shutil
import subprocess
import sys
from contextlib import suppress
from types import ModuleType

import pytest
import torch
from custom_components.data.scan_cache import ScanCache
from custom_components.datasets.covid20_slices import convert_covid20_slices
from custom_components.datasets.ct_excerpts import convert_ct_excerpts
from custom_components.diagnosis.command import diagnose
from custom_components.engines.root_cause import root_cause
from monai.bundle import load
from monai.transforms import Lambda

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.cap.conftest import EVALUATION as CAP_EVALUATION
from tests.bundles.cap.conftest import GOLDEN as CAP_TRAINING
from tests.bundles.cap.test_segment import BUNDLE as SEGMENT
from tests.bundles.cap.test_segment import PATCHES
from tests.bundles.conftest import ROOT, Bundle
from tests.bundles.seg.conftest import BUNDLE as SEG
from tests.bundles.seg.conftest import TRAINING as SEG_TRAINING
from tests.security.conftest import FORMS, Payload

TRAININGS = {
    "classifier": (CAP, "train.yaml", "few_scans", {**CAP_TRAINING, "epochs": 1, "fold": 0}),
    "VB-Net": (SEGMENT, "segment_train.yaml", "few_scans", {**PATCHES, "epochs": 1, "fold": 0}),
    "lesion classes": (SEG, "train.yaml", "few_slices", {**SEG_TRAINING, "num_folds": 2, "draws_per_image": 1}),
}
EVALUATIONS = {
    "classifier": (CAP, ["evaluate.yaml"], "few_scans", {**CAP_EVALUATION, "fold": 0}),
    "VB-Net": (SEGMENT, ["segment_evaluate.yaml"], "few_scans", {"fold": 0}),
    "lesion classes": (SEG, ["evaluate.yaml"], "few_slices", {"fold": 0, "num_folds": 2}),
}
OPTIONS = ("cap_weights", "seg_weights", "segment_weights")
INFERENCES = {
    "classifier": (CAP, "ckpt_path"),
    "plain classifier": (CAP, "plain_ckpt_path"),
    "VB-Net": (CAP, "segment_ckpt_path"),
    "lesion classes": (SEG, "ckpt_path"),
}


def each(names, in_all_forms: str):
    """Every name with one form of file, one of them with all."""
    pairs = [(name, form) for name in names for form in (FORMS if name == in_all_forms else ("torch",))]
    return pytest.mark.parametrize(("name", "malicious"), pairs, indirect=["malicious"])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def refused(bundle: Bundle, files, run_id: str, words: str, **overrides) -> None:
    with pytest.raises(RuntimeError) as caught:
        bundle.run(files, run_id, **overrides)
    message = root_cause(caught.value)
    assert words in message
    assert "contains objects other than tensors" in message


def test_the_payload_does_run_where_objects_are_unpickled(tmp_path):
    """Without this, nothing that follows would be worth anything."""
    for name, write in FORMS.items():
        path = tmp_path / "weights.pt"
        write({"weight": Payload(tmp_path / name)}, path)
        with suppress(RuntimeError):  # of what comes behind the payload
            torch.load(path, weights_only=False)
        assert (tmp_path / name).exists()


@each(TRAININGS, "lesion classes")
def test_a_training_does_not_resume_from_it(name, malicious, request, tmp_path):
    bundle, config, data, overrides = TRAININGS[name]
    (tmp_path / "models").mkdir()
    malicious.rename(tmp_path / "models" / "resume_checkpoint_epoch=1.pt")
    folders = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "out", "cache_dir": tmp_path / "cache"}
    folders = {key: path for key, path in folders.items() if key in bundle.parser_of(config)}
    folders["dataset_dir"] = request.getfixturevalue(data)
    refused(bundle, config, "training", "cannot be resumed from", **overrides, **folders, resume=True)


@pytest.mark.parametrize("malicious", ["torch"], indirect=True)
def test_a_training_does_not_start_from_it(malicious, few_scans, tmp_path):
    folders = {"dataset_dir": few_scans, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "out"}
    bundle, config, _, overrides = TRAININGS["VB-Net"]
    refused(bundle, config, "training", "malicious.pt", **overrides, **folders, init_ckpt_path=malicious)


@each(EVALUATIONS, "lesion classes")
def test_an_evaluation_does_not_load_it(name, malicious, request, tmp_path):
    bundle, files, data, overrides = EVALUATIONS[name]
    folders = {"output_dir": tmp_path / "out", "cache_dir": tmp_path / "cache"}
    folders = {key: path for key, path in folders.items() if key in bundle.parser_of(*files)}
    folders["dataset_dir"] = request.getfixturevalue(data)
    refused(bundle, files, "evaluating", "malicious.pt", **overrides, **folders, ckpt_path=malicious)


@pytest.mark.parametrize("malicious", ["torch"], indirect=True)
@pytest.mark.parametrize("key", ["uniform_ckpt_path", "size_balanced_ckpt_path"])
def test_an_ensemble_does_not_load_it(key, malicious, few_scans, tmp_path):
    weights = tmp_path / "good.pt"
    torch.save(CAP.workflow("train.yaml", **CAP.small).parser.get_parsed_content("network_def").state_dict(), weights)
    branches = {"uniform_ckpt_path": weights, "size_balanced_ckpt_path": weights, key: malicious}
    folders = {"dataset_dir": few_scans, "output_dir": tmp_path / "out", "cache_dir": tmp_path / "cache"}
    folders["model_path"] = tmp_path / "model.pt"
    files = ["evaluate.yaml", "ensemble.yaml"]
    refused(CAP, files, "evaluating", "malicious.pt", **{**CAP_EVALUATION, "fold": 0}, **folders, **branches)


@each(INFERENCES, "lesion classes")
def test_an_inference_does_not_load_it(name, malicious, one_scan, tmp_path):
    bundle, key = INFERENCES[name]
    folders = {"dataset_dir": one_scan, "output_dir": tmp_path / "out"}
    if key != "ckpt_path":
        network = bundle.parser_of("inference.json")
        network.update(bundle.small)
        torch.save(network.get_parsed_content("network_def").state_dict(), tmp_path / "good.pt")
        folders["ckpt_path"] = tmp_path / "good.pt"
    refused(bundle, "inference.json", "run", "malicious.pt", **{**folders, key: malicious})


@each(OPTIONS, "seg_weights")
def test_diagnose_does_not_load_it(name, malicious, bundles, one_scan, tmp_path):
    with pytest.raises(
        ValueError, match=r"malicious.pt cannot be read as tensors: it contains objects other than tensors"
    ):
        diagnose(str(one_scan), str(tmp_path / "out"), bundles_dir=str(bundles), **{name: str(malicious)})


def test_diagnose_hands_no_objects_to_lungmask(malicious, bundles, one_scan, tmp_path, monkeypatch):
    """The package lungmask calls torch.load without a word on objects."""
    package = ModuleType("lungmask")
    package.__spec__ = object()
    package.LMInferer = lambda modelpath, **_: torch.load(modelpath, weights_only=False)
    monkeypatch.setitem(sys.modules, "lungmask", package)
    with pytest.raises(ValueError, match="contains objects other than tensors"):
        diagnose(str(one_scan), str(tmp_path / "out"), bundles_dir=str(bundles), lungmask_weights=str(malicious))


def test_a_file_of_the_cache_is_made_again(malicious, tmp_path, caplog):
    item = {"case_id": "a", "image": str(tmp_path / "a.txt"), "label": 1}
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")

    def read(item):
        return {**item, "image": torch.ones(1, 2, 3, 4)}

    cache = ScanCache([item], Lambda(read), tmp_path / "cache")
    malicious.rename(cache.cache_file(item))
    assert cache[0]["image"].shape == (1, 2, 3, 4)
    assert "Case a: its cache file is broken" in caplog.text
    assert torch.load(cache.cache_file(item), weights_only=True)["label"] == 1


@pytest.mark.parametrize("convert", [convert_covid20_slices, convert_ct_excerpts])
def test_an_archive_of_slices_is_refused(npz, tmp_path, convert):
    with pytest.raises(ValueError, match=r"volume_0001(\.npz)? cannot be read: Object arrays cannot be loaded"):
        convert(npz(), tmp_path / "converted")


def test_monai_itself_loads_no_objects(malicious, tmp_path, monkeypatch):
    """`monai.bundle.load`, by which other programs take a bundle's network."""
    from tests.ecosystem.small_bundle import small_bundle

    folder = small_bundle(ROOT / "covid_seg_bundle", tmp_path / "covid_seg_bundle", SEG.small)
    shutil.copyfile(malicious, folder / "models" / "model.pt")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(Exception, match="Weights only load failed"):
        load("covid_seg_bundle", bundle_dir=str(tmp_path), source="github")


LOADS = r"torch\.load|np\.load|pickle\.load|joblib|yaml\.(?!safe_)\w*load|(?<![.\w])(eval|exec)\(|os\.system|shell=True"


def test_nothing_that_is_shipped_unpickles_or_evaluates():
    """Each loading of the code says that it wants tensors alone."""
    command = ["git", "grep", "-nP", LOADS, "--", "custom_components", "deploy", "tools", "covid_*_bundle/configs"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if found.returncode > 1:
        pytest.skip("needs a git checkout")
    safe = ("weights_only=True", "allow_pickle=False")
    lines = found.stdout.splitlines()
    assert len(lines) >= 4
    assert [line for line in lines if not any(word in line for word in safe)] == []
