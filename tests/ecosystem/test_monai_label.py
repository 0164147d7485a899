"""Both bundles in a real server of MONAI Label, asked over HTTP as 3D Slicer does."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import itk
import nibabel as nib
import numpy as np
import pytest
from custom_components.phantom import make_volume, write_dicom
from custom_components.phantom.nifti import phantom_hu, write_nifti_array

from tests.bundles.cap.conftest import SMALL as SMALL_CAP
from tests.bundles.conftest import ROOT, Bundle, digests
from tests.bundles.seg.conftest import SMALL as SMALL_SEG
from tests.ecosystem.label_server import LabelServer, free_port, running
from tests.ecosystem.small_bundle import small_bundle
from tests.real_data import real_data

SEG, CAP = "covid_seg_bundle", "covid_cap_bundle"
PYTHON = Path(os.environ.get("MONAILABEL_PYTHON") or ROOT / ".venv-label" / "bin" / "python")
SHIM = Path(__file__).parent / "without_torchvision_ops"
TRAINING = {"num_workers": 0, "draws_per_image": 2, "learning_rate": 0.01}
STORED = ("LPS", "RAS", "ASR")
LESIONS_ML = {"ground_glass": 200.0, "consolidation": 150.0, "pleural_effusion": 180.0}
LEVELS = {"attention_low": 1, "attention_medium": 2, "attention_high": 3, "attention_very_high": 4}
TRAINING_S, LOG_S = 240, 20

pytestmark = [
    pytest.mark.label,
    pytest.mark.skipif(
        not PYTHON.is_file(), reason="no environment of MONAI Label: make label-setup, or name one in MONAILABEL_PYTHON"
    ),
]


@pytest.fixture(scope="module")
def scans():
    """Three patients, of pairwise different sizes and spacings along the axes."""
    return [make_volume(seed, (96, 84, 40), (3.9, 4.4, 7.0), LESIONS_ML) for seed in (3, 4, 5)]


@pytest.fixture(scope="module")
def studies(scans, tmp_path_factory) -> Path:
    """The first patient stored in three orientations and as a DICOM series, the others once."""
    folder = tmp_path_factory.mktemp("studies")
    for number, scan in enumerate(scans):
        write_nifti_array(phantom_hu(scan), scan, folder / f"scan_{number}_LPS.nii.gz")
    image = nib.load(folder / "scan_0_LPS.nii.gz")
    for axcodes in STORED[1:]:
        nib.save(turned(image, axcodes), folder / f"scan_0_{axcodes}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def series(scans, tmp_path_factory) -> Path:
    return write_dicom(scans[0], tmp_path_factory.mktemp("dicom") / "1.2.840.5")


@pytest.fixture(scope="module")
def masks(scans, tmp_path_factory) -> dict[str, str]:
    """Lung and infection of the first patient, as a request names them."""
    folder = tmp_path_factory.mktemp("masks")
    paths = {"lung": folder / "lung.nii.gz", "infection": folder / "infection.nii.gz"}
    for key, path in paths.items():
        write_nifti_array(getattr(scans[0], key), scans[0], path)
    return {key: str(path) for key, path in paths.items()}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    small = {SEG: {**SMALL_SEG, **TRAINING}, CAP: SMALL_CAP}
    return {name: small_bundle(ROOT / name, folder / name, changes) for name, changes in small.items()}


@pytest.fixture(scope="module")
def served(bundles, studies, tmp_path_factory):
    """The server that `make label` starts, and its app."""
    root, port = tmp_path_factory.mktemp("label"), free_port()
    command = [sys.executable, "-m", "tools.monai_label", *map(str, bundles.values()), "--python", str(PYTHON)]
    command += ["--studies", str(studies), "--app", str(root), "--port", str(port)]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *shim()])}
    environment |= {"MONAI_LABEL_SESSION_PATH": str(root / "sessions"), "HOME": str(root)}
    with running(command, port, root / "log.txt", environment) as server:
        yield SimpleNamespace(server=server, app=root / "monaibundle", log=root / "log.txt")


def shim() -> list[str]:
    """Declares what torchvision lacks, where it does not import."""
    done = subprocess.run([PYTHON, "-c", "import torchvision"], capture_output=True, encoding="utf-8", check=False)
    return [str(SHIM)] if "torchvision::" in done.stderr else []


def turned(image: nib.Nifti1Image, axcodes: str) -> nib.Nifti1Image:
    target = nib.orientations.axcodes2ornt(axcodes)
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))


def in_world(content: bytes, folder: Path) -> nib.Nifti1Image:
    """A .nrrd as 3D Slicer places it, its axes along RAS."""
    path = folder / "answer.nrrd"
    path.write_bytes(content)
    image = itk.imread(str(path))
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    array = np.ascontiguousarray(itk.array_from_image(image).T)
    return turned(nib.Nifti1Image(array, np.diag([-1, -1, 1, 1]) @ affine), "RAS")


def array(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)


@pytest.fixture(scope="module")
def answers(served, series, masks, tmp_path_factory) -> dict[tuple[str, str], SimpleNamespace]:
    """What both models say of the first patient, in every form, before anything is trained."""
    folder = tmp_path_factory.mktemp("answers")
    asked = [(model, form, f"scan_0_{form}", {}) for model in (SEG, CAP) for form in STORED]
    asked += [(model, "DICOM", series, {}) for model in (SEG, CAP)] + [(CAP, "masks", "scan_0_LPS", masks)]
    found, models = {}, served.server.get("/info/")["models"]
    for model, form, image, params in asked:
        answer = served.server.infer(model, image, **chosen(models[model]["config"]), **params)
        found[model, form] = SimpleNamespace(answer=answer, image=in_world(answer.content, folder))
    return found


def chosen(config: dict) -> dict:
    """A task's options as 3D Slicer sends them when the user changes none: of a list the first."""
    return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}


