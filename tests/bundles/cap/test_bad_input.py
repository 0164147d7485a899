import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from custom_components.engines.root_cause import root_cause
from custom_components.phantom import Phantom, make_scan, write_dicom
from custom_components.phantom.nifti import write_nifti_array

from tests.bundles.cap.conftest import (
    EVALUATION,
    NO_WORKERS,
    SMALL,
    TRAINING,
    config_files,
    copy_scans,
    datalist_of,
    write_datalist,
)
from tests.bundles.conftest import digests

NAMES = ["covid_000", "covid_001", "covid_002", "cap_000", "cap_001", "cap_002"]
BAD = "covid_001"
QUICK = {**TRAINING, "epochs": 1, "batch_size": 2, "fold": 0}


@pytest.fixture
def data(scans, tmp_path) -> Path:
    """A few good scans to spoil: three of each disease, in three folds."""
    copy_scans(scans, tmp_path / "data", NAMES)
    cases = [case for case in datalist_of(scans) if case["case_id"] in NAMES]
    return write_datalist(tmp_path / "data", [{**case, "fold": NAMES.index(case["case_id"]) % 3} for case in cases])


@pytest.fixture
def message_of(bundle, tmp_path) -> Callable[..., str]:
    """What the last line of a run that fails says; the input is as it was, and nobody's patient is named."""

    def call(config: str | list[str], run_id: str, dataset_dir: Path, **overrides: Any) -> str:
        before = digests(dataset_dir)
        folders = {"output_dir": tmp_path / "out", "dataset_dir": dataset_dir, "cache_dir": tmp_path / "cache"}
        with pytest.raises(RuntimeError) as caught:
            bundle.run(config, run_id, **folders | overrides)
        assert digests(dataset_dir) == before
        message = root_cause(caught.value)
        assert "_patient_" not in message
        return message

    return call


@pytest.fixture
def training_message(message_of, tmp_path):
    """Of a training that has left no model."""

    def call(data: Path, **more: Any) -> str:
        message = message_of("train.yaml", "training", data, **{**QUICK, "ckpt_dir": tmp_path / "models"} | more)
        assert not list((tmp_path / "models").glob("*.pt"))
        return message

    return call


@pytest.fixture
def inference_message(message_of, tmp_path):
    def call(data: Path, ckpt_path: Path, **more: Any) -> str:
        return message_of("inference.json", "run", data, ckpt_path=ckpt_path, **more)

    return call


def change_file(path: Path, change: Callable[[np.ndarray, np.ndarray], Any]) -> None:
    """Replace a NIfTI by what `change` makes of its array and affine: array, affine."""
    image = nib.load(path)
    array, affine = change(np.asarray(image.dataobj), image.affine)
    nib.save(nib.Nifti1Image(array, affine), path)


