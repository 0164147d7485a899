"""Data lists of files that hold next to nothing: enough to plan with, and to collect."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

KINDS = ("image", "lung", "infection")
RATIOS = (0.0005, 0.004, 0.02, 0.1)


def write_scans(folder: Path, folds: int = 3, prefix: str = "", **further: Any) -> Path:
    """Four scans a fold, two of each class, with all ratios; patients in pairs of one class."""
    cases = []
    for number in range(4 * folds):
        name = f"{prefix}{number:03d}"
        for kind in KINDS:
            path = folder / f"{kind}s" / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.zeros((4, 3, 2), dtype=np.uint8), np.eye(4)), path)
        files = {kind: f"{kind}s/{name}.nii.gz" for kind in KINDS}
        label = ("covid", "cap")[number // 2 % 2]
        own = {"label": label, "fold": number // 4, "ratio": RATIOS[number % 4]}
        cases.append({"case_id": f"c{name}", "patient_id": f"p{prefix}{number // 2}", **files, **own, **further})
    (folder / "datalist.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    return folder


def write_slices(folder: Path, count: int = 12, groups: bool = True) -> Path:
    """Slices with masks, two of each group, whose case ids are not the names of their files."""
    cases = []
    for number in range(count):
        for kind in ("images", "masks"):
            path = folder / kind / f"slice{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((5, 4), number if kind == "images" else 0, dtype=np.uint8)).save(path)
        files = {"image": f"images/slice{number:03d}.png", "label": f"masks/slice{number:03d}.png"}
        group = {"group": f"g{number // 2}"} if groups else {}
        cases.append({"case_id": f"c{number}", **files, **group, "scanner": "AB"[number % 2]})
    (folder / "datalist.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    return folder