@pytest.fixture(scope="module")
def own(bundles, studies, masks, tmp_path_factory) -> dict[str, SimpleNamespace]:
    """What the bundles' own inference says of the first patient, with and without masks."""
    root = tmp_path_factory.mktemp("own")
    case = {"case_id": "scan", "image": str(studies / "scan_0_LPS.nii.gz")}
    (root / "datalist.json").write_text(json.dumps({"cases": [{**case, **masks}]}), encoding="utf-8")
    ends = {SEG: "seg", CAP: "attention_levels"}
    found = {}
    for name, model, data in [(SEG, SEG, case["image"]), (CAP, CAP, case["image"]), ("masks", CAP, root)]:
        Bundle(bundles[model], {}).run("inference.json", dataset_dir=Path(data), output_dir=root / name)
        (labels,) = (root / name).glob(f"*/*_{ends[model]}.nii.gz")
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in (root / name).glob("*/*_diagnosis.json")]
        found[name] = SimpleNamespace(image=turned(nib.load(labels), "RAS"), report=reports[0] if reports else None)
    return found


def check_same(found: nib.Nifti1Image, expected: nib.Nifti1Image, differing: float = 0.0) -> None:
    assert found.shape == expected.shape
    assert np.allclose(found.affine, expected.affine, atol=1e-3)
    assert (array(found) != array(expected)).mean() <= differing


def test_both_bundles_are_offered_for_segmentation_and_one_for_training(served):
    info = served.server.get("/info/")
    assert set(info["models"]) == {SEG, CAP}
    assert {model["type"] for model in info["models"].values()} == {"segmentation"}
    assert {model["dimension"] for model in info["models"].values()} == {2, 3}
    assert info["models"][SEG]["labels"] == {"ground_glass": 1, "consolidation": 2, "pleural_effusion": 3}
    assert info["models"][CAP]["labels"] == LEVELS
    assert set(info["trainers"]) == {SEG}


def test_slicer_gets_the_lesions_as_the_bundle_itself_segments_them(answers, own):
    found = answers[SEG, "LPS"]
    assert found.answer.name.endswith(".nrrd")
    assert b"type: unsigned char" in found.answer.content[:500]
    assert np.unique(array(found.image)).tolist() == [0, 1, 2, 3]
    check_same(found.image, own[SEG].image)
    assert found.answer.params["label_names"] == {"ground_glass": 1, "consolidation": 2, "pleural_effusion": 3}


