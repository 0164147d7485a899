"""Written images have the position of their source for nibabel and for ITK, which 3D Slicer uses."""

from itertools import product

import itk
import nibabel
import numpy as np
import pytest
from custom_components import CTReader
from custom_components.datasets.covid20_slices import convert_covid20_slices
from custom_components.datasets.ct_excerpts import convert_ct_excerpts
from custom_components.datasets.medseg import convert_jpg, convert_medseg
from custom_components.diagnosis.scan_files import write_volume
from custom_components.images.nifti import placed_image
from custom_components.phantom import write_scan_dataset, write_volume_dataset
from monai.transforms import Compose, LoadImage
from PIL import Image
from scipy.spatial.transform import Rotation

from tests.bundles.cap.conftest import BUNDLE as CAP_BUNDLE
from tests.bundles.seg.conftest import BUNDLE as SEG_BUNDLE
from tests.datasets.test_covid20_slices import run_of

SHAPE = (5, 6, 7)
TURNED = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix()
AXES = {
    "LPS": np.diag([-0.8, -0.7, 2.5]),
    "RAS": np.diag([0.8, 0.7, 2.5]),
    "reflected": np.diag([0.8, -0.7, 2.5]),
    "permuted": np.diag([0.8, 0.7, 2.5])[[2, 0, 1]],
    "oblique": TURNED @ np.diag([-0.8, -0.7, 2.5]),
    "oblique and reflected": TURNED @ np.diag([0.8, -0.7, 2.5]),
    "far away": np.diag([-0.8, -0.7, 2.5]),
}
SHEAR = np.eye(3)
SHEAR[1, 2] = np.tan(np.deg2rad(0.9))


def affine_of(name):
    affine = np.eye(4)
    affine[:3, :3] = AXES[name]
    affine[:3, 3] = (-123.4, 87.6, -1800.0 if name == "far away" else -300.2)
    return affine


def source(path, affine, codes):
    """A CT with its position in sform, qform or both."""
    image = nibabel.Nifti1Image(np.linspace(-1000, 100, np.prod(SHAPE)).reshape(SHAPE).astype(np.int16), affine)
    image.set_sform(affine, codes[1])
    image.set_qform(affine, codes[0])
    nibabel.save(image, path)
    return path


def corners(affine, shape=SHAPE):
    return (affine @ np.array([[*end, 1] for end in product(*((0, size - 1) for size in shape))]).T)[:3]


def itk_affine(path):
    image = itk.imread(str(path))
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def check_place(path, affine):
    """All readers find the corners at the expected position; a qform, if present, agrees."""
    found = nibabel.load(path)
    expected = corners(affine, found.shape)
    for read in (found.affine, itk_affine(path), *([found.get_qform()] if found.header["qform_code"] else [])):
        np.testing.assert_allclose(corners(read, found.shape), expected, atol=1e-3)


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (1, 1), (2, 4)], ids=["sform", "qform", "both", "other codes"])
@pytest.mark.parametrize("name", AXES)
def test_a_mask_and_a_map_of_diagnose_have_the_position_of_their_source(tmp_path, name, codes):
    affine, reader = affine_of(name), CTReader()
    array, meta = reader.get_data(reader.read(source(tmp_path / "ct.nii.gz", affine, codes)))
    volumes = {"lungs": array > -500, "attention_us": np.linspace(0, 1, array.size).reshape(array.shape)}
    for kind, volume in volumes.items():
        path = tmp_path / f"{kind}.nii.gz"
        write_volume(path, kind, volume, meta["affine"])
        check_place(path, affine)
        values = np.transpose(itk.array_from_image(itk.imread(str(path), itk.F)))
        np.testing.assert_allclose(values, volume, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("shape", [SHAPE, SHAPE[:2]], ids=["volume", "slice"])
@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("bundle", [SEG_BUNDLE, CAP_BUNDLE], ids=["seg", "cap"])
def test_images_saved_by_a_bundle_have_the_position_of_their_source(tmp_path, bundle, name, shape):
    affine = affine_of(name)
    image = nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape) % 2, affine)
    nibabel.save(image, tmp_path / "ct.nii.gz")
    parser = bundle.parser_of("inference.json")
    parser["output_dir"] = str(tmp_path / "out")
    loaded = LoadImage(CTReader(), ensure_channel_first=True)(tmp_path / "ct.nii.gz")
    save = parser.get_parsed_content("save")
    Compose(save)({step.keys[0]: loaded.clone() for step in save})
    written = sorted((tmp_path / "out" / "ct").iterdir())
    assert len(written) == len(save) > 0
    for path in written:
        assert nibabel.load(path).shape == (*shape, 1)[:3]
        check_place(path, affine)
        np.testing.assert_allclose(nibabel.load(path).get_fdata(), loaded[0].numpy(), atol=1e-6)


def from_stacks(folder):
    for name in ("im", "mask"):
        nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), affine_of("oblique")), folder / f"{name}.nii")
    return convert_medseg(folder / "im.nii", folder / "mask.nii", folder / "out")


def from_jpg(folder):
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(folder / "one.jpg")
    return convert_jpg(folder, folder / "out", 3, 200)


def from_runs(folder):
    np.savez(folder / "volume_0007.npz", **run_of(3))
    return convert_covid20_slices(folder, folder / "out", (1.4, 1.6, 2.5), num_folds=1)


def from_excerpts(folder):
    ct = np.zeros((2, 3, 5), np.uint8)
    np.savez(folder / "one.npz", ct=ct, lung=ct, spacing_mm=np.array([3.0, 1.5, 2.0]))
    return convert_ct_excerpts(folder, folder / "out")


WRITERS = {
    "convert_medseg": from_stacks,
    "convert_jpg": from_jpg,
    "convert_covid20_slices": from_runs,
    "convert_ct_excerpts": from_excerpts,
    "phantom_volumes": lambda folder: write_volume_dataset(folder / "out", 1, (36, 33, 12), (10, 11, 28)),
    "phantom_scans": lambda folder: write_scan_dataset(folder / "out", 8, (36, 33, 12), (10, 11, 28), num_folds=2),
}


@pytest.mark.parametrize("verb", WRITERS)
def test_images_of_a_converter_have_the_same_position_for_nibabel_and_itk(tmp_path, verb):
    WRITERS[verb](tmp_path)
    written = list((tmp_path / "out").rglob("*.nii.gz"))
    assert written
    for path in written:
        check_place(path, nibabel.load(path).get_sform())


@pytest.mark.parametrize("name", AXES)
def test_an_image_with_a_shear_below_one_degree_can_be_read_by_itk(tmp_path, name):
    """ITK supports only right angles: its positions differ by the shear, those of nibabel do not."""
    affine, reader = affine_of(name), CTReader()
    affine[:3, :3] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) @ SHEAR * np.array([0.8, 0.7, 2.5])
    array, meta = reader.get_data(reader.read(source(tmp_path / "ct.nii.gz", affine, (0, 1))))
    write_volume(tmp_path / "mask.nii.gz", "lungs", array > -500, meta["affine"])
    nibabel.save(placed_image(array, affine), tmp_path / "converted.nii.gz")
    for path in (tmp_path / "mask.nii.gz", tmp_path / "converted.nii.gz"):
        np.testing.assert_allclose(corners(nibabel.load(path).affine), corners(affine), atol=1e-3)
        off_mm = np.linalg.norm(corners(itk_affine(path)) - corners(affine), axis=0).max()
        assert off_mm <= np.tan(np.deg2rad(0.9)) * 18.5
