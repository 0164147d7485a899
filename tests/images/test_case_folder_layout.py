from pathlib import Path

import pytest
import torch
from custom_components.images.writers import AtomicNibabelWriter, CaseFolderLayout
from monai.data import MetaTensor
from monai.transforms import SaveImaged


@pytest.mark.parametrize(
    ("source", "case"),
    [("scans/1.2.840", "1.2.840"), ("a/012.nii.gz", "012"), ("a/x.y.PNG", "x.y"), ("a.b/012", "012")],
)
def test_only_the_suffix_of_an_image_is_cut(source, case):
    assert CaseFolderLayout("out", "seg", ".nii").filename(source) == Path("out") / case / f"{case}_seg.nii"


def test_a_slice_is_written_next_to_its_report_with_the_axes_of_its_image(tmp_path):
    import nibabel as nib

    layout = CaseFolderLayout(tmp_path, "seg", ".nii.gz")
    save = SaveImaged(
        "pred", folder_layout=layout, output_ext=".nii.gz", writer=AtomicNibabelWriter, squeeze_end_dims=False,
        resample=False, print_log=False,
    )  # fmt: skip
    save({"pred": MetaTensor(torch.ones(1, 5, 6, 1), affine=torch.eye(4), meta={"filename_or_obj": "in/1.2.840"})})
    assert nib.load(tmp_path / "1.2.840" / "1.2.840_seg.nii.gz").shape == (5, 6, 1)
