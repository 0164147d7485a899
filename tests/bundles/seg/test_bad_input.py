import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from custom_components.engines.root_cause import root_cause
from custom_components.phantom import make_volume, write_dicom, write_localizer
from custom_components.phantom.nifti import phantom_hu, write_nifti_array
from PIL import Image

from tests.bundles.conftest import digests
from tests.bundles.seg.conftest import SMALL, TRAINING, config_files

CASES = 6
QUICK = {**TRAINING, "epochs": 1, "draws_per_image": 1, "num_folds": 3}


@pytest.fixture
def data(slices, tmp_path) -> Path:
    """A few good slices to spoil."""
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for number in range(CASES):
            name = f"{kind}/{number:03d}.png"
            shutil.copyfile(slices / name, tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.fixture
def message_of(bundle, tmp_path) -> Callable[..., str]:
    """What the last line of a run that fails says; the input is as it was."""

    def call(config: str, dataset_dir: Path, **overrides) -> str:
        before = digests(dataset_dir)
        folders = {"output_dir": tmp_path / "out", "dataset_dir": dataset_dir}
        with pytest.raises(RuntimeError) as caught:
            bundle.run(config, **folders | overrides)
        assert digests(dataset_dir) == before
        return root_cause(caught.value)

    return call


@pytest.fixture
def training_message(message_of, tmp_path):
    return lambda data, **more: message_of("train.yaml", data, **{**QUICK, "ckpt_dir": tmp_path / "models"} | more)


def save_nifti(array: np.ndarray, path: Path) -> None:
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1, 1, 1])), path)


def change_mask(data: Path, change: Callable[[np.ndarray], None]) -> None:
    path = data / "masks" / "003.png"
    array = np.array(Image.open(path))
    change(array)
    Image.fromarray(array).save(path)


def spoil(kind: str, data: Path) -> None:
    image, mask = data / "images" / "003.png", data / "masks" / "003.png"
    if kind == "mask missing":
        mask.unlink()
    elif kind == "image missing":
        image.unlink()
    elif kind == "sizes differ":
        Image.open(mask).crop((0, 0, 50, 48)).save(mask)
    elif kind == "value 7":
        change_mask(data, lambda array: array[3:6, 4:9].fill(7))
    elif kind == "RGB":
        Image.open(image).convert("RGB").save(image)
    elif kind == "RGB mask":
        Image.open(mask).convert("RGB").save(mask)
    elif kind == "16 bits":
        Image.fromarray(np.array(Image.open(image)).astype(np.uint16) * 257).save(image)
    elif kind == "truncated":
        image.write_bytes(image.read_bytes()[:700])
    elif kind == "no PNG":
        image.write_bytes(b"<html>404</html>")
    elif kind == "JPEG":
        Image.open(image).save(image.with_suffix(".jpg"))
        image.unlink()
    else:
        image.unlink()
        hu = np.zeros((56, 48, 0 if kind == "no slices" else 1), np.float32)
        if kind == "NaN":
            hu[3:5, 7, 0] = np.nan
        save_nifti(hu, image.with_suffix(".nii.gz"))


TRAINING_MESSAGES = {
    "mask missing": r"Data set .*data has 1 problem:\n  - 1 in images/ without a mask in masks/: 003$",
    "image missing": r"has 1 problem:\n  - 1 in masks/ without an image in images/: 003$",
    "sizes differ": r"Case 003: label is 50 x 48 x 1 but the image is 56 x 48 x 1. Export both at the same size$",
    "value 7": r"^Case 003: label has value 7 at 15 pixels. Expected 0 \(background\), .* Check the label export.$",
    "RGB": r"image: Case 003: 003.png is colour \(RGB\). Expected 8-bit greyscale. Save it as 8-bit greyscale PNG",
    "RGB mask": r"label: Case 003: 003.png is colour \(RGB\). Expected 8-bit greyscale.",
    "16 bits": r"Case 003: 003.png is of mode I;16 \(16 or 32 bits\). Expected 8-bit greyscale.",
    "truncated": r"^Case 003: 003.png is truncated or not a PNG file: .* Copy or export the file again.$",
    "no PNG": r"Case 003: 003.png is truncated or not a PNG file",
    "JPEG": r"Case 003: 003.jpg is a JPEG, whose intensities have no known HU scale. Convert the folder first",
    "NaN": r"^Case 003: 2 of 2,688 values are NaN or infinite. Expected finite values: fill them in",
    "no slices": r"Case 003: 003.nii.gz is empty, its shape is \(56, 48, 0\). Export the file again.",
}


