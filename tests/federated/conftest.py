import copy
from pathlib import Path

import pytest
from custom_components import phantom
from custom_components.federated.site import BundleSite
from custom_components.federated.site_settings import SiteSettings

SEG, CAP = "covid_seg_bundle", "covid_cap_bundle"
CPU = {"device": "cpu", "num_workers": 0, "amp": False}
TINY_SEG = {
    **{"network_def#features": [8, 16], "spatial_size": [32, 32], "num_folds": 3, "batch_size": 4, **CPU},
    **{"draws_per_image": 1, "learning_rate": 0.004},
}
TINY_CAP = {
    **{"grid": [16, 32, 32], "block_inplanes": [4, 4, 4, 4], "layers": [1, 1, 1, 1], "no_max_pool": True, **CPU},
    "batch_size": 4,
}
SIZE_BALANCED = ("train.yaml", "recipes/size_balanced.yaml")


@pytest.fixture(scope="session")
def slices(tmp_path_factory) -> dict[str, Path]:
    """Slices of two sites of different size."""
    folder = tmp_path_factory.mktemp("slices")
    sizes = {"north": 9, "south": 12}
    return {
        name: phantom.write_slice_dataset(folder / name, num_slices=number, size=(32, 32), seed=number, num_patients=3)
        for name, number in sizes.items()
    }


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """Scans of one site, small, but not too coarse for the lungs."""
    folder = tmp_path_factory.mktemp("scans") / "site"
    return phantom.write_scan_dataset(folder, 12, (56, 56, 24), (6.7, 6.7, 11.7), num_folds=2)


@pytest.fixture
def make_site(tmp_path):
    """A site with small networks on a data set."""

    def make(data: Path, bundle: str = SEG, configs=("train.yaml",), folder: str = "site", **changes) -> BundleSite:
        own = {**copy.deepcopy(TINY_SEG if bundle == SEG else TINY_CAP), **changes}
        settings = SiteSettings(bundle, configs, own, 1, str(data), str(tmp_path / folder))
        return BundleSite(settings, folder)

    return make
