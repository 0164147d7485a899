"""A diagnosed scan, as the comparison with another one reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class DiagnosedScan:
    """CT, masks and report of one scan, on the CT's own grid.

    Args:
        case_id: name of the case.
        hu: CT in HU, float32 (X, Y, Z).
        affine: (4, 4) voxel index to patient position in RAS mm.
        lungs: 0 background, 1 left, 2 right lung, uint8 (X, Y, Z); infected lung included.
        infection: 0/1, uint8 (X, Y, Z); only what is inside the lungs is compared.
        lesions: 0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion, uint8 (X, Y, Z); None if skipped.
        report: content of its ``report.json``.

    Raises:
        ValueError: naming the case, when the volumes are not on one grid.
    """

    case_id: str
    hu: np.ndarray
    affine: np.ndarray
    lungs: np.ndarray
    infection: np.ndarray
    lesions: np.ndarray | None
    report: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in ("lungs", "infection", "lesions"):
            mask = getattr(self, name)
            if mask is not None and mask.shape != self.hu.shape:
                raise ValueError(
                    f"Case {self.case_id}: {name} has shape {mask.shape}, the CT {self.hu.shape}. Remove the folder of "
                    "this case and run the same command again."
                )

    @property
    def infected(self) -> np.ndarray:
        """Infection inside the lungs, bool (X, Y, Z)."""
        inside: np.ndarray = (self.infection != 0) & (self.lungs != 0)
        return inside
