"""One scan as its report shows it: turned to the display, and counted lung by lung and slice by slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np
from custom_components.labels import LEFT, RIGHT
from custom_components.reports.lesions import turn_to_display, voxel_volume_ml
from custom_components.reports.scan.findings import ScanFindings

# Names of the values of the lung mask, in the order of the counts.
SIDES = {"left": LEFT, "right": RIGHT}

_TOLERANCE = 1e-3  # of an attention: linear resampling overshoots by rounding only
_CM2_PER_ML_A_MM = 10.0


@dataclass(frozen=True)
class DisplayedScan:
    """Arrays of one scan: x to the patient's left, y to posterior, z to superior.

    Attributes:
        image_hu: CT in HU, shape (X, Y, Z).
        lungs: 0 background, 1 left, 2 right lung, shape (X, Y, Z).
        infection: 0/1, shape (X, Y, Z), or None.
        lesions: label map, shape (X, Y, Z), or None.
        attention: ``US`` and ``SS``, where they are there, to attention in [0, 1], shape (X, Y, Z).
        spacing_mm: voxel size along x, y, z.
        slice_axis: axis of the file that became z.
        slice_indices: index of each slice in the file's own order, length Z.
        z_mm: patient position of the middle of each slice towards superior, shape (Z,).
        voxel_ml: volume of a voxel.
    """

    image_hu: np.ndarray
    lungs: np.ndarray
    infection: np.ndarray | None
    lesions: np.ndarray | None
    attention: Mapping[str, np.ndarray]
    spacing_mm: tuple[float, float, float]
    slice_axis: int
    slice_indices: Sequence[int]
    z_mm: np.ndarray
    voxel_ml: float

    @classmethod
    def of(cls, findings: ScanFindings) -> "DisplayedScan":
        """Turn the arrays of a scan, however its file is stored, to the display; nothing is copied.

        Raises:
            ValueError: naming the case, when a value of the lung mask is no lung, or an attention is not in [0, 1].
        """
        maps = {"US": findings.attention_us, "SS": findings.attention_ss}
        attention = {name: values for name, values in maps.items() if values is not None}
        _check_values(findings, attention)
        turn = turn_to_display(findings.affine)
        axes = np.argsort(turn[:, 0]).tolist()
        spacing_mm = np.linalg.norm(findings.affine[:3, :3], axis=0)[axes].tolist()
        indices = range(findings.image_hu.shape[axes[2]])[:: int(turn[axes[2], 1])]
        return cls(
            image_hu=nib.apply_orientation(findings.image_hu, turn),
            lungs=nib.apply_orientation(findings.lungs, turn),
            infection=None if findings.infection is None else nib.apply_orientation(findings.infection, turn),
            lesions=None if findings.lesions is None else nib.apply_orientation(findings.lesions, turn),
            attention={name: nib.apply_orientation(values, turn) for name, values in attention.items()},
            spacing_mm=(spacing_mm[0], spacing_mm[1], spacing_mm[2]),
            slice_axis=axes[2],
            slice_indices=indices,
            z_mm=_z_mm(findings.image_hu.shape, findings.affine, axes[2], indices),
            voxel_ml=voxel_volume_ml(findings.affine),
        )

    @cached_property
    def lung_voxels(self) -> np.ndarray:
        """Voxels of the left and of the right lung in each slice, shape (2, Z)."""
        return np.stack([np.count_nonzero(self.lungs == value, axis=(0, 1)) for value in SIDES.values()])

    @cached_property
    def infected_voxels(self) -> np.ndarray | None:
        """Infected voxels of the left and of the right lung in each slice, shape (2, Z); None without infection mask.

        Infection outside the lungs is not counted.
        """
        if self.infection is None:
            return None
        infected_lungs = np.where(self.infection != 0, self.lungs, np.uint8(0))
        return np.stack([np.count_nonzero(infected_lungs == value, axis=(0, 1)) for value in SIDES.values()])

    @property
    def has_infection(self) -> bool:
        """Whether any infection is known inside the lungs."""
        return self.infected_voxels is not None and bool(self.infected_voxels.any())

    @property
    def slice_voxel_cm2(self) -> float:
        """Area of a voxel in its slice: area times the distance of the slices is volume."""
        return self.voxel_ml * _CM2_PER_ML_A_MM / self.spacing_mm[2]


def _check_values(findings: ScanFindings, attention: Mapping[str, np.ndarray]) -> None:
    if findings.lungs.size and findings.lungs.max() > max(SIDES.values()):
        raise ValueError(
            f"Case {findings.case_id}: lung mask has value {findings.lungs.max()}. Expected 0 (background), "
            f"{LEFT} (left lung) and {RIGHT} (right lung): part the lungs, and leave other organs out."
        )
    for name, values in attention.items():
        low, high = float(values.min()), float(values.max())
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
            raise ValueError(
                f"Case {findings.case_id}: attention {name} has values from {low:g} to {high:g}. Expected 0 to 1: "
                "scale it by its minimum and maximum, and resample it linearly."
            )


def _z_mm(shape: Sequence[int], affine: np.ndarray, axis: int, indices: Sequence[int]) -> np.ndarray:
    centres = np.repeat([(np.array(shape) - 1) / 2], len(indices), axis=0)
    centres[:, axis] = indices
    return centres @ affine[2, :3] + affine[2, 3]
