"""Masks and maps of one scan as NIfTI, on the CT's own grid."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from custom_components.images.writers import STEPS, AtomicNibabelWriter, MapNibabelWriter

# Names of maps with values from 0 to 1; all others are masks.
MAPS = ("attention_us", "attention_ss")
# Files that are removed when the case is finished.
INTERMEDIATE = ("vbnet_infection",)


def volume_path(folder: Path, case_id: str, name: str) -> Path:
    """File of a mask or map.

    Args:
        folder: folder of the case.
        case_id: name of the case.
        name: ``lungs`` (1 left, 2 right), ``vbnet_infection``, ``infection``, ``lesions`` (1 ground-glass,
            2 consolidation, 3 pleural effusion), ``attention_us`` or ``attention_ss`` (0 to 1).
    """
    return folder / f"{case_id}_{name}.nii.gz"


def write_volume(path: Path, name: str, volume: np.ndarray, affine: np.ndarray) -> None:
    """Write a mask or map (X, Y, Z), named as in :func:`volume_path`, with its affine (voxel index to RAS mm)."""
    writer = MapNibabelWriter(np.float32) if name in MAPS else AtomicNibabelWriter(np.uint8)
    writer.set_data_array(volume, channel_dim=None, squeeze_end_dims=False)
    writer.set_metadata({"affine": affine}, resample=False)
    writer.write(path)


def read_volume(path: Path, name: str) -> np.ndarray:
    """Read a file of :func:`write_volume`: a mask as uint8, a map as float32, shape (X, Y, Z)."""
    image: Any = nib.load(path)
    stored = np.asarray(image.dataobj.get_unscaled(), dtype=np.uint8)
    return stored / np.float32(STEPS) if name in MAPS else stored
