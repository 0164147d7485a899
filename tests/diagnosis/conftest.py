import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from custom_components.diagnosis.bundle_network import INFERENCE
from custom_components.diagnosis.lung_sources import LungMasks
from custom_components.diagnosis.pipeline import SEGMENT_WEIGHTS
from custom_components.networks.vbnet import VBNet
from custom_components.phantom import Phantom, make_scan, make_volume, write_dicom
from custom_components.phantom.nifti import phantom_hu, write_nifti_array
from custom_components.transforms.lungs import segment_lungs
from custom_components.transforms.lungs.left_right import left_right_lungs
from monai.data import MetaTensor
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.bundles.cap.conftest import SMALL as SMALL_CAP
from tests.bundles.conftest import ROOT
from tests.bundles.seg.conftest import SMALL as SMALL_SEG
from tests.ecosystem.small_bundle import small_bundle

PATIENT_ID, PATIENT_NAME = "ZZ-40711", "Quirrel^Adalberta"
SMALL = {"covid_cap_bundle": SMALL_CAP, "covid_seg_bundle": SMALL_SEG}


@pytest.fixture(scope="session")
def scan() -> Phantom:
    """A scan with voxels small enough to find the lungs; all sizes and spacings differ."""
    return make_scan("covid", 0.2, 3, (96, 84, 40), (3.9, 4.4, 7.0))


@pytest.fixture(scope="session")
def study(scan, tmp_path_factory) -> Path:
    """A DICOM study of a patient with a name."""
    folder = tmp_path_factory.mktemp("study") / "QUIRREL_ADALBERTA"
    write_series(scan, folder / "axial")
    return folder


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> Path:
    """Both bundles with small networks of random weights; VB-Net has none."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, small in SMALL.items():
        small_bundle(ROOT / name, folder / name, small)
    return folder


@pytest.fixture(scope="session")
def bare_bundles(bundles, tmp_path_factory) -> Path:
    """Both bundles without weights, as they are published."""
    folder = tmp_path_factory.mktemp("bare") / "bundles"
    shutil.copytree(bundles, folder, ignore=shutil.ignore_patterns("models"))
    return folder


@pytest.fixture
def planted(bundles, tmp_path, monkeypatch) -> Callable[[Phantom], Path]:
    """The bundles with a VB-Net that returns the masks of a phantom."""
    return lambda phantom: plant(monkeypatch, bundles, phantom, tmp_path / "planted_bundles")


def plant(monkeypatch: pytest.MonkeyPatch, bundles: Path, phantom: Phantom, folder: Path) -> Path:
    """Copy the bundles, add weights of VB-Net, and let it return the masks of a phantom."""
    shutil.copytree(bundles, folder)
    weights = folder / "covid_cap_bundle" / SEGMENT_WEIGHTS
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)  # reports contain the hash of the weights
    torch.save(VBNet().state_dict(), weights)
    monkeypatch.setattr(segment_lungs, "segment_lungs_and_infection", PlantedMasks(phantom))
    return folder


def set_knobs(bundle: Path, **knobs: Any) -> None:
    """Set entries of a bundle's inference.json to other values."""
    config = bundle / INFERENCE
    content = json.loads(config.read_text(encoding="utf-8"))
    assert content.keys() >= knobs.keys()
    config.write_text(json.dumps({**content, **knobs}), encoding="utf-8")


class PlantedMasks:
    """Replaces VB-Net: returns the masks of a phantom, for a CT stored like the phantom."""

    def __init__(self, phantom: Phantom) -> None:
        self.phantom = phantom
        self.settings: list[tuple] = []

    def __call__(self, image: MetaTensor, network: Any, *settings: Any) -> tuple[MetaTensor, MetaTensor]:
        self.settings.append(settings)
        lungs = left_right_lungs(self.phantom.lung, self.phantom.affine)
        infection = self.phantom.infection * self.phantom.lung
        return tuple(MetaTensor(torch.from_numpy(mask)[None]).copy_meta_from(image) for mask in (lungs, infection))


def thin_phantom(seed: int = 0, slices: int = 50, spacing_mm: float = 2.9) -> Phantom:
    """Few pixels, but slices as thin as in a chest CT."""
    return make_volume(seed, (36, 32, slices), (10.0, 11.0, spacing_mm), lesions_ml={})


def write_series(phantom: Phantom, folder: Path, study: str = "1.2.3", **tags: Any) -> str:
    """Write a phantom as a series of a study of one patient, with some tags set; None removes one."""
    write_dicom(phantom, folder)
    return change_series(folder, study, **tags)


def change_series(folder: Path, study: str = "1.2.3", **tags: Any) -> str:
    """Change the files of a folder to a series of a study; returns its UID."""
    uid = tags.pop("SeriesInstanceUID", generate_uid())
    for path in folder.glob("*.dcm"):
        image = dcmread(path)
        image.StudyInstanceUID, image.SeriesInstanceUID = study, uid
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.PatientName, image.PatientID = PATIENT_NAME, PATIENT_ID
        for tag, value in tags.items():
            if value is None:
                delattr(image, tag)
            else:
                setattr(image, tag, value)
        image.save_as(path)
    return uid


def write_nifti(phantom: Phantom, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti_array(phantom_hu(phantom), phantom, path)
    return path


def image_of(phantom: Phantom) -> MetaTensor:
    return MetaTensor(torch.from_numpy(phantom.image_hu)[None], affine=torch.from_numpy(phantom.affine))


def masks_of(phantom: Phantom) -> LungMasks:
    lungs = left_right_lungs(phantom.lung, phantom.affine)
    return LungMasks(lungs, "planted", phantom.infection * phantom.lung)
