"""Say how a scan differs from those that the included weights were trained and tried on."""

import re

import numpy as np
from custom_components.images.slice_axis import slice_axis_of
from custom_components.transforms.checks.cut_lungs import cut_lungs
from nibabel.affines import voxel_sizes

# The training scans in HU have slices 3 mm apart, and at random up to three of them are averaged.
TRAINED_SLICE_MM, MOST_SLICE_MM = 3.0, 5.0
# A CT with air around or in the body has lower values; higher ones mean clipped intensities.
AIR_HU = -900.0
# Kernels named so, and kernels of Siemens with at least this number, are sharp: they add noise to the lungs.
_SHARP, _SHARP_NUMBER = re.compile(r"bone|edge|sharp", re.IGNORECASE), 60
_NUMBERED = re.compile(r"^[A-Z][a-z]?(\d\d)")


def unlike_training(
    image_hu: np.ndarray, lungs: np.ndarray, affine: np.ndarray, kernel: str = "", has_contrast: bool = False
) -> tuple[str, ...]:
    """Sentences on what may make the numbers of a scan worse than the scores on left-out data.

    Args:
        image_hu: CT in HU, shape (X, Y, Z), stored in any orientation.
        lungs: nonzero inside the lungs, same shape.
        affine: (4, 4) voxel index to RAS mm.
        kernel: ConvolutionKernel of the DICOM header; empty if unknown.
        has_contrast: whether the DICOM header names a contrast agent.

    Returns:
        One sentence for each difference; empty for an ordinary scan.

    Example:
        >>> ct, lungs = np.full((6, 5, 4), -1000.0), np.zeros((6, 5, 4))
        >>> unlike_training(ct, lungs, np.diag([1, 1, 8, 1]))
        ('Slices are 8 mm apart, in training 3 mm: small lesions may be missed.',)
    """
    found = [
        f"{cut[0].upper()}{cut[1:]}: volumes are those of the part in the scan." for cut in cut_lungs(lungs, affine)
    ]
    slice_mm = float(voxel_sizes(affine)[slice_axis_of(affine)])
    if slice_mm > MOST_SLICE_MM:
        found.append(
            f"Slices are {slice_mm:.3g} mm apart, in training {TRAINED_SLICE_MM:g} mm: small lesions may be missed."
        )
    if is_sharp(kernel):
        found.append("The reconstruction kernel is sharp: its noise may be marked as lesions; this was not measured.")
    if has_contrast:
        found.append("A contrast agent was given: vessels may be marked as lesions; this was not measured.")
    if (lowest := float(image_hu.min())) > AIR_HU:
        found.append(f"No value is below {lowest:.0f} HU, although air has -1000 HU: the intensities may be clipped.")
    return tuple(found)


def is_sharp(kernel: str) -> bool:
    """Whether a reconstruction kernel is sharp, by its name.

    Example:
        >>> [is_sharp(name) for name in ("D40s", "B31f", "STANDARD", "LUNG", "B70f", "Br64f", "BONEPLUS", "")]
        [False, False, False, False, True, True, True, False]
    """
    numbered = _NUMBERED.match(kernel.strip())
    return bool(_SHARP.search(kernel)) or (numbered is not None and int(numbered[1]) >= _SHARP_NUMBER)