def with_nan(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spoilt = array.astype(np.float32)
    spoilt[3:5, 7, 9] = np.nan
    return spoilt, affine


def moved(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return array, affine + np.outer([1, 0, 0, 0], [0, 0, 0, 30.0])


def spoil(kind: str, data: Path) -> None:
    image, lung, infection = (data / folder / f"{BAD}.nii.gz" for folder in ("images", "lungs", "infections"))
    if kind == "mask of another size":
        change_file(lung, lambda array, affine: (array[:-2], affine))
    elif kind == "mask elsewhere":
        change_file(infection, moved)
    elif kind == "empty lung mask":
        change_file(lung, lambda array, affine: (array * 0, affine))
    elif kind == "infection outside the lungs":
        outside = np.asarray(nib.load(lung).dataobj) == 0
        change_file(infection, lambda array, affine: (outside.astype(np.uint8), affine))
    elif kind == "labels in the mask":
        change_file(lung, lambda array, affine: (array * 3, affine))
    elif kind == "4D":
        change_file(image, lambda array, affine: (np.stack([array, array], axis=-1), affine))
    elif kind == "one slice":
        for path in (image, lung, infection):
            change_file(path, lambda array, affine: (array[:, :, 9:10], affine))
    elif kind == "stored values":
        change_file(image, lambda array, affine: (array + 1024, affine))
    elif kind == "padding in the lungs":
        inside = np.asarray(nib.load(lung).dataobj) > 0
        inside[:, :, 14:] = False
        change_file(image, lambda array, affine: (np.where(inside, -3024, array).astype(np.int16), affine))
    elif kind == "NaN":
        change_file(image, with_nan)
    elif kind == "truncated":
        image.write_bytes(image.read_bytes()[:700])
    elif kind == "missing":
        infection.unlink()


LISTED = {
    "mask of another size": r"has 1 problem:\n  - Case covid_001: lung is 62 x 60 x 28 but the image is 64 x 60 x 28",
    "mask elsewhere": r"has 1 problem:\n  - Case covid_001: infection is misaligned with the image by up to 30.0 mm",
    "4D": r"has 1 problem:\n  - image: Case covid_001: .* has shape \(64, 60, 28, 2\). Expected .* each time point",
    "one slice": r"has 1 problem:\n  - Case covid_001: covid_001.nii.gz is one slice \(64 x 60 x 1\). Expected a CT",
    "missing": r"has 1 problem:\n  - infection: Case covid_001: .*covid_001.nii.gz does not exist. Check the path",
}
"""What headers tell: reported for the whole data set, before anything is loaded."""

LOADED = {
    "empty lung mask": r"^Case covid_001: lung mask is empty \(0 of 107,520 voxels\). Check the mask file or segment",
    "infection outside the lungs": r"^Case covid_001: 100.0 % of the infection \(.*\) lies outside the lung mask.",
    "labels in the mask": r"^Case covid_001: lung has .* voxels that are .*\(3\). .*: binarise it",
    "stored values": r"^Case covid_001: median inside the lung mask is \d+ HU. .* without the rescale intercept",
    "padding in the lungs": r"^Case covid_001: \d+.\d % of the lung mask is below -1100 HU \(down to -3024 HU\). .*: "
    r"these voxels are scanner padding, not lung. Check that the mask belongs to this scan and ends at its field of "
    r"view",
    "NaN": r"^Case covid_001: 2 of 107,520 values are NaN or infinite. Expected finite values: fill them in",
    "truncated": r"Case covid_001: covid_001.nii.gz is truncated or not a NIfTI file: .* Copy or export the file again",
}
"""What the voxels tell: a training ends at the case."""


@pytest.mark.parametrize("kind", LISTED)
def test_a_header_that_does_not_fit_stops_a_training_before_it_starts(training_message, data, kind, tmp_path):
    spoil(kind, data)
    assert re.search(LISTED[kind], training_message(data))
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("kind", LOADED)
def test_a_bad_scan_stops_a_training_with_its_name(training_message, data, kind):
    spoil(kind, data)
    assert re.search(LOADED[kind], training_message(data))


@pytest.mark.parametrize("kind", ["empty lung mask", "NaN"])
def test_a_bad_scan_is_told_as_well_from_a_process_of_its_own(training_message, data, kind):
    spoil(kind, data)
    assert re.search(LOADED[kind], training_message(data, num_workers=1))


def test_several_problems_are_told_together(training_message, data):
    for kind in ("mask elsewhere", "mask of another size"):
        spoil(kind, data)
    message = training_message(data)
    assert "has 2 problems:" in message
    assert "lung is 62 x 60 x 28" in message
    assert "infection is misaligned with the image by up to 30.0 mm" in message


def test_padding_outside_the_lungs_is_fine(bundle, data, tmp_path):
    lung = np.asarray(nib.load(data / "lungs" / f"{BAD}.nii.gz").dataobj)
    corner = np.zeros(lung.shape, bool)
    corner[:9] = True
    path = data / "images" / f"{BAD}.nii.gz"
    change_file(path, lambda array, affine: (np.where(corner & (lung == 0), -3024, array).astype(np.int16), affine))
    folders = {"dataset_dir": data, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "out", "cache_dir": ""}
    bundle.run("train.yaml", "training", **QUICK, **folders)
    assert (tmp_path / "models" / "model.pt").is_file()


def relist(data: Path, **changes: Any) -> None:
    """Change the entry of the one bad case; None removes what it had."""
    cases = [{**case, **(changes if case["case_id"] == BAD else {})} for case in datalist_of(data)]
    write_datalist(data, [{key: value for key, value in case.items() if value is not None} for case in cases])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ratio": 1.2, "group": None}, r"Case covid_001: infection ratio is 1.2. Expected .*, 0 to 1. Check that"),
        (
            {"ratio": None},
            r"Case covid_001: has no 'ratio'. Create the datalist with: python -m custom_components build_datalist",
        ),
        ({"label": "flu"}, r"Case covid_001: label is 'flu'. Expected 'covid' \(COVID-19\) or 'cap'"),
        (
            {"patient_id": "covid_patient_000"},
            r"2 cases of one patient are in different folds: covid_000 in 0, covid_001 in 1. Give all scans",
        ),
        ({"image": "images/covid_000.nii.gz"}, r"2 cases share an image: covid_000, covid_001. List each image once"),
        ({"case_id": "covid_000"}, r"1 case ids occur more than once: covid_000. Rename"),
        ({"group": "cap_small"}, r"Case covid_001: group is 'cap_small' but covid of ratio .* is covid_small. Correct"),
    ],
)
@pytest.mark.parametrize("config", ["train.yaml", "evaluate.yaml"])
def test_a_wrong_datalist_is_told_before_anything_is_loaded(message_of, data, tmp_path, config, changes, expected):
    relist(data, **changes)
    if config == "train.yaml":
        message = message_of(config, "training", data, ckpt_dir=tmp_path / "models", **QUICK)
    else:
        message = message_of(config, "evaluating", data, **NO_WORKERS)
    assert re.match(rf"Data set .*data has 1 problem:\n  - {expected}", message)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_fold_that_is_not_there_is_told(training_message, data):
    assert training_message(data, fold=7) == "fold is 7. Expected one of the datalist's folds: 0, 1, 2."


