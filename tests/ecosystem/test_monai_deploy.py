"""The apps under deploy/ as a user runs them: DICOM in, DICOM SEG out, voxel for voxel what the bundle writes."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components import ResidualAttentionUNet, __version__
from custom_components.dicom.identifiers import substitute_uid
from custom_components.dicom.series import check_dicom_series
from custom_components.phantom import make_scan, make_volume, write_dicom, write_localizer
from monai.bundle import ConfigParser
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr import _concepts_dict
from pydicom.uid import generate_uid

from tests.bundles.cap.conftest import SMALL as SMALL_CAP
from tests.bundles.conftest import ROOT, Bundle, digests
from tests.bundles.seg.conftest import SMALL as SMALL_SEG
from tests.real_data import real_data

# What a random network finds are specks all over the body: all of it is compared.
WHOLE = {"smallest_lesion": 0, "within_lungs": False}
PYTHON = Path(os.environ.get("MONAIDEPLOY_PYTHON", ROOT / ".venv-deploy" / "bin" / "python"))
DOCUMENT = ROOT / "docs" / "monai_deploy.md"
NAME, PATIENT_ID = "Featherstonehaugh", "ID-4711-0815"
# What follows the name of a case in the files that the app reads.
TEXTS = {"seg": ("_seg", "lesions"), "cap": ("_attention_levels", "diagnosis")}
# With weights of these seeds every label occurs, on the phantom and on the public patient.
SEEDS = {"seg": 5, "cap": 0}

deploy = pytest.mark.deploy


@pytest.fixture(scope="session")
def python() -> Path:
    if not PYTHON.is_file():
        pytest.skip("the MONAI Deploy environment is not there: make deploy-setup, or set MONAIDEPLOY_PYTHON")
    return PYTHON


@pytest.fixture
def module(monkeypatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "deploy")
    return lambda name: importlib.import_module(f"bundle_app.{name}")


@dataclass(frozen=True)
class Done:
    """A run of an app: its exit status, all it said, and what it wrote."""

    status: int
    said: str
    folder: Path

    def dicom(self, modality: str) -> Dataset:
        found = [file for file in map(dcmread, self.folder.glob("*.dcm")) if file.Modality == modality]
        assert len(found) == 1
        return found[0]

    def result(self, ending: str) -> Path:
        (found,) = self.folder.glob(f"*/*{ending}")
        return found


@pytest.fixture(scope="session")
def run_app(python, tmp_path_factory) -> Callable[..., Done]:
    """Run the command of the documentation."""

    def call(kind: str, study: Path, bundle: Path, *options: str, output: Path | None = None) -> Done:
        output = output or tmp_path_factory.mktemp("deployed") / "out"
        places = {"/path/to/study": study, "/path/to/results": output, f"covid_{kind}_bundle": bundle}
        (line,) = [line for line in commands("python deploy/") if f"covid_{kind}_app" in line]
        words = [str(places.get(word, word)) for word in shlex.split(line)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [python, *words[1:], *options],
            cwd=ROOT,
            env={**environment, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        return Done(done.returncode, done.stdout, output)

    return call


def commands(start: str) -> list[str]:
    """Commands of the documentation, each as one line."""
    blocks = re.findall(r"^```\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.S | re.M)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(start)]


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory) -> Callable[..., Path]:
    """Copy of a bundle with a small network, whose weights are drawn wide enough that all labels occur."""
    root = tmp_path_factory.mktemp("small")

    def call(kind: str, std: float = 0.3) -> Path:
        folder = root / f"{kind}_{std}" / f"covid_{kind}_bundle"
        if not folder.is_dir():
            copy_small(kind, folder)
            write_weights(folder, std, SEEDS[kind])
        return folder

    return call


def copy_small(kind: str, folder: Path) -> None:
    source = ROOT / f"covid_{kind}_bundle"
    shutil.copytree(source / "configs", folder / "configs")
    (folder / "custom_components").symlink_to(ROOT / "custom_components")
    config = folder / "configs" / "inference.json"
    parser = ConfigParser()
    parser.read_config(config)
    parser.update({**SMALL_SEG, **WHOLE} if kind == "seg" else SMALL_CAP)
    config.write_text(json.dumps(parser.get()), encoding="utf-8")


def write_weights(folder: Path, std: float, seed: int) -> None:
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    network = parser.get_parsed_content("network_def")
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        torch.nn.init.normal_(weight.data, std=std, generator=generator)
    if isinstance(network, ResidualAttentionUNet):  # no class is to be likelier than the others
        image = torch.from_numpy(make_volume(6, (48, 48, 1), (8.0, 8.0, 30.0)).image_hu).permute(2, 0, 1)[None]
        with torch.inference_mode():
            logits = network.eval()(((image.float() + 1350) / 1500).clamp(0, 1))
        network.output.conv.bias.data -= logits.mean(dim=(0, 2, 3))
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")


def write_study(folder: Path, kind: str) -> Path:
    """A localizer, a thick series and one whose pixels are not square; the patient's name has no caret."""
    if kind == "seg":
        phantom, compressed = make_volume(5, (72, 60, 18), (5.0, 5.4, 15.0)), False
    else:
        phantom, compressed = make_scan("covid", 0.2, 3, (96, 84, 40), (3.9, 4.4, 7.0)), True
    write_dicom(phantom, folder / "series", patient_id=PATIENT_ID, compressed=compressed)
    write_localizer(phantom, folder, patient_id=PATIENT_ID)
    study_uid = dcmread(folder / "localizer.dcm").StudyInstanceUID
    write_dicom(make_volume(6, (40, 44, 9), (8.0, 9.0, 30.0)), folder / "thick", patient_id=PATIENT_ID)
    edit(folder / "thick", StudyInstanceUID=study_uid)
    edit(folder, PatientName=NAME, SpecificCharacterSet="ISO_IR 192")
    return folder