def test_slicer_gets_the_attention_as_levels_that_a_byte_can_show(answers, own):
    found = answers[CAP, "LPS"]
    assert b"type: unsigned char" in found.answer.content[:500]
    assert {0, 1, 2} <= set(np.unique(array(found.image)).tolist()) <= {0, 1, 2, 3, 4}  # by random weights
    check_same(found.image, own[CAP].image)
    assert found.answer.params["label_names"] == LEVELS


def check_scores(params: dict, report: dict) -> None:
    for key in ("p_us", "p_ss", "p_final", "ratio", "weight_us"):
        expected = report[key]
        assert params[key] == (expected if expected is None else pytest.approx(expected, abs=2e-4)), key
    assert params["lung_source"] == report["lung_source"]


def test_the_scores_arrive_with_the_attention(answers, own):
    params = answers[CAP, "LPS"].answer.params
    check_scores(params, own[CAP].report)
    assert 0 < params["p_us"] < 1
    assert (params["p_final"], params["ratio"], params["prediction"]) == (None, None, None)
    assert params["lung_source"] == "threshold and morphology (no model)"
    assert "not for diagnosis" in params["notice"]


def test_masks_that_the_request_names_give_a_verdict(answers, own):
    params = answers[CAP, "masks"].answer.params
    check_scores(params, own["masks"].report)
    assert params["prediction"] == ("covid" if params["p_final"] >= 0.5 else "cap")
    assert params["ratio"] > 0
    assert params["lung_source"] == "mask file"
    check_same(answers[CAP, "masks"].image, own["masks"].image)
    assert (array(answers[CAP, "masks"].image) != array(answers[CAP, "LPS"].image)).any()


@pytest.mark.parametrize("form", [*STORED[1:], "DICOM"])
@pytest.mark.parametrize("model", [SEG, CAP])
def test_a_scan_has_the_same_result_in_the_world_however_it_is_stored(answers, model, form):
    """But for voxels whose two best classes, or whose attention and a level's end, differ by rounding alone."""
    expected, found = answers[model, "LPS"], answers[model, form]
    check_same(found.image, expected.image, differing=1e-4)
    for key in ("p_us", "p_ss") if model == CAP else ():
        assert found.answer.params[key] == pytest.approx(expected.answer.params[key], abs=2e-4)


def test_nothing_of_the_patient_is_in_answers_or_log(answers, served):
    """The phantom's series bears the identity PHANTOM-0000."""
    for found in answers.values():
        assert "PHANTOM-0000" not in json.dumps(found.answer.params)
        assert b"PHANTOM-0000" not in found.answer.content
    assert "PHANTOM-0000" not in served.log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="module")
def trained(answers, served, bundles, scans, studies, tmp_path_factory) -> SimpleNamespace:
    """One epoch on three corrected labels, sent as a viewer sends them; and the answer after it."""
    folder, model = tmp_path_factory.mktemp("trained"), served.app / "model" / SEG / "models" / "model.pt"
    images = images_of(studies)
    for number, scan in enumerate(scans):
        label = folder / f"label_{number}.nii.gz"
        write_nifti_array(scan.label, scan, label)
        served.server.put_label(f"scan_{number}_LPS", label, {"label_info": []})
    before = model.read_bytes()
    options = chosen(served.server.get("/info/")["trainers"][SEG]["config"])
    served.server.post(f"/train/{SEG}", {**options, "max_epochs": 1, "val_split": 0.34})
    task = finished(served.server)
    answer = served.server.infer(SEG, "scan_0_LPS")
    image = in_world(answer.content, folder)
    return SimpleNamespace(task=task, before=before, model=model, image=image, images=images, after=images_of(studies))


def images_of(studies: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(studies).items() if "/" not in name and name.endswith(".gz")}