@pytest.mark.parametrize(
    ("one_class", "expected"),
    [
        ([0], "Fold 0 validates 1 COVID-19 and 0 CAP scans: AUC is undefined. Rebuild the datalist with fewer folds"),
        (
            [1, 2],
            "Fold 0 trains on 2 COVID-19 and 0 CAP scans: the classifier needs both classes. Rebuild the datalist",
        ),
    ],
)
def test_a_side_with_one_class_is_told(training_message, data, one_class, expected):
    cases = datalist_of(data)
    write_datalist(data, [case for case in cases if case["label"] == "covid" or case["fold"] not in one_class])
    assert training_message(data).startswith(expected)


@pytest.mark.parametrize("config", ["train.yaml", "evaluate.yaml"])
def test_a_folder_without_a_datalist_names_the_command_that_makes_it(message_of, data, tmp_path, config):
    (data / "datalist.json").unlink()
    run_id = "training" if config == "train.yaml" else "evaluating"
    message = message_of(config, run_id, data, ckpt_dir=tmp_path / "models")
    assert message == (
        f"Data set {data} has no datalist.json. "
        f"Create it with: python -m custom_components build_datalist --dataset_dir {data}"
    )


def test_a_broken_and_an_absent_datalist_are_told(training_message, data):
    (data / "datalist.json").write_text('{"cases": [', encoding="utf-8")
    assert re.match(r"Datalist .*datalist.json cannot be read as JSON: .* Check it", training_message(data))
    assert re.match(r"Data set .*nowhere does not exist. Check dataset_dir", training_message(data / "nowhere"))


@pytest.mark.parametrize("folder", ["ckpt_dir", "output_dir"])
def test_an_unwritable_folder_is_refused_before_any_data_are_read(training_message, data, tmp_path, folder):
    spoil("mask elsewhere", data)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    message = training_message(data, **{folder: tmp_path / "file" / "below"})
    assert re.search(r"^Output folder .*/file/below cannot be written to \(Not a directory\). Choose another", message)


SCORED = {"score_trained_cases": True}


def test_a_checkpoint_of_another_network_is_told(message_of, inference_message, data, trained, ensemble):
    wide = {"block_inplanes": [8, 16, 32, 40]}
    for message in (
        message_of("evaluate.yaml", "evaluating", data, ckpt_path=trained.model, **NO_WORKERS, **wide, **SCORED),
        inference_message(data, ensemble.model_path, **wide),
        inference_message(data, trained.model),
    ):
        assert re.match(r"Checkpoint .*model.pt is of another architecture than the network: ", message)
        wanted = "--block_inplanes is [8, 16, 32, 40] (trained with [8, 16, 32, 32]). Leave it out"
        assert wanted in message or "It is a single branch" in message


def test_a_missing_and_a_broken_checkpoint_are_told(inference_message, message_of, data, tmp_path):
    path = tmp_path / "model.pt"
    assert inference_message(data, path).startswith(f"No checkpoint at {path}. Three commands make it: ")
    evaluation = ["evaluate.yaml", "ensemble.yaml"]
    more = {**EVALUATION, "fold": 0, "uniform_ckpt_path": path, "size_balanced_ckpt_path": path}
    assert message_of(evaluation, "evaluating", data, **more).startswith(f"No checkpoint at {path}. Train it")
    path.write_bytes(b"half a file")
    message = inference_message(data, path)
    assert message.startswith(f"Checkpoint {path} cannot be read as tensors: ")
    assert message.endswith("Copy or train it again.")


BATCH = {
    "mask of another size": "covid_001: lung is 62 x 60 x 28 but the image is 64 x 60 x 28. Export both",
    "infection outside the lungs": "covid_001: 100.0 % of the infection",
    "4D": "covid_001: covid_001.nii.gz has shape (64, 60, 28, 2). Expected one slice (X, Y) or one volume (X, Y, Z)",
    "stored values": "covid_001: median inside the lung mask is ",
    "NaN": "covid_001: 2 of 107,520 values are NaN or infinite.",
    "truncated": "covid_001: covid_001.nii.gz is truncated or not a NIfTI file",
}