@pytest.mark.parametrize("kind", TRAINING_MESSAGES)
def test_a_bad_case_stops_a_training_with_its_name(training_message, data, kind, tmp_path):
    spoil(kind, data)
    assert re.search(TRAINING_MESSAGES[kind], training_message(data))
    assert not list((tmp_path / "models").glob("*.pt"))


def test_masks_of_0_and_255_are_refused_before_a_training_and_an_evaluation(
    training_message, message_of, data, trained, tmp_path
):
    """They say where something is, and 255 is ignored: a network would learn background alone, and score nothing."""
    for path in (data / "masks").iterdir():
        Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    for message in (training_message(data), message_of("evaluate.yaml", data, ckpt_path=trained.model)):
        assert re.search(r"^No label map has a lesion class, and \d contain 255, .* replace 255 with ", message)
    assert not list((tmp_path / "models").iterdir())
    assert not list((tmp_path / "out").glob("**/*.csv"))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_case_is_told_as_well_when_nothing_is_cached(training_message, data, num_workers):
    """Then it is loaded during the epoch, in a process of its own, whose traceback comes as text."""
    spoil("value 7", data)
    assert re.search(TRAINING_MESSAGES["value 7"], training_message(data, cache_rate=0.0, num_workers=num_workers))


def test_several_problems_are_told_together(training_message, data):
    for kind in ("mask missing", "RGB"):
        spoil(kind, data)
    (data / "masks" / "001.png").unlink()
    message = training_message(data)
    assert "has 2 problems:" in message
    assert "2 in images/ without a mask in masks/: 001, 003" in message
    assert "003.png is colour (RGB)" in message


@pytest.mark.parametrize("folder", ["ckpt_dir", "output_dir"])
def test_an_unwritable_folder_is_refused_before_any_data_are_read(training_message, data, tmp_path, folder):
    spoil("mask missing", data)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    message = training_message(data, **{folder: tmp_path / "file" / "below"})
    assert re.search(r"^Output folder .*/file/below cannot be written to \(Not a directory\). Choose another", message)


@pytest.mark.parametrize("config", ["evaluate.yaml", "inference.json"])
def test_an_unwritable_output_is_refused_before_any_data_are_read(message_of, data, tmp_path, config):
    spoil("mask missing", data)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert message_of(config, data, output_dir=tmp_path / "file" / "below").startswith("Output folder ")


@pytest.mark.parametrize("config", ["evaluate.yaml", "inference.json"])
def test_a_checkpoint_of_another_architecture_is_told(message_of, data, trained, config):
    given = {"network_def#attention": "none", "score_trained_cases": True}
    message = message_of(config, data, ckpt_path=trained.model, **given)
    assert re.search(
        r"^Checkpoint .*model.pt is of another architecture than the network: unknown: \d+ \(.*\)\. "
        r"--network_def#attention is none \(trained with lsh\). Leave it out, or give the value of the training.$",
        message,
    )


def test_a_missing_and_a_broken_checkpoint_are_told(message_of, data, tmp_path):
    path = tmp_path / "model.pt"
    assert message_of("inference.json", data, ckpt_path=path).startswith(f"No checkpoint at {path}. Train one first")
    path.write_bytes(b"half a file")
    message = message_of("inference.json", data, ckpt_path=path)
    assert message.startswith(f"Checkpoint {path} cannot be read as tensors: ")
    assert message.endswith("Copy or train it again.")


def test_a_resumption_by_another_network_is_told(training_message, data, trained, tmp_path):
    shutil.copytree(trained.ckpt_dir, tmp_path / "models")
    before = digests(tmp_path / "models")
    message = training_message(data, resume=True, epochs=9, **{"network_def#features": [8, 16]})
    assert re.match(r"Checkpoint .*epoch=6.pt cannot be resumed from: .*Train with the same configs as before", message)
    assert digests(tmp_path / "models") == before


def test_a_broken_checkpoint_is_not_resumed_from(training_message, data, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "resume_checkpoint_epoch=3.pt").write_bytes(b"half a file")
    message = training_message(data, resume=True, epochs=9)
    assert re.match(r"Checkpoint .*epoch=3.pt cannot be resumed from: .*Delete the file if it is broken", message)


def several_series(folder: Path) -> None:
    for seed in (3, 4):
        phantom = make_volume(seed, (40, 36, 4), (9.0, 9.5, 60.0))
        write_dicom(phantom, folder / str(seed))
        for path in (folder / str(seed)).iterdir():
            path.rename(folder / f"{seed}_{path.name}")
        (folder / str(seed)).rmdir()


