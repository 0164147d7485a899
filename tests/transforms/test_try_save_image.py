import nibabel as nib
import torch
from custom_components import TrySaveImaged
from custom_components.engines.case_evaluator import NOT_WRITTEN
from monai.data import MetaTensor, NibabelWriter
from monai.transforms import Compose


class Failing(NibabelWriter):
    def write(self, *_, **__):
        raise ValueError("the writer's own reason.")


def item():
    image = MetaTensor(torch.arange(24.0).reshape(1, 2, 3, 4), meta={"filename_or_obj": "scans/012.nii.gz"})
    return {"pred": image, "case_id": "012"}


def save(folder, name, writer=NibabelWriter):
    return TrySaveImaged("pred", output_dir=folder, output_postfix=name, writer=writer, separate_folder=False)


def test_a_successful_write_equals_monai_and_records_nothing(tmp_path):
    found = save(tmp_path, "a")(item())
    assert found.keys() == item().keys()
    assert (nib.load(tmp_path / "012_a.nii.gz").get_fdata() == item()["pred"][0].numpy()).all()


def test_files_after_a_failed_write_are_written_and_the_reason_is_recorded(tmp_path):
    steps = Compose([save(tmp_path / "b", "b", Failing), save(tmp_path / "a", "a")])
    found = steps(item())
    assert (tmp_path / "a" / "012_a.nii.gz").is_file()
    assert found[NOT_WRITTEN] == {"pred": "pred: the writer's own reason."}
