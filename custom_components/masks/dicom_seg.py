"""Read a DICOM segmentation as masks on the grid of its CT."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from custom_components.labels import LEFT, RIGHT
from custom_components.reports.dicom.structures import STRUCTURES
from monai.data import MetaTensor

SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
# Segment label in lower case -> name of the mask and value in it. 3D Slicer and OHIF keep the labels of `diagnose`.
SEGMENTS = {one.label.lower(): (one.array, one.value) for one in STRUCTURES} | {
    "ground-glass": ("lesions", 1),
    "ground glass opacity": ("lesions", 1),
    "ground-glass opacity": ("lesions", 1),
    "effusion": ("lesions", 3),
    "right": ("lungs", RIGHT),
    "left": ("lungs", LEFT),
}
# Share of a voxel by which positions of segmentation and CT may differ.
TOLERANCE = 0.1


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(path, specific_tags=["SOPClassUID"]).get("SOPClassUID") == SEG_CLASS
    except (InvalidDicomError, OSError):
        return False


def segmented_series(path: Path) -> str:
    """SeriesInstanceUID of the CT that a segmentation refers to; empty if it does not say."""
    from pydicom import dcmread

    referenced = dcmread(path, stop_before_pixels=True).get("ReferencedSeriesSequence") or []
    return str(referenced[0].get("SeriesInstanceUID", "")) if referenced else ""


def read_segmentation(path: Path, image: MetaTensor, case: str) -> dict[str, np.ndarray]:
    """Masks of the known segments.

    Args:
        path: DICOM segmentation, binary, fractional or label map.
        image: CT of the same series, (1, X, Y, Z), with its affine (RAS mm).
        case: name of the case in messages.

    Returns:
        ``lungs``, ``infection`` and ``lesions``, if it has a segment of them: uint8 (X, Y, Z) in the order of the CT.
        Where segments of one mask overlap, the last one counts.

    Raises:
        ValueError: names the case when no segment is known, or the segmentation is not on the voxels of the CT.
    """
    import highdicom

    content = highdicom.seg.segread(str(path))
    numbers = list(content.segment_numbers)
    labels = {number: str(content.get_segment_description(number).segment_label).strip() for number in numbers}
    known = {number: SEGMENTS[label.lower()] for number, label in labels.items() if label.lower() in SEGMENTS}
    if not known:
        raise ValueError(
            f"Case {case}: no segment of {path.name} is known ({', '.join(labels.values())}). Name the segments as "
            f"diagnose does: {', '.join(one.label for one in STRUCTURES)}."
        )
    masks: dict[str, np.ndarray] = {}
    for number, (name, value) in known.items():
        found = content.get_volume(segment_numbers=[number], combine_segments=False)
        voxels = _on_image(found, image, path.name, case)
        masks.setdefault(name, np.zeros(image.shape[1:], np.uint8))[voxels] = value
    return masks


def _on_image(found: Any, image: MetaTensor, name: str, case: str) -> np.ndarray:
    """A segment (highdicom's volume) as booleans on the CT's voxels: (X, Y, Z)."""
    array = np.asarray(found.array)
    array = array.reshape(array.shape[:3]) > 0.5
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ found.affine
    between = np.linalg.inv(image.affine.numpy()) @ to_ras  # index of the segmentation to index of the CT
    turn = nib.io_orientation(between)
    straight = np.abs(np.abs(np.linalg.det(between[:3, :3])) - 1) < 1e-3 and np.allclose(
        np.sort(np.abs(between[:3, :3]), axis=None)[-3:], 1, atol=1e-3
    )
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in array.shape], indexing="ij")).reshape(3, -1)
    places = between[:3, :3] @ corners + between[:3, 3:]
    low, high = np.rint(places.min(axis=1)).astype(int), np.rint(places.max(axis=1)).astype(int)
    outside = (low < 0).any() or (high >= np.array(image.shape[1:])).any()
    if not straight or outside or np.abs(places - np.rint(places)).max() > TOLERANCE:
        raise ValueError(
            f"Case {case}: {name} is not on the voxels of the CT. Export it again with the CT as its reference, "
            "without resampling."
        )
    voxels = np.zeros(image.shape[1:], bool)
    voxels[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = nib.apply_orientation(array, turn)
    return voxels
