"""Convert .npz excerpts of chest CTs (ct, and lung or effusion) to cases with partial labels."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.datalists.case_files import existing_root, natural_key
from custom_components.datalists.datalist_file import DATALIST_NAME
from custom_components.datasets.covid20_slices import check_unpacked
from custom_components.files.atomic import new_folder
from custom_components.images.nifti import check_extent
from custom_components.images.writers import save_volume
from custom_components.transforms.lungs.lung_mask import lung_mask
from scipy import ndimage

# hu = 8 code - 1350
HU_STEP, HU_OF_ZERO = 8, -1350
# Default voxel size along z, y, x: that of most LCTSC planning CTs at half their in-plane resolution.
USUAL_MM = (3.0, 1.95, 1.95)
# Width of the margin around lungs and effusion in which labels are unknown: thresholds miss collapsed lung there.
UNSURE_MM = 10.0
# Label values in the files; `label_sets` of the datalist defines their meaning.
OUTSIDE, UNSURE, LUNG, EFFUSION = 0, 1, 2, 3
EFFUSION_SETS = {OUTSIDE: [0], UNSURE: [0, 1, 2], LUNG: [0, 1, 2], EFFUSION: [3]}
HEALTHY_SETS = {OUTSIDE: [0], LUNG: [0]}

_logger = logging.getLogger(__name__)


def convert_ct_excerpts(source: str | Path, target: str | Path) -> Path:
    """Write CTs with effusion, or with healthy lungs, as NIfTI images, partial labels and their datalist.

    Args:
        source: folder of ``.npz`` with ``ct`` (uint8 codes of 8 HU, slices from feet to head, rows front to back,
            columns from the patient's right to left), ``effusion`` or ``lung`` (0/1, lungs also 1/2), and optionally
            ``spacing_mm`` (z, y, x).
        target: new or empty folder.

    Returns:
        The datalist; each case has ``label_sets``, the possible classes of each label value, and ``lung_values``, the
        values inside the lungs.

    Raises:
        ValueError: when there are no files, or a file has another format.
    """
    root = existing_root(source)
    files = sorted(root.glob("*.npz"), key=lambda path: natural_key(path.name))
    if not files:
        raise ValueError(f"Data set {root} has no .npz files. Give the folder of the excerpts.")
    with new_folder(target) as folder:
        cases = [_write(path, folder) for path in files]
        content = json.dumps({"cases": cases}, indent=1) + "\n"
        (folder / DATALIST_NAME).write_text(content, encoding="utf-8")
    _logger.info("Wrote %s: %d scans.", target, len(cases))
    return Path(str(target)) / DATALIST_NAME


def effusion_labels(hu: np.ndarray, effusion: np.ndarray, spacing_mm: tuple[float, ...], case: str) -> np.ndarray:
    """Label effusion, lungs, a margin around both that may be anything but effusion, and background.

    Args:
        hu: shape (X, Y, Z), x across, y to Posterior, z to Superior.
        effusion: 0/1, same shape.
        spacing_mm: voxel size along x, y, z.
        case: for messages.

    Returns:
        uint8, same shape.
    """
    lung = lung_mask(hu, spacing_mm, case) > 0
    away_mm = ndimage.distance_transform_edt(~(lung | (effusion > 0)), sampling=spacing_mm)
    labels = np.where(away_mm <= UNSURE_MM, UNSURE, OUTSIDE).astype(np.uint8)
    labels[lung] = LUNG
    labels[effusion > 0] = EFFUSION
    return labels


def _write(path: Path, folder: Path) -> dict[str, Any]:
    arrays, spacing_mm = _load(path)
    hu = (arrays["ct"].astype(np.int16) * HU_STEP + HU_OF_ZERO).transpose(2, 1, 0)
    if "effusion" in arrays:
        labels = effusion_labels(hu, arrays["effusion"].transpose(2, 1, 0), spacing_mm, path.stem)
        sets: dict[int, list[int]] = EFFUSION_SETS
    else:
        labels, sets = np.where(arrays["lung"].transpose(2, 1, 0) > 0, LUNG, OUTSIDE).astype(np.uint8), HEALTHY_SETS
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])  # to Left, Posterior, Superior
    check_extent(path, path.stem, affine, hu.shape)
    names = {"image": f"images/{path.stem}.nii.gz", "label": f"masks/{path.stem}.nii.gz"}
    for key, array in (("image", hu), ("label", labels)):
        save_volume(array, affine, folder / names[key])
    return {"case_id": path.stem, "group": path.stem, **names, "label_sets": sets, "lung_values": [LUNG]}


def _load(path: Path) -> tuple[dict[str, np.ndarray], tuple[float, ...]]:
    try:
        check_unpacked(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("ct", "effusion", "lung") if name in file.files}
            spacing = tuple(map(float, file["spacing_mm"])) if "spacing_mm" in file.files else USUAL_MM
    except Exception as error:  # zip, zlib and NumPy raise different types
        reason = str(error) or type(error).__name__
        raise ValueError(f"Case {path.stem} cannot be read: {reason}. Expected an .npz: copy it again.") from error
    shapes = {array.shape for array in arrays.values()}
    if len(arrays) != 2 or "ct" not in arrays or len(shapes) > 1 or arrays["ct"].ndim != 3:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(
            f"Case {path.stem}: found {found or 'no known arrays'}. Expected ct and one of effusion and lung, "
            "of one shape (slices, rows, columns)."
        )
    return arrays, spacing[::-1]
