"""Where in a run wrong input is noticed, and what is left then; the messages themselves: tests/bad_input."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.engines.root_cause import root_cause
from custom_components.phantom import make_volume, write_dicom
from PIL import Image

from tests.bundles.conftest import digests
from tests.bundles.small_runs import SUBJECTS, SmallRuns, Subject

WRONG_VOXELS = {
    "cap": r"^Case {}: lung has [\d,]+ voxels that are neither 0 nor 1 \(7\). .*: binarise it",
    "seg": r"^Case {}: label has value 7 at 6 pixels. Expected 0 \(background\), .* Check the label export.$",
}


def spoil_mask(path: Path) -> None:
    """Set some pixels or voxels to 7."""
    if path.suffix == ".png":
        pixels = np.array(Image.open(path))
        pixels[3:5, 4:7] = 7
        Image.fromarray(pixels).save(path)
    else:
        mask = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(mask.dataobj) * 7, mask.affine), path)


class TestBadInput(SmallRuns):
    @pytest.fixture
    def mask(self, subject: Subject, data: Path, case: str) -> Path:
        """Of the second case."""
        (path,) = (data / subject.masks).glob(f"{case}.*")
        return path

    @pytest.fixture
    def refused(self, fails: Callable[..., str], data: Path) -> Callable[..., str]:
        """The message of a run that fails; the input is unchanged, and no patient is named."""

        def call(config: str, **changes: Any) -> str:
            before = digests(data)
            message = fails(config, **changes)
            assert digests(data) == before
            assert "patient_" not in message
            return message

        return call

    @pytest.mark.parametrize("config", ["train.yaml", "evaluate.yaml"])
    def test_a_problem_of_the_list_ends_a_run_before_any_voxels_are_read(
        self, refused, mask, case, data, config, monkeypatch
    ):
        mask.unlink()
        monkeypatch.setattr("custom_components.images.ct_reader.CTReader.get_data", None)
        expected = rf"Data set .*{data.name} has 1 problem:\n  - \w+: Case {case}: .*{mask.name} does not exist."
        assert re.match(expected, refused(config))

    @pytest.mark.parametrize("loading", [{}, {"num_workers": 1}, {"cache_rate": 0.0, "num_workers": 1}], ids=str)
    def test_a_wrong_mask_ends_a_training_with_the_name_of_its_case(
        self, request, subject, refused, mask, case, places, loading
    ):
        """Also when it is loaded during the epoch, by a process whose traceback comes as text."""
        if "cache_rate" in loading and "cache_dir" in subject.training:
            pytest.skip("this bundle loads all scans during the epoch")
        spoil_mask(mask)
        kind = request.node.callspec.params["subject"]
        assert re.search(WRONG_VOXELS[kind].format(case), refused("train.yaml", **loading))
        assert not list(places["ckpt_dir"].glob("*.pt"))

    @pytest.mark.parametrize(
        ("config", "folder"),
        [("train.yaml", "ckpt_dir"), *((c, "output_dir") for c in ("train.yaml", "evaluate.yaml", "inference.json"))],
    )
    def test_an_unwritable_folder_is_refused_before_any_data_are_read(self, fails, tmp_path, config, folder):
        (tmp_path / "file").touch()
        message = fails(config, dataset_dir=tmp_path / "nowhere", **{folder: tmp_path / "file" / "below"})
        assert re.match(
            r"Output folder .*/file/below cannot be written to \(Not a directory\). Choose another", message
        )

    @pytest.mark.parametrize("config", ["evaluate.yaml", "inference.json"])
    def test_weights_of_another_network_are_refused(self, subject, refused, config):
        message = refused(config, **subject.another)
        assert re.match(r"Checkpoint .*model.pt is of another architecture than the network: ", message)

    @pytest.mark.parametrize("config", ["evaluate.yaml", "inference.json"])
    def test_missing_and_broken_weights_are_refused(self, refused, tmp_path, config):
        path = tmp_path / "model.pt"
        assert refused(config, ckpt_path=path).startswith(f"No checkpoint at {path}. ")
        path.write_bytes(b"half a file")
        message = refused(config, ckpt_path=path)
        assert message.startswith(f"Checkpoint {path} cannot be read as tensors: ")
        assert message.endswith("Copy or train it again.")

    def test_a_checkpoint_of_another_network_is_not_resumed_from(self, subject, run, refused, places):
        run("train.yaml")
        before = digests(places["ckpt_dir"])
        message = refused("train.yaml", resume=True, epochs=2, **subject.another)
        assert re.match(r"Checkpoint .*epoch=1.pt cannot be resumed from: .*with the same configs as before", message)
        assert digests(places["ckpt_dir"]) == before

    def test_one_broken_image_of_an_inference_is_reported_and_the_others_finish(
        self, subject, refused, case, data, places
    ):
        (image,) = (data / "images").glob(f"{case}.*")
        image.write_bytes(image.read_bytes()[:700])
        cases = sorted(path.name.split(".")[0] for path in image.parent.iterdir())
        message = refused("inference.json")
        expected = f"1 of {len(cases)} cases failed, the results of the others are written:\n  {case}: {image.name} is "
        assert message.startswith(f"{expected}truncated or not a ")
        assert sorted(path.name for path in places["output_dir"].iterdir()) == [name for name in cases if name != case]
        for folder in places["output_dir"].iterdir():
            report = json.loads((folder / f"{folder.name}{subject.report}").read_text(encoding="utf-8"))
            assert report["case_id"] == folder.name

    def test_a_truncated_dicom_series_is_reported_without_its_patient(self, refused, places, tmp_path):
        series = write_dicom(make_volume(3, (40, 36, 4), (9.0, 9.5, 60.0)), tmp_path / "in" / "bad")
        path = series / "IM0002.dcm"
        path.write_bytes(path.read_bytes()[:-100])
        message = refused("inference.json", dataset_dir=series)
        assert message.startswith("1 of 1 cases failed:\n  bad: IM0002.dcm is truncated or not a DICOM file: its pixel")
        assert "PHANTOM" not in message.upper()
        assert list(places["output_dir"].iterdir()) == []

    def test_an_uneven_series_of_a_list_ends_a_training_before_any_voxels_are_read(self, refused, data, monkeypatch):
        series = write_dicom(make_volume(3, (40, 36, 4), (9.0, 9.5, 60.0)), data / "series" / "bad", shuffle=False)
        (series / "IM0001.dcm").unlink()
        content = json.loads((data / "datalist.json").read_text(encoding="utf-8"))
        content["cases"][1]["image"] = "series/bad"
        (data / "datalist.json").write_text(json.dumps(content), encoding="utf-8")
        monkeypatch.setattr("custom_components.images.ct_reader.CTReader.get_data", None)
        message = refused("train.yaml")
        assert re.match(
            r"Data set .* has 1 problem:\n  - image: Case bad: slice spacing is uneven at 2 places", message
        )
        assert "PHANTOM" not in message.upper()


@pytest.fixture
def message_of(tmp_path) -> Callable[..., str]:
    """Of a run of one bundle that fails."""

    def call(name: str, config: str, run_id: str, **options: Any) -> str:
        with pytest.raises(RuntimeError) as caught:
            SUBJECTS[name].bundle.run(config, run_id, **options, output_dir=tmp_path / "out")
        return root_cause(caught.value)

    return call


def test_masks_of_0_and_255_are_refused_before_a_training_and_an_evaluation(message_of, tmp_path):
    """They say where something is, and 255 is ignored: a network would learn background alone, and score nothing."""
    data = SUBJECTS["seg"].write_data(tmp_path / "data")
    for path in (data / "masks").iterdir():
        Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    torch.save({}, tmp_path / "model.pt")
    for options in (
        {"config": "train.yaml", "run_id": "training", "ckpt_dir": tmp_path / "models", **SUBJECTS["seg"].training},
        {"config": "evaluate.yaml", "run_id": "evaluating", "ckpt_path": tmp_path / "model.pt"},
    ):
        message = message_of("seg", **options, dataset_dir=data)
        assert re.search(r"^No label map has a lesion class, and \d contain 255, .* replace 255 with ", message)
    assert not list((tmp_path / "models").iterdir())


def test_the_classifier_names_a_missing_fold_and_a_missing_branch(message_of, tmp_path):
    cap, path = SUBJECTS["cap"], tmp_path / "no.pt"
    data = cap.write_data(tmp_path / "data")
    training = {**cap.training, "dataset_dir": data, "fold": 7, "ckpt_dir": tmp_path / "models"}
    expected = "fold is 7. Expected one of the datalist's folds: 0, 1."
    assert message_of("cap", "train.yaml", "training", **training) == expected
    branches = {"uniform_ckpt_path": path, "size_balanced_ckpt_path": path, "fold": 0, "dataset_dir": data}
    message = message_of("cap", ["evaluate.yaml", "ensemble.yaml"], "evaluating", **cap.evaluation, **branches)
    assert message.startswith(f"No checkpoint at {path}. Train it")
