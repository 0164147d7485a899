import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.images.writers import AtomicNibabelWriter
from monai.data import MetaTensor
from monai.transforms import SaveImaged

AFFINE = np.array([[-0.7, 0, 0, 12.0], [0, -0.8, 0, 34.0], [0, 0, 5.0, -56.0], [0, 0, 0, 1]])


def prediction(path):
    values = torch.arange(5 * 6 * 7).reshape(1, 5, 6, 7) % 4
    return MetaTensor(values, affine=torch.tensor(AFFINE), meta={"filename_or_obj": str(path)})


@pytest.mark.parametrize("writer", [AtomicNibabelWriter, "custom_components.images.writers.AtomicNibabelWriter"])
def test_save_image_writes_the_label_map_with_its_geometry(tmp_path, writer):
    save = SaveImaged("pred", output_dir=tmp_path, output_postfix="seg", writer=writer, resample=False)
    save.set_options({"output_dtype": np.uint8})
    label = prediction(tmp_path / "012.nii.gz")
    save({"pred": label})
    saved = nib.load(tmp_path / "012" / "012_seg.nii.gz")
    assert np.array_equal(np.asarray(saved.dataobj), label[0].numpy())
    np.testing.assert_allclose(saved.affine, AFFINE, rtol=1e-6)
    assert [file.name for file in (tmp_path / "012").iterdir()] == ["012_seg.nii.gz"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "seg.nii.gz"
    target.write_bytes(b"old")

    def fail_half_way(image, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(nib, "save", fail_half_way)
    writer = AtomicNibabelWriter()
    writer.set_data_array(np.zeros((1, 5, 6, 7)))
    writer.set_metadata({"affine": AFFINE})
    with pytest.raises(OSError, match="No space"):
        writer.write(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_input_is_never_overwritten(tmp_path):
    target = tmp_path / "012.nii.gz"
    writer = AtomicNibabelWriter()
    writer.set_data_array(np.zeros((1, 5, 6, 7)))
    writer.set_metadata({"affine": AFFINE, "filename_or_obj": str(target)})
    with pytest.raises(ValueError, match="is the input itself"):
        writer.write(tmp_path / "." / "012.nii.gz")
    assert not target.exists()
