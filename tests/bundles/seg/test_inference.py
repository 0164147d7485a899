import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from custom_components.phantom import make_slice, write_dicom
from custom_components.phantom.nifti import phantom_hu, write_nifti_array
from PIL import Image

from tests.bundles.conftest import digests
from tests.bundles.seg.conftest import LESIONS_ML, SLICE_SIZE, write_png_slice

INFECTION = (1, 2)


@pytest.fixture(scope="module")
def infer(trained, bundle, tmp_path_factory):
    """Label maps and reports of a data set, by case."""

    def call(dataset_dir: Path, out: Path | None = None) -> dict[str, tuple[nib.Nifti1Image, dict]]:
        out = tmp_path_factory.mktemp("inferred") if out is None else out
        bundle.run(
            "inference.json",
            small=False,
            dataset_dir=dataset_dir,
            ckpt_path=trained.model,
            output_dir=out,
            progress=False,
        )
        return {
            folder.name: (
                nib.load(folder / f"{folder.name}_seg.nii.gz"),
                json.loads((folder / f"{folder.name}_lesions.json").read_text(encoding="utf-8")),
            )
            for folder in sorted(out.iterdir())
        }

    return call


@pytest.fixture(scope="module")
def volume_result(infer, volume, tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "ct.nii.gz"
    write_nifti_array(phantom_hu(volume), volume, path)
    return infer(path)["ct"]


def labels(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)


def turned(image: nib.Nifti1Image, axcodes: str) -> nib.Nifti1Image:
    target = nib.orientations.axcodes2ornt(axcodes)
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))


def test_the_prediction_is_worth_comparing(volume_result):
    assert set(np.unique(labels(volume_result[0]))) >= {0, 1, 2}


def test_a_png_gives_label_maps_and_a_report(infer, slices, tmp_path):
    path = slices / "images" / "003.png"
    image, report = infer(path, tmp_path)["003"]
    assert (image.shape[:2], image.header.get_data_dtype()) == ((56, 48), np.uint8)
    picture = np.asarray(Image.open(tmp_path / "003" / "003_seg.png"))
    assert picture.shape == (48, 56)
    assert (picture == labels(image).reshape(56, 48).T).all()
    assert report["geometry"]["spacing_mm"] is None
    counts = np.bincount(picture.ravel(), minlength=4)
    assert [report["lesions"][name]["pixels"] for name in ("ground_glass", "consolidation", "pleural_effusion")] == (
        counts[1:].tolist()
    )
    assert counts[1:].sum() > 0


def test_a_folder_of_slices_gives_a_folder_a_case_and_touches_no_input(infer, slices, tmp_path):
    before = digests(slices)
    assert list(infer(slices / "images", tmp_path)) == [f"{number:03d}" for number in range(24)]
    assert digests(slices) == before


@pytest.mark.parametrize("axcodes", ["RAS", "PIR"])
def test_a_volume_has_the_same_lesions_however_it_is_stored(infer, volume, volume_result, tmp_path, axcodes):
    upright = nib.Nifti1Image(phantom_hu(volume), volume.affine)
    stored = turned(upright, axcodes)
    nib.save(stored, tmp_path / "ct.nii.gz")
    image, report = infer(tmp_path / "ct.nii.gz")["ct"]
    assert nib.aff2axcodes(image.affine) == tuple(axcodes)
    assert image.shape == stored.shape
    assert np.allclose(image.affine, stored.affine)
    again = turned(image, "LPS")
    assert np.allclose(again.affine, volume.affine, atol=1e-4)
    assert (labels(again) == labels(volume_result[0])).all()
    for name, lesion in volume_result[1]["lesions"].items():
        assert report["lesions"][name]["pixels"] == lesion["pixels"]
        assert report["lesions"][name]["volume_ml"] == pytest.approx(lesion["volume_ml"])


def test_a_dicom_series_has_the_geometry_of_its_files_and_the_lesions_of_the_nifti(
    infer, volume, volume_result, tmp_path
):
    name = "1.2.840.1"
    write_dicom(volume, tmp_path / "in" / name)
    before = digests(tmp_path / "in")
    (case, (image, report)), *others = infer(tmp_path / "in" / name, tmp_path / "out").items()
    assert (case, others, report["case_id"]) == (name, [], name)
    assert {path.name for path in (tmp_path / "out" / name).iterdir()} >= {f"{name}_seg.nii.gz", f"{name}_lesions.json"}
    assert image.shape == volume.label.shape
    assert np.allclose(image.affine, volume.affine, atol=1e-3)
    assert (labels(image) == labels(volume_result[0])).all()
    assert digests(tmp_path / "in") == before
    assert "PHANTOM-0000" not in json.dumps(report)


def test_a_sheet_of_several_dicom_series_is_a_case_a_folder(infer, volume, tmp_path):
    for name in ("1.2.3", "1.2.4"):
        write_dicom(volume, tmp_path / "in" / name)
    assert list(infer(tmp_path / "in", tmp_path / "out")) == ["1.2.3", "1.2.4"]


def test_the_infected_percent_is_that_of_the_written_label_map(infer, volume, tmp_path):
    write_nifti_array(phantom_hu(volume), volume, tmp_path / "in" / "images" / "ct.nii.gz")
    write_nifti_array(volume.lung, volume, tmp_path / "in" / "lungs" / "ct.nii.gz")
    image, report = infer(tmp_path / "in", tmp_path / "out")["ct"]
    infected = np.isin(labels(image), INFECTION) & (volume.lung > 0)
    expected = 100 * infected.sum() / (volume.lung > 0).sum()
    assert expected > 0
    assert report["infection_percent_of_lung"] == pytest.approx(expected)
    voxel_ml = 7.8 * 8.2 * 30.0 / 1000
    ground_glass = report["lesions"]["ground_glass"]
    assert ground_glass["volume_ml"] == pytest.approx((labels(image) == 1).sum() * voxel_ml)


def test_a_prediction_finds_most_of_a_slices_lesions(infer, tmp_path):
    phantom = make_slice(101, SLICE_SIZE, lesions_ml=LESIONS_ML, level_mm=0.0)
    write_png_slice(phantom, tmp_path / "in", "new", kinds=("images",))
    image, _ = infer(tmp_path / "in" / "images", tmp_path / "out")["new"]
    found, true = labels(image).reshape(SLICE_SIZE) > 0, phantom.label[..., 0] > 0
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.4
