"""The apps under deploy/ as a user runs them: DICOM in, DICOM SEG out, voxel for voxel what the bundle writes."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr import _concepts_dict
from pydicom.uid import generate_uid

from tests.bundles.conftest import ROOT, digests
from tests.ecosystem.conftest import NAME, PATIENT_ID, TEXTS, bundle_result, edit, write_study
from tests.real_data import real_data

PYTHON = Path(os.environ.get("MONAIDEPLOY_PYTHON", ROOT / ".venv-deploy" / "bin" / "python"))
DOCUMENT = ROOT / "docs" / "monai_deploy.md"

deploy = pytest.mark.deploy


@pytest.fixture(scope="session")
def python() -> Path:
    if not PYTHON.is_file():
        pytest.skip("the MONAI Deploy environment is not there: make deploy-setup, or set MONAIDEPLOY_PYTHON")
    return PYTHON


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
def test_the_report_of_an_app_is_that_of_the_bundle(deployed, kind):
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
