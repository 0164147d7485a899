"""A small bundle and a study of DICOM series, for the apps under deploy/."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components import ResidualAttentionUNet
from custom_components.phantom import make_scan, make_volume, write_dicom, write_localizer
from monai.bundle import ConfigParser
from pydicom import dcmread

from tests.bundles.cap.conftest import SMALL as SMALL_CAP
from tests.bundles.conftest import ROOT, Bundle
from tests.bundles.seg.conftest import SMALL as SMALL_SEG

# What a random network finds are specks all over the body: all of it is compared.
WHOLE = {"smallest_lesion": 0, "within_lungs": False}
# What follows the name of a case in the files that the app reads.
TEXTS = {"seg": ("_seg", "lesions"), "cap": ("_attention_levels", "diagnosis")}
NAME, PATIENT_ID = "Featherstonehaugh", "ID-4711-0815"
# With weights of these seeds every label occurs, on the phantom and on the public patient.
SEEDS = {"seg": 5, "cap": 0}


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory) -> Callable[..., Path]:
    """Copy of a bundle with a small network, whose weights are drawn wide enough that all labels occur."""
    root = tmp_path_factory.mktemp("small")

    def call(kind: str, std: float = 0.3) -> Path:
        folder = root / f"{kind}_{std}" / f"covid_{kind}_bundle"
        if not folder.is_dir():
            copy_small(kind, folder)
            write_weights(folder, std, SEEDS[kind])
        return folder

    return call


def copy_small(kind: str, folder: Path) -> None:
    source = ROOT / f"covid_{kind}_bundle"
    shutil.copytree(source / "configs", folder / "configs")
    (folder / "custom_components").symlink_to(ROOT / "custom_components")
    config = folder / "configs" / "inference.json"
    parser = ConfigParser()
    parser.read_config(config)
    parser.update({**SMALL_SEG, **WHOLE} if kind == "seg" else SMALL_CAP)
    config.write_text(json.dumps(parser.get()), encoding="utf-8")


def write_weights(folder: Path, std: float, seed: int) -> None:
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    network = parser.get_parsed_content("network_def")
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        torch.nn.init.normal_(weight.data, std=std, generator=generator)
    if isinstance(network, ResidualAttentionUNet):  # no class is to be likelier than the others
        image = torch.from_numpy(make_volume(6, (48, 48, 1), (8.0, 8.0, 30.0)).image_hu).permute(2, 0, 1)[None]
        with torch.inference_mode():
            logits = network.eval()(((image.float() + 1350) / 1500).clamp(0, 1))
        network.output.conv.bias.data -= logits.mean(dim=(0, 2, 3))
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")


def write_study(folder: Path, kind: str) -> Path:
    """A localizer, a thick series and one whose pixels are not square; the patient's name has no caret."""
    if kind == "seg":
        phantom, compressed = make_volume(5, (72, 60, 18), (5.0, 5.4, 15.0)), False
    else:
        phantom, compressed = make_scan("covid", 0.2, 3, (96, 84, 40), (3.9, 4.4, 7.0)), True
    write_dicom(phantom, folder / "series", patient_id=PATIENT_ID, compressed=compressed)
    write_localizer(phantom, folder, patient_id=PATIENT_ID)
    study_uid = dcmread(folder / "localizer.dcm").StudyInstanceUID
    write_dicom(make_volume(6, (40, 44, 9), (8.0, 9.0, 30.0)), folder / "thick", patient_id=PATIENT_ID)
    edit(folder / "thick", StudyInstanceUID=study_uid)
    edit(folder, PatientName=NAME, SpecificCharacterSet="ISO_IR 192")
    return folder


def edit(folder: Path, **attributes: str | None) -> None:
    for path in folder.rglob("*.dcm"):
        image = dcmread(path)
        for key, value in attributes.items():
            if value is None:
                image.pop(key, None)
            else:
                setattr(image, key, value)
        image.save_as(path)


def bundle_result(bundle: Path, series: Path, target: Path) -> SimpleNamespace:
    """What the bundle's own command writes for the folder of a series."""
    files = [str(bundle / "configs" / "inference.json")]
    done = Bundle(bundle, {}).command(target, "run", files, dataset_dir=series, output_dir=target / "out")
    assert done.returncode == 0, done.stdout
    kind = bundle.name.split("_")[1]
    postfix, report = TEXTS[kind]
    image = nib.load(target / "out" / series.name / f"{series.name}{postfix}.nii.gz")
    text = (target / "out" / series.name / f"{series.name}_{report}.json").read_text(encoding="utf-8")
    return SimpleNamespace(label=np.asarray(image.dataobj), affine=image.affine, report=json.loads(text))
