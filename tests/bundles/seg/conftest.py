import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from custom_components.phantom import Phantom, make_slice, make_volume
from custom_components.pictures.slices import window_to_grey
from PIL import Image

from tests.bundles.conftest import ROOT, Bundle

SLICE_SIZE = (56, 48)
LESIONS_ML = {"ground_glass": 26.0, "consolidation": 24.0, "pleural_effusion": 30.0}
# The network and its grid, as small as they still learn.
SMALL = {
    "network_def#features": [8, 16, 32],
    "network_def#num_heads": 1,
    "network_def#num_rounds": 1,
    "spatial_size": [48, 48],
    "amp": False,
}

TRAINING = {"num_workers": 0, "num_folds": 4, "learning_rate": 0.004, "batch_size": 4, "epochs": 6}
GOLDEN = {**TRAINING, "loss#weight": [0.1, 1, 1, 1]}
BUNDLE = Bundle(ROOT / "covid_seg_bundle", SMALL)
config_files, parser_of = BUNDLE.config_files, BUNDLE.parser_of


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return BUNDLE


def write_png(array: np.ndarray, path: Path) -> None:
    """Write array[x, y], uint8, as the PNG whose rows are y."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.T).save(path)


def write_png_slice(phantom: Phantom, folder: Path, name: str, kinds: tuple[str, ...] = ("images", "masks")) -> None:
    grey = np.rint(window_to_grey(phantom.image_hu) * 255).astype(np.uint8)
    arrays = {"images": grey, "masks": phantom.label, "lungs": phantom.lung}
    for kind in kinds:
        write_png(arrays[kind][..., 0], folder / kind / f"{name}.png")


@pytest.fixture(scope="session")
def slices(tmp_path_factory) -> Path:
    """12 patients with 2 slices each, every slice with all three lesions, as PNG and datalist."""
    folder = tmp_path_factory.mktemp("slices")
    cases = []
    for number in range(24):
        patient, level_mm = number // 2, -20.0 + 40.0 * (number % 2)
        name = f"{number:03d}"
        write_png_slice(make_slice(patient, SLICE_SIZE, lesions_ml=LESIONS_ML, level_mm=level_mm), folder, name)
        files = {"image": f"images/{name}.png", "label": f"masks/{name}.png"}
        cases.append({**files, "group": f"patient_{patient:02d}"})
    (folder / "datalist.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def volume() -> Phantom:
    """A volume with pairwise different sizes and spacings."""
    return make_volume(5, (46, 40, 9), (7.8, 8.2, 30.0))


@pytest.fixture(scope="session")
def trained(slices, bundle, tmp_path_factory) -> SimpleNamespace:
    """The golden run: a shrunken twin, trained once for all tests."""
    root = tmp_path_factory.mktemp("golden")
    folders = {"dataset_dir": slices, "ckpt_dir": root / "models", "output_dir": root / "output"}
    bundle.run("train.yaml", "training", **GOLDEN, **folders)
    return SimpleNamespace(**folders, model=root / "models" / "model.pt")
