"""docs/python.md: each example runs as it stands, in the order of the page."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from custom_components.networks.residual_attention_unet import ResidualAttentionUNet
from custom_components.phantom import make_volume

from tests.bundles.conftest import ROOT
from tests.diagnosis.conftest import write_nifti

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.S | re.M)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder, names = tmp_path_factory.mktemp("page"), {}
    scan = make_volume(seed=1, shape=(64, 64, 6), spacing_mm=(5.9, 5.9, 46.0), lesions_ml={})
    write_nifti(scan, folder / "scan.nii.gz")
    np.save(folder / "hu.npy", scan.image_hu.astype(np.float32))
    np.save(folder / "affine.npy", scan.affine)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # any folder will do
        for block in BLOCKS:
            exec(block.replace("/path/to", str(folder)), names)
    return SimpleNamespace(folder=folder, **names)


def test_the_examples_find_what_the_page_says(page: SimpleNamespace) -> None:
    assert page.findings.case_id == "012"
    assert set(np.unique(page.findings.lungs)) == {0, 1, 2}
    assert (page.folder / "results" / "scan" / "scan_seg.nii.gz").is_file()
    assert (page.folder / "results" / "scan" / "scan_lesions.json").is_file()


def test_load_gives_networks_with_the_shipped_weights(page: SimpleNamespace) -> None:
    assert isinstance(page.lesions, ResidualAttentionUNet)
    assert {value.dtype.itemsize for value in page.lesions.parameters()} == {4}
    assert page.diagnosis.lesions is not None
    shipped = page.diagnosis.lesions.network.state_dict()
    assert all(bool((value == shipped[name]).all()) for name, value in page.lesions.state_dict().items())


def test_gradients_reach_the_networks_of_a_loop(page: SimpleNamespace) -> None:
    assert all(value.grad is not None for value in page.network.parameters())