def edit(folder: Path, **attributes: str | None) -> None:
    for path in folder.rglob("*.dcm"):
        image = dcmread(path)
        for key, value in attributes.items():
            if value is None:
                image.pop(key, None)
            else:
                setattr(image, key, value)
        image.save_as(path)


@pytest.fixture(scope="session")
def deployed(run_app, small_bundle, tmp_path_factory) -> Callable[[str], SimpleNamespace]:
    """Each app run once on a phantom's study, its log at the most talkative level, and the bundle on the series."""
    runs = {}

    def call(kind: str) -> SimpleNamespace:
        if kind not in runs:
            study = write_study(tmp_path_factory.mktemp("study"), kind)
            before, bundle = digests(study), small_bundle(kind)
            done = run_app(kind, study, bundle, "-l", "DEBUG")
            assert done.status == 0, done.said
            own = bundle_result(bundle, study / "series", tmp_path_factory.mktemp("own"))
            runs[kind] = SimpleNamespace(study=study, before=before, done=done, own=own)
        return runs[kind]

    return call


def bundle_result(bundle: Path, series: Path, target: Path) -> SimpleNamespace:
    """What the bundle's own command writes for the folder of a series."""
    files = [str(bundle / "configs" / "inference.json")]
    done = Bundle(bundle, {}).command(target, "run", files, dataset_dir=series, output_dir=target / "out")
    assert done.returncode == 0, done.stdout
    kind = bundle.name.split("_")[1]
    postfix, report = TEXTS[kind]
    image = nib.load(target / "out" / series.name / f"{series.name}{postfix}.nii.gz")
    text = (target / "out" / series.name / f"{series.name}_{report}.json").read_text(encoding="utf-8")
    return SimpleNamespace(label=np.asarray(image.dataobj), affine=image.affine, report=json.loads(text))


