import nibabel
import numpy as np
import torch
from custom_components.images.writers import MapNibabelWriter
from monai.data import MetaTensor
from monai.transforms import SaveImage


def test_a_map_comes_back_within_half_a_step_from_one_byte_a_voxel(tmp_path):
    affine = torch.tensor([[-2.0, 0, 0, 30], [0, -3, 0, 20], [0, 0, 4, -10], [0, 0, 0, 1]], dtype=torch.float64)
    values = torch.rand(1, 5, 6, 7)
    values[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    save = SaveImage(
        output_dir=tmp_path, output_postfix="map", output_ext=".nii.gz", output_dtype=np.float32, resample=False,
        separate_folder=False, writer=MapNibabelWriter, squeeze_end_dims=False, print_log=False,
    )  # fmt: skip
    save(MetaTensor(values, affine=affine, meta={"filename_or_obj": "case.nii.gz"}))
    image = nibabel.load(tmp_path / "case_map.nii.gz")
    assert image.get_data_dtype() == np.uint8
    found = image.get_fdata()
    np.testing.assert_allclose(found, values[0].numpy(), atol=0.5 / 255 + 1e-6)
    assert (found[0, 0, 0], round(found[0, 0, 1], 6)) == (0, 1)
    np.testing.assert_allclose(image.affine, affine.numpy())