def finished(server: LabelServer) -> dict:
    end = time.monotonic() + TRAINING_S
    while (task := server.get("/train/"))["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < end, task
        time.sleep(1)
    return task


def test_an_epoch_of_training_rewrites_the_apps_weights_and_not_the_bundles(trained, bundles):
    assert trained.task["status"] == "DONE", "\n".join(trained.task["details"])
    assert trained.model.read_bytes() != trained.before
    assert (bundles[SEG] / "models" / "model.pt").read_bytes() == trained.before


def test_the_next_inference_uses_the_trained_weights(trained, answers, bundles, studies, tmp_path):
    assert (array(trained.image) != array(answers[SEG, "LPS"].image)).mean() > 0.01
    given = {"dataset_dir": studies / "scan_0_LPS.nii.gz", "output_dir": tmp_path, "ckpt_path": trained.model}
    Bundle(bundles[SEG], {}).run("inference.json", **given)
    check_same(trained.image, turned(nib.load(next(tmp_path.glob("*/*_seg.nii.gz"))), "RAS"))


def test_the_split_names_the_scans_that_were_trained_on(trained, studies):
    split = json.loads((trained.model.parent / "split.json").read_text(encoding="utf-8"))
    names = [Path(case["image"]).name for side in ("training", "validation") for case in split[side]]
    assert sorted(names) == [f"scan_{number}_LPS.nii.gz" for number in range(3)]
    assert [len(split[side]) for side in ("training", "validation")] == [2, 1]


def test_the_studies_stay_as_they_are_but_for_the_labels(trained, studies):
    assert trained.after == trained.images
    below = {path.relative_to(studies).parts[0] for path in studies.rglob("*") if path.is_file()}
    assert {name for name in below if not name.endswith(".nii.gz")} <= {"labels", "datastore_v2.json", ".lock"}


def test_the_log_shows_what_to_open(served):
    told = served.log.read_text(encoding="utf-8", errors="replace")
    assert f"MONAI Label server: {served.server.url}\n" in told
    assert f"{served.server.url}/ohif/\n" in told
    assert b"<html" in served.server.page("/ohif/")


def logged(log: Path, text: str) -> bool:
    """Whether the server writes a text now or soon: it answers first."""
    end = time.monotonic() + LOG_S
    while not (found := text in log.read_text(encoding="utf-8", errors="replace")) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def test_a_scan_without_lungs_is_refused_and_the_log_says_why(served, tmp_path):
    nib.save(nib.Nifti1Image(np.full((40, 36, 20), 40, np.int16), np.diag([-8.0, -9.0, 14.0, 1.0])), tmp_path / "a.nii")
    with pytest.raises(RuntimeError, match=r": 500 "):
        served.server.infer(CAP, tmp_path / "a.nii")
    assert logged(served.log, "Case a: no plausible lungs found: 0.00 litres")


@pytest.mark.real_data
def test_a_public_dicom_series_has_the_result_of_the_bundle_itself(served, bundles, tmp_path):
    series = real_data("covid_ct_md", "P001")
    answer = in_world(served.server.infer(CAP, series).content, tmp_path)
    Bundle(bundles[CAP], {}).run("inference.json", dataset_dir=series, output_dir=tmp_path)
    own = turned(nib.load(tmp_path / "P001" / "P001_attention_levels.nii.gz"), "RAS")
    check_same(answer, own)
    assert answer.shape == (512, 512, 148)
    assert len(np.unique(array(answer))) > 1


def test_what_the_page_on_monai_label_names_is_there(served):
    page = (ROOT / "docs" / "monai_label.md").read_text(encoding="utf-8")
    info = served.server.get("/info/")["models"]
    for model, options in info.items():
        assert f"`{model}` | {', '.join(options['labels'])}" in page
    for name in ("p_us", "p_ss", "p_final", "prediction", "ratio", "weight_us", "lung_source"):
        assert f"`{name}`" in page
    for verb in set(re.findall(r"make ([a-z-]+)", page)):
        subprocess.run(["make", "-n", verb, "STUDIES=."], cwd=ROOT, capture_output=True, check=True)
