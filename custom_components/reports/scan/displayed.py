"""One scan in display orientation, with voxel counts per lung and slice."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from custom_components.labels import LEFT, RIGHT
from custom_components.pictures.overlay import check_attention
from custom_components.reports.display import Display
from custom_components.reports.scan.findings import ScanFindings

# Names of the values of the lung mask, in the order of the counts.
SIDES = {"left": LEFT, "right": RIGHT}

_CM2_PER_ML_A_MM = 10.0


class DisplayedScan:
    """Arrays of one scan in display orientation: x to the patient's left, y to posterior, z to superior.

    Args:
        findings: findings of the scan; arrays are not copied.

    Attributes:
        image_hu: CT in HU, shape (X, Y, Z).
        lungs: 0 background, 1 left, 2 right lung, shape (X, Y, Z).
        infection: 0/1, shape (X, Y, Z), or None.
        lesions: label map, shape (X, Y, Z), or None.
        attention: ``US`` and ``SS``, if available, to attention in [0, 1], shape (X, Y, Z).
        spacing_mm: voxel size along x, y, z.
        slice_axis: axis of the file that became z.
        slice_indices: file index of each slice, length Z.
        z_mm: patient position of each slice centre towards superior, shape (Z,).
        voxel_ml: volume of a voxel.

    Raises:
        ValueError: if the lung mask has an invalid value, or an attention is not in [0, 1].
    """

    def __init__(self, findings: ScanFindings) -> None:
        maps = {"US": findings.attention_us, "SS": findings.attention_ss}
        attention = {name: values for name, values in maps.items() if values is not None}
        _check_values(findings, attention)
        display, shape = Display(findings.affine), findings.image_hu.shape
        self.image_hu: np.ndarray = display.turned(findings.image_hu)
        self.lungs: np.ndarray = display.turned(findings.lungs)
        self.infection: np.ndarray | None = display.turned(findings.infection)
        self.lesions: np.ndarray | None = display.turned(findings.lesions)
        self.attention: dict[str, np.ndarray] = {name: display.turned(values) for name, values in attention.items()}
        self.spacing_mm, self.slice_axis, self.voxel_ml = display.spacing_mm, display.slice_axis, display.voxel_ml
        self.slice_indices = display.slice_indices(shape)
        centres = np.repeat([(np.array(shape) - 1) / 2], len(self.slice_indices), axis=0)
        centres[:, self.slice_axis] = self.slice_indices
        self.z_mm: np.ndarray = centres @ findings.affine[2, :3] + findings.affine[2, 3]

    @cached_property
    def lung_voxels(self) -> np.ndarray:
        """Number of left and right lung voxels per slice, shape (2, Z)."""
        return np.stack([np.count_nonzero(self.lungs == value, axis=(0, 1)) for value in SIDES.values()])

    @cached_property
    def infected_voxels(self) -> np.ndarray | None:
        """Number of infected voxels in the left and right lung per slice, shape (2, Z); None without infection mask.

        Infection outside the lungs is not counted.
        """
        if self.infection is None:
            return None
        infected_lungs = np.where(self.infection != 0, self.lungs, np.uint8(0))
        return np.stack([np.count_nonzero(infected_lungs == value, axis=(0, 1)) for value in SIDES.values()])

    @cached_property
    def middle_of_lungs(self) -> tuple[int, int]:
        """Coronal and axial slice (y, z) that halve the volume of the lungs; of the scan without lungs."""
        y, z = (_halving(np.count_nonzero(self.lungs, axis=axes)) for axes in ((0, 2), (0, 1)))
        return y, z

    @property
    def has_infection(self) -> bool:
        """Whether there is infection inside the lungs."""
        return self.infected_voxels is not None and bool(self.infected_voxels.any())

    @property
    def slice_voxel_cm2(self) -> float:
        """Area of a voxel in its slice; area times slice distance is volume."""
        return self.voxel_ml * _CM2_PER_ML_A_MM / self.spacing_mm[2]


def _halving(counts: np.ndarray) -> int:
    """Index up to which half of the counts lie; the middle index without any."""
    total = int(counts.sum())
    return int(np.searchsorted(np.cumsum(counts), total / 2)) if total else len(counts) // 2


def _check_values(findings: ScanFindings, attention: Mapping[str, np.ndarray]) -> None:
    if findings.lungs.size and findings.lungs.max() > max(SIDES.values()):
        raise ValueError(
            f"Case {findings.case_id}: lung mask has value {findings.lungs.max()}. Expected 0 (background), "
            f"{LEFT} (left lung) and {RIGHT} (right lung): separate the lungs and remove other organs."
        )
    for name, values in attention.items():
        check_attention(values, f"Case {findings.case_id}: attention {name}")
