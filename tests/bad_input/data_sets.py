"""Small data sets with one case that a row spoils."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

# Voxel size along x, y, z.
SPACING_MM = (24.0, 28.0, 33.0)
AFFINE = np.diag([-24.0, -28.0, 33.0, 1.0])
SHAPE = (14, 12, 9)
KINDS = {"image": "images", "lung": "lungs", "infection": "infections"}


def chest() -> dict[str, np.ndarray]:
    """Two boxes of lung in a box of tissue in air, with an infection in one of them."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[1:-1, 1:-1] = 40
    lung, infection = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    lung[2:6, 3:9, 1:8] = lung[8:12, 3:9, 1:8] = 1
    infection[3:5, 4:7, 2:5] = 1
    hu[lung == 1] = -850
    hu[infection == 1] = -400
    return {"image": hu, "lung": lung, "infection": infection}


def save(array: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, None)
    image.header.set_sform(affine, code=1)  # also one that a quaternion cannot hold
    nib.save(image, path)
    return path


def cap_data(folder: Path, **changes: Any) -> Path:
    """Three scans of each class in three folds, with a datalist; `changes` are those of the bad case's entry."""
    cases = []
    for number, name in enumerate(("bad", "covid_1", "covid_2", "cap_0", "cap_1", "cap_2")):
        for kind, array in chest().items():
            save(array, folder / KINDS[kind] / f"{name}.nii.gz")
        files = {kind: f"{part}/{name}.nii.gz" for kind, part in KINDS.items()}
        own = {"case_id": name, **files, "label": "covid" if number < 3 else "cap", "fold": number % 3, "ratio": 0.05}
        cases.append({**own, **(changes if name == "bad" else {})})
    return write_list(folder, cases)


def seg_data(folder: Path) -> Path:
    """Two volumes in images/ and masks/."""
    for name in ("bad", "good"):
        save(chest()["image"], folder / "images" / f"{name}.nii.gz")
        save(chest()["infection"], folder / "masks" / f"{name}.nii.gz")
    return folder


def seg_list(folder: Path, **changes: Any) -> Path:
    """The same with a datalist; `changes` are those of the bad case's entry."""
    seg_data(folder)
    cases = [{"image": f"images/{name}.nii.gz", "label": f"masks/{name}.nii.gz"} for name in ("bad", "good")]
    return write_list(folder, [{**cases[0], **changes}, cases[1]])


def write_list(folder: Path, cases: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "datalist.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    return folder
