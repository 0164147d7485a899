"""Parts of the apps under deploy/ that need no MONAI Deploy."""

import importlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
from custom_components.dicom.identifiers import substitute_uid
from custom_components.images.ct_reader import CTReader
from monai.bundle import run
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.bundles.conftest import ROOT
from tests.ecosystem.conftest import TEXTS, bundle_result, copy_small, write_study


@pytest.fixture
def module(monkeypatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "deploy")
    return lambda name: importlib.import_module(f"bundle_app.{name}")


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


def test_a_series_is_gathered_from_all_folders_under_its_uid(module, study):
    files = sorted((study / "series").glob("*.dcm"))
    files[0].rename(study / "Doe.dcm")
    (study / "notes.txt").write_text("no DICOM")
    uid = str(dcmread(files[1]).SeriesInstanceUID)
    case = module("series_files").series_case(study, uid)
    assert (case["case_id"], case["image"][0]) == (uid, uid)
    assert sorted(case["image"][1:]) == sorted(map(str, [study / "Doe.dcm", *files[1:]]))
    assert not [path for path in study.rglob("*") if path.is_symlink()]


def test_a_series_in_a_linked_folder_is_found(module, study, tmp_path):
    (study / "series").rename(tmp_path / "elsewhere")
    (study / "series").symlink_to(tmp_path / "elsewhere")
    uid = str(dcmread(next((study / "series").glob("*.dcm"))).SeriesInstanceUID)
    assert len(module("series_files").series_case(study, uid)["image"]) == 1 + 18


@pytest.mark.parametrize(("uid", "name"), [("1.5", "1.5"), ("../0b5f3a9e", None)])
def test_a_series_with_wrong_identifiers_and_a_copy_is_read_as_it_is(module, study, uid, name):
    """Its images share one SOPInstanceUID; the case has a name that is a UID."""
    before = CTReader().get_data((study / "series",))[0]
    for path in (study / "series").glob("*.dcm"):
        image = dcmread(path)
        image.SeriesInstanceUID, image.SOPInstanceUID = uid, "1.6"
        image.save_as(path)
    shutil.copyfile(path, study / "copy.dcm")
    case = module("series_files").series_case(study, uid)
    assert case["case_id"] == (name or substitute_uid("SeriesInstanceUID", uid))
    reader = CTReader()
    np.testing.assert_array_equal(reader.get_data(reader.read(case["image"]))[0], before)


@pytest.mark.parametrize("kind", ["seg", pytest.param("cap", marks=pytest.mark.slow)])
def test_the_bundle_makes_of_the_listed_files_what_it_makes_of_their_folder(module, small_bundle, tmp_path, kind):
    """In a folder whose name has characters of MONAI's config language."""
    study, bundle = write_study(tmp_path / "a#b @c", kind), small_bundle(kind)
    files = module("series_files")
    case = files.series_case(study, str(dcmread(next((study / "series").glob("*.dcm"))).SeriesInstanceUID))
    config = str(bundle / "configs" / "inference.json")
    places = {"bundle_root": str(bundle), "output_dir": str(tmp_path / "out"), "logging_file": False}
    run(run_id="run", config_file=config, **places, **{"dataset#data": files.as_expression([case])})
    postfix = f"{TEXTS[kind][0]}.nii.gz"
    found = nib.load(tmp_path / "out" / case["case_id"] / f"{case['case_id']}{postfix}")
    own = bundle_result(bundle, study / "series", tmp_path)
    np.testing.assert_array_equal(np.asarray(found.dataobj), own.label)
    np.testing.assert_array_equal(found.affine, own.affine)


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