@pytest.mark.parametrize("kind", BATCH)
def test_one_bad_case_of_a_batch_is_told_and_the_others_finish(inference_message, data, ensemble, tmp_path, kind):
    (data / "datalist.json").unlink()
    for name in NAMES[2:]:
        for folder in ("images", "lungs", "infections"):
            (data / folder / f"{name}.nii.gz").unlink()
    spoil(kind, data)
    message = inference_message(data, ensemble.model_path)
    assert message.startswith(f"1 of 2 cases failed, the results of the others are written:\n  {BATCH[kind]}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [NAMES[0]]
    report = json.loads((tmp_path / "out" / NAMES[0] / f"{NAMES[0]}_diagnosis.json").read_text(encoding="utf-8"))
    assert report["p_final"] is not None


@pytest.fixture(scope="module")
def coarse() -> Phantom:
    return make_scan("covid", 0.2, 3, (40, 36, 8), (9.0, 9.5, 30.0))


def change_slices(folder: Path, change: Callable[[int, Any], None]) -> None:
    from custom_components.phantom.dicom import write_dicom_file
    from pydicom import dcmread

    for number, path in enumerate(sorted(folder.iterdir())):
        dataset = dcmread(path)
        change(number, dataset)
        write_dicom_file(dataset, path)


def missing_slice(folder: Path) -> None:
    (folder / "IM0004.dcm").unlink()


def magnetic_resonance(folder: Path) -> None:
    change_slices(folder, lambda number, dataset: setattr(dataset, "Modality", "MR"))


def gantry_tilt(folder: Path) -> None:
    def shear(number: int, dataset: Any) -> None:
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, round(y + 8 * number, 3), z]

    change_slices(folder, shear)


def truncated_slice(folder: Path) -> None:
    path = folder / "IM0002.dcm"
    path.write_bytes(path.read_bytes()[:-100])


BAD_SERIES = [
    (missing_slice, r"slice spacing is uneven at 1 places, first between .* Slices are missing"),
    (magnetic_resonance, r"IM0000.dcm is of modality MR. Expected one axial CT series: give its folder"),
    (gantry_tilt, r"the slices are sheared by 14.9 degrees \(gantry tilt\), .* Resample the series to"),
]
TRUNCATED = (truncated_slice, r"IM0002.dcm is truncated or not a DICOM file: its pixel data have .* Copy or export")


@pytest.mark.parametrize(("spoil_series", "expected"), BAD_SERIES)
def test_a_bad_series_of_a_datalist_stops_a_training_before_it_starts(
    training_message, data, coarse, tmp_path, spoil_series, expected
):
    series = write_dicom(coarse, data / "series" / "bad", shuffle=False)
    for kind in ("lung", "infection"):
        write_nifti_array(getattr(coarse, kind), coarse, data / f"{kind}s" / f"{BAD}.nii.gz")
    relist(data, image="series/bad")
    spoil_series(series)
    message = training_message(data)
    assert re.match(rf"Data set .* has 1 problem:\n  - image: Case bad: {expected}", message)
    assert "PHANTOM" not in message.upper()
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(("spoil_series", "expected"), [*BAD_SERIES, TRUNCATED])
def test_a_bad_series_is_told_and_the_patient_is_not(
    inference_message, ensemble, coarse, tmp_path, spoil_series, expected
):
    folder = write_dicom(coarse, tmp_path / "in" / "bad", shuffle=False)
    spoil_series(folder)
    message = inference_message(folder, ensemble.model_path)
    assert message.startswith("1 of 1 cases failed:")
    assert re.search(rf"bad: {expected}", message)
    assert "PHANTOM" not in message.upper()
    assert list((tmp_path / "out").iterdir()) == []


def test_the_last_line_of_a_training_command_is_the_reason(run_command, data, tmp_path):
    spoil("empty lung mask", data)
    folders = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "out", "cache_dir": tmp_path / "cache"}
    done = run_command("training", config_files("train.yaml"), **SMALL, **QUICK, **folders, dataset_dir=data)
    assert done.returncode == 1
    assert re.search(r"ERROR - Case covid_001: lung mask is empty \(0 of 107,520 voxels\).*$", done.stdout.strip())


def test_the_last_line_of_an_inference_command_is_the_reason(run_command, data, ensemble, tmp_path):
    spoil("NaN", data)
    more = {"dataset_dir": data, "ckpt_path": ensemble.model_path}
    done = run_command("run", config_files("inference.json"), **SMALL, **more, output_dir=tmp_path / "out")
    assert done.returncode == 1
    *_, count, reason = done.stdout.strip().splitlines()
    assert count.endswith("ERROR - 1 of 6 cases failed, the results of the others are written:")
    assert reason.startswith("  covid_001: 2 of 107,520 values are NaN or infinite.")