def with_localizer(folder: Path) -> None:
    phantom = make_volume(3, (40, 36, 4), (9.0, 9.5, 60.0))
    write_dicom(phantom, folder)
    write_localizer(phantom, folder)


def localizer_alone(folder: Path) -> None:
    write_localizer(make_volume(3, (40, 36, 4), (9.0, 9.5, 60.0)), folder)


def truncated_slice(folder: Path) -> None:
    write_dicom(make_volume(3, (40, 36, 4), (9.0, 9.5, 60.0)), folder)
    path = folder / "IM0002.dcm"
    path.write_bytes(path.read_bytes()[:-100])


def missing_slice(folder: Path) -> None:
    write_dicom(make_volume(3, (40, 36, 4), (9.0, 9.5, 60.0)), folder, shuffle=False)
    (folder / "IM0001.dcm").unlink()


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (
            several_series,
            r"bad: the folder holds 2 series, expected one:\n  - series .*: 4 images, .*\n.*\nMove the files",
        ),
        (
            with_localizer,
            r"bad: the folder holds 2 series, expected one:\n(.*\n)*  - series 1 \(Localizer\): 1 images, LOC",
        ),
        (localizer_alone, r"bad: localizer.dcm is a localizer \(scout view\). Expected one axial CT series"),
        (
            truncated_slice,
            r"bad: IM0002.dcm is truncated or not a DICOM file: its pixel data have 2,780 of 2,880 bytes",
        ),
        (missing_slice, r"bad: slice spacing is uneven at 2 places, first between .* Slices are missing"),
    ],
)
def test_a_bad_dicom_folder_is_told_and_the_patient_is_not(message_of, trained, tmp_path, write, expected):
    (tmp_path / "in" / "bad").mkdir(parents=True)
    write(tmp_path / "in" / "bad")
    message = message_of("inference.json", tmp_path / "in" / "bad", ckpt_path=trained.model, progress=False)
    assert message.startswith("1 of 1 cases failed:")
    assert re.search(expected, message)
    assert "PHANTOM-0000" not in message
    assert list((tmp_path / "out").iterdir()) == []


BATCH = {
    "RGB": "003: 003.png is colour (RGB). Expected 8-bit greyscale.",
    "truncated": "003: 003.png is truncated or not a PNG file",
    "no PNG": "003: 003.png is truncated or not a PNG file",
    "NaN": "003: 2 of 2,688 values are NaN or infinite.",
    "no slices": "003: 003.nii.gz is empty, its shape is (56, 48, 0).",
    "JPEG": "003: 003.jpg is a JPEG, whose intensities have no known HU scale.",
}


@pytest.mark.parametrize("kind", BATCH)
def test_one_bad_case_of_a_batch_is_told_and_the_others_finish(message_of, data, trained, tmp_path, kind):
    spoil(kind, data)
    message = message_of("inference.json", data / "images", ckpt_path=trained.model, progress=False)
    assert message.startswith(f"1 of {CASES} cases failed, the results of the others are written:\n  {BATCH[kind]}")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [f"{number:03d}" for number in range(CASES) if number != 3]
    for name in written:
        report = json.loads((tmp_path / "out" / name / f"{name}_lesions.json").read_text(encoding="utf-8"))
        assert report["case_id"] == name


def test_a_truncated_volume_of_a_batch_is_told(message_of, volume, trained, tmp_path):
    for name in ("a", "b"):
        write_nifti_array(phantom_hu(volume), volume, tmp_path / "in" / f"{name}.nii.gz")
    whole = gzip.decompress((tmp_path / "in" / "b.nii.gz").read_bytes())
    (tmp_path / "in" / "b.nii.gz").write_bytes(gzip.compress(whole[:5000]))
    message = message_of("inference.json", tmp_path / "in", ckpt_path=trained.model, progress=False)
    assert re.match(r"1 of 2 cases failed, .*:\n  b: b.nii.gz is truncated or not a NIfTI file: ", message)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_the_last_line_of_the_command_is_the_reason_and_the_exit_code_is_not_0(run_command, data, trained, tmp_path):
    spoil("truncated", data)
    done = run_command(
        "run", config_files("inference.json"), **SMALL,
        dataset_dir=data / "images", ckpt_path=trained.model, output_dir=tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 1
    *_, count, reason = done.stdout.strip().splitlines()
    assert count.endswith("ERROR - 1 of 6 cases failed, the results of the others are written:")
    assert reason.startswith("  003: 003.png is truncated or not a PNG file")
