"""What is written lies where its source lies, for nibabel and for ITK, which 3D Slicer reads with."""

import itk
import nibabel
import numpy as np
import pytest
from custom_components import AtomicNibabelWriter, CTReader, MapNibabelWriter
from custom_components.data.nifti_header import placed_image
from scipy.spatial.transform import Rotation

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
    """A CT whose place is told by its sform, its qform or both."""
    image = nibabel.Nifti1Image(np.linspace(-1000, 100, np.prod(SHAPE)).reshape(SHAPE).astype(np.int16), affine)
    image.set_sform(affine, codes[1])
    image.set_qform(affine, codes[0])
    nibabel.save(image, path)
    return path


def corners(affine):
    ends = np.array([[i, j, k, 1] for i in (0, 4) for j in (0, 5) for k in (0, 6)]).T
    return (affine @ ends)[:3]


def itk_affine(path):
    image = itk.imread(str(path))
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def written(path, writer, array, meta):
    writer.set_data_array(array, channel_dim=None, squeeze_end_dims=False)
    writer.set_metadata(meta, resample=False)
    writer.write(path)


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (1, 1), (2, 4)], ids=["sform", "qform", "both", "other codes"])
@pytest.mark.parametrize("name", AXES)
def test_a_mask_lies_on_its_source_for_nibabel_and_itk(tmp_path, name, codes):
    affine, reader = affine_of(name), CTReader()
    array, meta = reader.get_data(reader.read(source(tmp_path / "ct.nii.gz", affine, codes)))
    written(tmp_path / "mask.nii.gz", AtomicNibabelWriter(np.uint8), array > -500, meta)
    written(tmp_path / "map.nii.gz", MapNibabelWriter(np.float32), np.clip(array, 0, 1), meta)

    for path in (tmp_path / "mask.nii.gz", tmp_path / "map.nii.gz"):
        found = nibabel.load(path)
        np.testing.assert_allclose(corners(found.affine), corners(affine), atol=1e-3)
        np.testing.assert_allclose(corners(found.get_qform()), corners(found.get_sform()), atol=1e-3)
        np.testing.assert_allclose(corners(itk_affine(path)), corners(affine), atol=1e-3)


@pytest.mark.parametrize("name", AXES)
def test_what_is_sheared_by_less_than_a_degree_opens_in_itk_as_well(tmp_path, name):
    """ITK knows right angles alone: there it lies off by that shear, in nibabel nowhere."""
    affine, reader = affine_of(name), CTReader()
    affine[:3, :3] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) @ SHEAR * np.array([0.8, 0.7, 2.5])
    array, meta = reader.get_data(reader.read(source(tmp_path / "ct.nii.gz", affine, (0, 1))))
    written(tmp_path / "mask.nii.gz", AtomicNibabelWriter(np.uint8), array > -500, meta)
    nibabel.save(placed_image(array, affine), tmp_path / "converted.nii.gz")

    for path in (tmp_path / "mask.nii.gz", tmp_path / "converted.nii.gz"):
        np.testing.assert_allclose(corners(nibabel.load(path).affine), corners(affine), atol=1e-3)
        off_mm = np.linalg.norm(corners(itk_affine(path)) - corners(affine), axis=0).max()
        assert off_mm <= np.tan(np.deg2rad(0.9)) * 18.5
