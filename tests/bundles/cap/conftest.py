import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from custom_components.phantom import Phantom, make_scan, write_scan_dataset

from tests.bundles.conftest import ROOT, Bundle

# The network and its grid, as small as they still learn.
SMALL = {
    "grid": [24, 56, 48],
    "spacing_mm": [6.0, 3.3, 3.9],
    "layers": [1, 1, 1, 1],
    "block_inplanes": [8, 16, 32, 32],
    "no_max_pool": True,
    "amp": False,
}

BUNDLE = Bundle(ROOT / "covid_cap_bundle", SMALL)
config_files, parser_of = BUNDLE.config_files, BUNDLE.parser_of

NO_WORKERS = {"num_workers": 0}
TRAINING = {**NO_WORKERS, "batch_size": 4, "learning_rate": 0.005, "fold": 2}
GOLDEN = {**TRAINING, "epochs": 10, "lr_step": 8}
EVALUATION = {"num_workers": 0, "fold": 2}
ENSEMBLE = ["evaluate.yaml", "ensemble.yaml"]

SCANS, FOLDS, SCAN_SIZE, SPACING_MM = 32, 3, (64, 60, 28), (5.6, 6.0, 10.0)
KINDS = ("image", "lung", "infection")


def written() -> list[Path]:
    """What lies where the configs write by default."""
    return sorted(path for name in ("cache", "eval", "models", "output") for path in (BUNDLE.folder / name).rglob("*"))


@pytest.fixture(autouse=True, scope="session")
def _bundle_untouched():
    """What a test writes, it writes elsewhere."""
    before = written()
    yield
    assert written() == before


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return BUNDLE


def datalist_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "datalist.json").read_text(encoding="utf-8"))["cases"]


def write_datalist(folder: Path, cases: list[dict[str, Any]]) -> Path:
    (folder / "datalist.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    return folder


def copy_scans(source: Path, target: Path, names: list[str]) -> Path:
    """A few cases as images/, lungs/ and infections/."""
    for kind in KINDS:
        (target / f"{kind}s").mkdir(parents=True)
        for name in names:
            shutil.copyfile(source / f"{kind}s" / f"{name}.nii.gz", target / f"{kind}s" / f"{name}.nii.gz")
    return target


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """16 scans of each disease, which the size of the infection tells apart but for a quarter of them."""
    folder = tmp_path_factory.mktemp("scans") / "set"
    return write_scan_dataset(folder, SCANS, SCAN_SIZE, SPACING_MM, num_folds=FOLDS)


@pytest.fixture(scope="session")
def scan() -> Phantom:
    """A scan fine enough to find the lungs in, of pairwise different sizes and spacings."""
    return make_scan("covid", 0.2, 3, (96, 84, 40), (3.9, 4.4, 7.0))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def train(scans, cache_dir, bundle, tmp_path_factory) -> Callable[..., SimpleNamespace]:
    def call(names: list[str] | str, **changes: Any) -> SimpleNamespace:
        root = tmp_path_factory.mktemp("run")
        folders = {"dataset_dir": scans, "ckpt_dir": root / "models", "output_dir": root / "output"}
        bundle.run(names, "training", **{**GOLDEN, **folders, "cache_dir": cache_dir, **changes})
        return SimpleNamespace(**folders, model=root / "models" / "model.pt")

    return call


@pytest.fixture(scope="session")
def trained(train, cache_dir) -> SimpleNamespace:
    """The golden run: a shrunken uniform branch, trained once for all tests."""
    run = train("train.yaml")
    run.cache = {path.name: path.stat().st_mtime_ns for path in cache_dir.iterdir()}
    return run


@pytest.fixture(scope="session")
def balanced(trained, train) -> SimpleNamespace:
    """The size-balanced branch, from the same cache."""
    return train(["train.yaml", "size_balanced.yaml"], epochs=3)


@pytest.fixture(scope="session")
def plain(trained, train) -> SimpleNamespace:
    """The classifier without attention loss."""
    return train(["train.yaml", "plain.yaml"], epochs=1)


@pytest.fixture(scope="session")
def ensemble(trained, balanced, cache_dir, bundle, tmp_path_factory) -> SimpleNamespace:
    """Both branches evaluated together, and their common weights."""
    root = tmp_path_factory.mktemp("ensemble")
    files = {"uniform_ckpt_path": trained.model, "size_balanced_ckpt_path": balanced.model}
    made = SimpleNamespace(output_dir=root / "eval", model_path=root / "models" / "model.pt")
    data = {"dataset_dir": trained.dataset_dir, "cache_dir": cache_dir}
    bundle.run(ENSEMBLE, "evaluating", small=False, **EVALUATION, **files, **data, **vars(made))
    return made