def label_of_seg(seg: Dataset, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The SEG's voxels on another grid, put there by nothing but the geometry that the SEG states."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    to_index = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    label = np.zeros(shape, dtype=np.uint8)
    for pixels, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        first = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        rows, columns = np.nonzero(pixels)
        places = first[:, None] + np.outer(column, rows * between_rows) + np.outer(row, columns * between_columns)
        index = (to_index @ np.vstack([places, np.ones(len(rows))]))[:3]
        np.testing.assert_allclose(index, index.round(), atol=0.02)
        x, y, z = index.round().astype(int)
        assert not label[x, y, z].any()
        label[x, y, z] = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    return label


def assert_equal_voxels(done: Done, own: SimpleNamespace, labels: int) -> None:
    found = label_of_seg(done.dicom("SEG"), own.affine, own.label.shape)
    assert set(np.unique(own.label)) == set(range(labels + 1))
    np.testing.assert_array_equal(found, own.label)


@deploy
@pytest.mark.parametrize(("kind", "labels"), [("seg", 3), ("cap", 4)])
def test_the_seg_of_an_app_equals_the_inference_of_its_bundle_voxel_for_voxel(deployed, kind, labels):
    assert_equal_voxels(deployed(kind).done, deployed(kind).own, labels)


@deploy
@pytest.mark.parametrize("kind", ["seg", "cap"])
def test_the_report_beside_the_seg_is_that_of_the_bundle(deployed, kind):
    own = deployed(kind).own.report
    found = json.loads(deployed(kind).done.result(f"_{TEXTS[kind][1]}.json").read_text(encoding="utf-8"))
    different = {key for key in own if own[key] != found[key]}
    assert different <= {"case_id", "overlays", "files"}
    assert found["notice"].startswith("Research use only")


@deploy
def test_the_sr_gives_the_class_scores(deployed):
    run = deployed("cap")
    scores = json.loads(run.done.result("_diagnosis.json").read_text(encoding="utf-8"))
    lines = run.done.dicom("SR").ContentSequence[0].TextValue.splitlines()
    assert f"Probability of the uniform-sampling branch: {scores['p_us']}" in lines
    assert f"Probability of the size-balanced branch: {scores['p_ss']}" in lines
    assert "Infection volume / lung volume: unknown" in lines
    assert lines[-1] == scores["notice"]


@deploy
@pytest.mark.parametrize(("kind", "modalities"), [("seg", ["SEG"]), ("cap", ["SEG", "SR"])])
def test_what_is_written_belongs_to_patient_study_and_series(deployed, kind, modalities):
    run = deployed(kind)
    source = dcmread(next((run.study / "series").glob("*.dcm")))
    for modality in modalities:
        written = run.done.dicom(modality)
        for key in ("PatientName", "PatientID", "StudyInstanceUID"):
            assert written[key].value == source[key].value
        assert "research use only" in written.SeriesDescription
    assert run.done.dicom("SEG").FrameOfReferenceUID == source.FrameOfReferenceUID
    referenced = run.done.dicom("SEG").ReferencedSeriesSequence[0]
    images = {dcmread(path).SOPInstanceUID for path in (run.study / "series").glob("*.dcm")}
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == images


@deploy
@pytest.mark.parametrize("kind", ["seg", "cap"])
def test_identity_is_in_dicom_files_alone(deployed, kind):
    run = deployed(kind)
    assert "[DEBUG]" in run.done.said
    texts = [path.read_bytes().decode("latin-1") for path in run.done.folder.rglob("*") if path.suffix == ".json"]
    names = [str(path.relative_to(run.done.folder)) for path in run.done.folder.rglob("*")]
    for identity in (NAME, PATIENT_ID):
        assert identity not in "\n".join([run.done.said, *texts, *names])


@deploy
@pytest.mark.parametrize("kind", ["seg", "cap"])
def test_the_input_is_left_as_it_was(deployed, kind):
    run = deployed(kind)
    assert digests(run.study) == run.before


@deploy
@pytest.mark.parametrize(("kind", "labels"), [("seg", 3), ("cap", 4)])
def test_coded_concepts_are_those_of_the_dictionary(deployed, kind, labels):
    segments = deployed(kind).done.dicom("SEG").SegmentSequence
    assert [segment.SegmentNumber for segment in segments] == list(range(1, labels + 1))
    for segment in segments:
        check_code(segment.SegmentedPropertyCategoryCodeSequence[0])
        check_code(segment.SegmentedPropertyTypeCodeSequence[0])
        check_code(segment.AnatomicRegionSequence[0])
        assert segment.SegmentAlgorithmType == "AUTOMATIC"


def check_code(code: Dataset) -> None:
    entries = _concepts_dict.concepts[code.CodingSchemeDesignator].values()
    meanings = [meaning for values in entries for value, (meaning, _) in values.items() if value == code.CodeValue]
    assert code.CodeMeaning in meanings, code


@deploy
def test_the_segments_are_named_as_the_labels_are(deployed):
    found = [segment.SegmentLabel for segment in deployed("seg").done.dicom("SEG").SegmentSequence]
    assert found == ["Ground glass opacity", "Consolidation", "Pleural effusion"]
    levels = [segment.SegmentLabel for segment in deployed("cap").done.dicom("SEG").SegmentSequence]
    assert levels == ["Attention low", "Attention medium", "Attention high", "Attention very high"]


@deploy
def test_without_lesion_and_with_headers_stripped_of_the_patient_there_is_an_empty_seg(run_app, small_bundle, tmp_path):
    study = write_study(tmp_path / "study", "seg")
    edit(study, PatientName=None, PatientBirthDate=None, StudyID=None, AccessionNumber=None)
    done = run_app("seg", study, small_bundle("seg", std=0.0))
    assert done.status == 0, done.said
    seg = done.dicom("SEG")
    assert not seg.pixel_array.any()
    assert (seg.PatientName, seg.PatientID, len(seg.SegmentSequence)) == ("", PATIENT_ID, 3)


@deploy
def test_doubled_slices_are_refused_as_the_bundle_refuses_them(run_app, small_bundle, tmp_path):
    study = write_study(tmp_path / "study", "seg")
    image = dcmread(sorted((study / "series").glob("*.dcm"))[3])
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.save_as(study / "other_phase.dcm")
    check_refused(run_app("seg", study, small_bundle("seg")), "1 slice positions occur twice")


@deploy
def test_a_study_without_axial_ct_is_refused(run_app, small_bundle, tmp_path):
    study = write_study(tmp_path / "study", "seg")
    shutil.rmtree(study / "series")
    shutil.rmtree(study / "thick")
    check_refused(run_app("seg", study, small_bundle("seg")), "No axial CT series")


@deploy
def test_two_studies_are_refused(run_app, small_bundle, tmp_path):
    study = write_study(tmp_path / "study", "seg")
    edit(study / "thick", StudyInstanceUID=generate_uid())
    check_refused(run_app("seg", study, small_bundle("seg")), "axial CT series of 2 studies")


@deploy
def test_of_several_axial_series_the_one_with_most_images_is_taken_and_the_others_are_named(deployed):
    run = deployed("seg")
    taken, left = (dcmread(next((run.study / name).glob("*.dcm"))).SeriesInstanceUID for name in ("series", "thick"))
    assert run.done.dicom("SEG").ReferencedSeriesSequence[0].SeriesInstanceUID == taken
    assert f"Series {left} (9 images) is not used, because series {taken} has as many or more (18)" in run.done.said


@deploy
def test_an_output_folder_among_the_input_is_refused(run_app, small_bundle, tmp_path):
    study = write_study(tmp_path / "study", "seg")
    before = digests(study)
    done = run_app("seg", study, small_bundle("seg"), output=study / "series" / "out")
    check_refused(done, "Choose another output folder")
    assert digests(study) == before


@deploy
@pytest.mark.skipif((ROOT / "covid_seg_bundle/models/model.pt").exists(), reason="the bundle has weights")
def test_without_weights_the_app_says_how_to_get_them(run_app, tmp_path):
    done = run_app("seg", write_study(tmp_path / "study", "seg"), ROOT / "covid_seg_bundle")
    check_refused(done, "covid_seg_bundle has no weights")


def check_refused(done: Done, message: str) -> None:
    last = done.said.strip().splitlines()[-1]
    assert done.status == 1
    assert message in done.said[done.said.rindex("\nERROR ") :], last
    assert not list(done.folder.rglob("*.dcm"))
    for identity in (NAME, PATIENT_ID):
        assert identity not in done.said


@deploy
@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(("kind", "labels"), [("seg", 3), ("cap", 4)])
def test_on_a_public_patient_the_seg_equals_the_inference_of_the_bundle(run_app, small_bundle, tmp_path, kind, labels):
    series = real_data("covid_ct_md", "P001")
    done = run_app(kind, series, small_bundle(kind))
    assert done.status == 0, done.said
    own = bundle_result(small_bundle(kind), series, tmp_path)
    assert own.label.shape == (512, 512, 148)
    assert_equal_voxels(done, own, labels)


@deploy
def test_the_packager_accepts_the_packaging_command(python):
    lines = commands("monai-deploy package")
    assert len(lines) == 2
    program = "import sys; from holoscan_cli.__main__ import parse_args; print(parse_args(sys.argv[1:]).application)"
    for line in lines:
        words = [word.replace("/path/to/models", str(ROOT / "docs")) for word in shlex.split(line)]
        done = subprocess.run(
            [python, "-c", program, *words], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith("_app")


# What follows needs no MONAI Deploy.


def headers(affine: np.ndarray, shape: tuple[int, int, int]) -> list[Dataset]:
    """Images of a series on the grid of an affine (RAS mm), in the order of their slices."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    made = []
    for index in range(shape[2]):
        image = Dataset()
        image.SOPInstanceUID, image.Columns, image.Rows = f"1.2.{index + 1}", shape[0], shape[1]
        image.PixelSpacing = [spacing[1], spacing[0]]
        image.ImageOrientationPatient = [*(lps[:3, 0] / spacing[0]), *(lps[:3, 1] / spacing[1])]
        image.ImagePositionPatient = list((lps @ [0, 0, index, 1])[:3])
        made.append(image)
    return made


def oblique() -> np.ndarray:
    """Rows to the right, columns to anterior and up, slices from head to feet."""
    tilt = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, 0] = 0.7 * np.array([1, 0, 0])
    affine[:3, 1] = 0.9 * np.array([0, np.cos(tilt), np.sin(tilt)])
    affine[:3, 2] = -2.5 * np.array([0, -np.sin(tilt), np.cos(tilt)])
    affine[:3, 3] = [-90, 120, 400]
    return affine


SHAPE = (5, 6, 7)


@pytest.fixture
def label() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)


def test_frames_follow_the_images_in_whatever_order_they_come(module, label):
    order = np.random.default_rng(1).permutation(SHAPE[2])
    images = headers(oblique(), SHAPE)
    frames = module("label_frames").label_frames(label, oblique(), [images[k] for k in order])
    assert frames.shape == (7, 6, 5)
    for frame, k in zip(frames, order, strict=True):
        for x, y in np.ndindex(5, 6):
            assert frame[y, x] == label[x, y, k]


def test_a_label_map_of_another_size_has_no_frames(module, label):
    with pytest.raises(ValueError, match=r"shape \(5, 6, 7\), expected \(5, 6, 6\)"):
        module("label_frames").label_frames(label, oblique(), headers(oblique(), SHAPE)[:6])


def test_a_label_map_with_its_axes_turned_has_no_frames(module, label):
    turned = oblique() @ np.diag([-1.0, 1, 1, 1])
    with pytest.raises(ValueError, match=r"on the CT's own grid"):
        module("label_frames").label_frames(label, turned, headers(oblique(), SHAPE))


def test_images_at_one_place_have_no_frames(module, label):
    images = headers(oblique(), SHAPE)
    images[2].ImagePositionPatient = images[3].ImagePositionPatient
    with pytest.raises(ValueError, match="one to one"):
        module("label_frames").label_frames(label, oblique(), images)


@pytest.fixture
def study(tmp_path) -> Path:
    return write_study(tmp_path / "study", "seg")


def test_a_series_is_gathered_from_all_folders_without_the_names_of_the_input(module, study, tmp_path):
    files = sorted((study / "series").glob("*.dcm"))
    files[0].rename(study / "Doe.dcm")
    (study / "notes.txt").write_text("no DICOM")
    uid = str(dcmread(files[1]).SeriesInstanceUID)
    (tmp_path / "links").mkdir()
    folder = module("series_files").link_series(study, uid, tmp_path / "links")
    assert folder.name == uid
    assert len(list(folder.iterdir())) == 18
    for link in folder.iterdir():
        assert dcmread(link).SOPInstanceUID == link.stem


def test_a_series_in_a_linked_folder_is_found(module, study, tmp_path):
    (study / "series").rename(tmp_path / "elsewhere")
    (study / "series").symlink_to(tmp_path / "elsewhere")
    uid = str(dcmread(next((study / "series").glob("*.dcm"))).SeriesInstanceUID)
    assert len(list(module("series_files").link_series(study, uid, tmp_path).iterdir())) == 18


@pytest.mark.parametrize(("uid", "name"), [("1.5", "1.5"), ("../0b5f3a9e", None)])
def test_a_series_with_wrong_identifiers_and_a_copy_is_read_as_it_is(module, study, tmp_path, uid, name):
    """Its images share one SOPInstanceUID; the folder of the links has a name that is a UID."""
    before = check_dicom_series(study / "series").shape
    for path in (study / "series").glob("*.dcm"):
        image = dcmread(path)
        image.SeriesInstanceUID, image.SOPInstanceUID = uid, "1.6"
        image.save_as(path)
    shutil.copyfile(path, study / "copy.dcm")
    folder = module("series_files").link_series(study, uid, tmp_path)
    assert folder == tmp_path / (name or substitute_uid("SeriesInstanceUID", uid))
    assert check_dicom_series(folder).shape == before


def test_headers_are_completed_with_empty_values_and_nothing_else(module):
    images = headers(oblique(), SHAPE)
    for image in images:
        image.StudyInstanceUID, image.FrameOfReferenceUID, image.PatientID = "1.2", "1.3", "kept"
        image.SeriesInstanceUID = "1.4"
    assert module("headers").complete_headers(images, lambda number: b"") == []
    assert all((image.PatientID, image.PatientName, image.StudyDate) == ("kept", "", "") for image in images)


def test_images_without_frame_of_reference_share_one_that_is_made_for_them(module):
    images = headers(oblique(), SHAPE)
    problems = module("headers").complete_headers(images, lambda number: b"")
    assert "FrameOfReferenceUID is missing" in problems
    assert len({image.FrameOfReferenceUID for image in images}) == 1
    assert images[0].FrameOfReferenceUID.is_valid


SEG_NAME = "COVID-19 lesion segmentation"


@pytest.mark.parametrize("place", ["", ".."])
def test_a_bundle_is_found_by_its_folder_or_the_folder_above(module, small_bundle, place):
    bundle = small_bundle("seg")
    found = module("bundle_folder").find_bundle(bundle / place, SEG_NAME)
    assert found.resolve() == bundle


def test_another_bundle_is_refused_by_name(module, small_bundle):
    with pytest.raises(ValueError, match="found 'COVID-19 or community-acquired pneumonia'"):
        module("bundle_folder").find_bundle(small_bundle("cap"), SEG_NAME)


def test_a_folder_without_bundle_is_refused(module, tmp_path):
    with pytest.raises(ValueError, match=r"found no bundle\. Give its folder: -m"):
        module("bundle_folder").find_bundle(tmp_path, SEG_NAME)


@pytest.mark.parametrize(("listed", "remedy"), [(True, "download_large_files --bundle_path"), (False, "Train them")])
def test_a_bundle_without_weights_is_refused_with_what_to_do(module, tmp_path, listed, remedy):
    copy_small("seg", tmp_path)
    if listed:
        (tmp_path / "large_files.yml").write_text("large_files: []\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"has no weights, .*model.pt does not exist. .*{remedy}"):
        module("bundle_folder").find_bundle(tmp_path, SEG_NAME)


@pytest.mark.parametrize(("source", "target"), [("a", "a"), ("a", "a/out"), ("a/in", "a"), ("a", "b/../a/out")])
def test_overlapping_folders_are_refused(module, tmp_path, source, target):
    with pytest.raises(ValueError, match=r"overlap\. Choose another output folder"):
        module("output_folder").check_apart(tmp_path / source, tmp_path / target)


def test_folders_side_by_side_are_accepted(module, tmp_path):
    module("output_folder").check_apart(tmp_path / "a", tmp_path / "ab")


@pytest.mark.parametrize("kind", ["seg", "cap"])
def test_pinned_versions_are_those_of_the_bundle(kind):
    text = (ROOT / "deploy" / f"covid_{kind}_app" / "requirements.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if "==" in line)
    metadata = json.loads((ROOT / f"covid_{kind}_bundle/configs/metadata.json").read_text(encoding="utf-8"))
    required = {**metadata["required_packages_version"], "torch": metadata["pytorch_version"]}
    required |= {"monai": metadata["monai_version"], "numpy": metadata["numpy_version"]}
    assert {name: pins[name] for name in required} == required


@pytest.mark.parametrize("kind", ["seg", "cap"])
def test_the_package_has_the_version_of_the_bundle(kind):
    assert f"\n  version: {__version__}\n" in (ROOT / f"deploy/covid_{kind}_app/app.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("bundle", "app"), [("covid_seg_bundle", "covid_seg_app"), ("dist/covid_cap_bundle/", "covid_cap_app")]
)
def test_make_runs_the_app_of_the_bundle(bundle, app):
    command = ["make", "-n", "deploy", "INPUT=a b", "OUTPUT=out", f"BUNDLE={bundle}"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    assert f'deploy/{app} -i "a b" -o "out" -m "{bundle}"' in said


def test_make_without_input_says_what_it_needs(tmp_path):
    (tmp_path / "none").touch()
    command = ["make", "-o", "none", "deploy", "DEPLOY_STAMP=none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert "INPUT or OUTPUT is missing: make deploy INPUT=" in done.stdout
