import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from custom_components.phantom import make_scan, make_slice, write_scan_dataset
from custom_components.phantom.nifti import phantom_hu, write_nifti_array

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.seg.conftest import BUNDLE as SEG
from tests.bundles.seg.conftest import write_png_slice
from tests.ecosystem.small_bundle import small_bundle


class Payload:
    """What runs a command, were it unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.mark}'",)


def write_torch(content: Any, path: Path) -> None:
    torch.save(content, path)


def write_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def write_old_torch(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


FORMS = {"torch": write_torch, "old torch": write_old_torch, "pickle": write_pickle}


@pytest.fixture
def mark(tmp_path) -> Path:
    """The file that a payload makes; it is not there when a test ends."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "code from a file was run"


@pytest.fixture(params=FORMS)
def malicious(request, mark, tmp_path) -> Path:
    """Weights that would run a command."""
    path = tmp_path / "malicious.pt"
    FORMS[request.param]({"conv.weight": torch.zeros(2), "other": Payload(mark)}, path)
    return path


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> Path:
    """Both bundles with small networks."""
    folder = tmp_path_factory.mktemp("bundles")
    for bundle in (CAP, SEG):
        small_bundle(bundle.folder, folder / bundle.folder.name, bundle.small)
    return folder


@pytest.fixture(scope="session")
def one_scan(tmp_path_factory) -> Path:
    """A NIfTI scan with both lungs in it."""
    phantom = make_scan("covid", 0.2, 3, (64, 60, 28), (5.6, 6.0, 10.0))
    path = tmp_path_factory.mktemp("scan") / "images" / "a.nii.gz"
    path.parent.mkdir()
    write_nifti_array(phantom_hu(phantom), phantom, path)
    return path


@pytest.fixture(scope="session")
def few_scans(tmp_path_factory) -> Path:
    return write_scan_dataset(
        tmp_path_factory.mktemp("scans") / "set", 8, (36, 32, 14), (10.0, 11.0, 20.0), num_folds=2
    )


@pytest.fixture(scope="session")
def few_slices(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slices")
    for number in range(4):
        write_png_slice(make_slice(number, (56, 48)), folder, f"{number:03d}")
    return folder


@pytest.fixture
def npz(mark, tmp_path) -> Callable[[], Path]:
    """A run of slices one of whose arrays is an object."""

    def call() -> Path:
        folder = tmp_path / "runs"
        folder.mkdir()
        grey = np.zeros((2, 8, 8), np.uint8)
        lung = np.array([Payload(mark)], dtype=object)
        np.savez(folder / "volume_0001.npz", ct=grey, lung=lung, infection=grey)
        return folder

    return call
