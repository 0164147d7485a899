"""Attention of the classifier's branches as DICOM parametric maps, one per branch, on the pixels of the CT.

OHIF does not support fractional segmentations, so attention is stored as maps. OHIF, and dcmqi with which 3D Slicer
reads maps, require one branch per object, 32-bit floats, and all slices in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from custom_components.reports.dicom.source import RESEARCH_ONLY, Source, derivation
from custom_components.reports.dicom.structures import concept

if TYPE_CHECKING:
    from highdicom.pm import ParametricMap
    from pydicom.dataset import Dataset

SERIES_NUMBERS = {"us": 9002, "ss": 9003}
SAMPLING = {"us": "uniform", "ss": "size-balanced"}

# Steps of the stored attention; a power of two, so that they are exact and files compress well.
STEPS = 256


def make_attention_map(attention: np.ndarray, branch: str, source: Source) -> ParametricMap:
    """Attention of one branch.

    Args:
        attention: T(A) in [0, 1], float32 (X, Y, Z).
        branch: ``us`` (uniform sampling) or ``ss`` (size-balanced sampling).
        source: the scan's CT series.

    Returns:
        The object, without patient attributes; values in steps of 1/256.

    Raises:
        ValueError: naming the case, when a value is not between 0 and 1.
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping

    frames = _frames(attention, source.case_id)
    mapping = RealWorldValueMapping(
        lut_label=f"ATTENTION_{branch.upper()}",
        lut_explanation=f"Attention, branch with {SAMPLING[branch]} sampling",
        unit=concept("UCUM", "NoUnits"),
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept("DCM", "ClassActivation"),
    )
    made = ParametricMap(
        source_images=source.images,
        pixel_array=frames,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label=f"ATTENTION_{branch.upper()}",
        content_description=RESEARCH_ONLY,
        content_qualification="RESEARCH",
        **derivation(SERIES_NUMBERS[branch], f"attention, {SAMPLING[branch]} sampling"),
    )
    _order_as_slices(made, frames, source)
    _name_the_lungs(made)
    return made


def _frames(attention: np.ndarray, case_id: str) -> np.ndarray:
    """Slices (Z, Rows, Columns), float32, in steps of 1/256."""
    low, high = float(attention.min()), float(attention.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"Case {case_id}: attention ranges from {low:g} to {high:g}. Expected 0 to 1: use T(A) of Eq. 2."
        )
    frames = np.empty(attention.shape[::-1], dtype=np.float32)
    for row in range(attention.shape[1]):  # twice as fast as slice by slice
        frames[:, row] = np.rint(attention[:, row].T * np.float32(STEPS)) / np.float32(STEPS)
    return frames


def _order_as_slices(made: ParametricMap, frames: np.ndarray, source: Source) -> None:
    """Order frames like the slices: highdicom starts with the last slice, and dcmqi ignores frame positions."""
    order = {image.SOPInstanceUID: index for index, image in enumerate(source.images)}

    def slice_of(frame: Dataset) -> int:
        return order[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]

    groups = sorted(made.PerFrameFunctionalGroupsSequence, key=slice_of)
    for number, group in enumerate(groups, 1):
        group.FrameContentSequence[0].DimensionIndexValues = [number]
    made.PerFrameFunctionalGroupsSequence = groups
    made.FloatPixelData = frames.tobytes()


def _name_the_lungs(made: ParametricMap) -> None:
    """Add the body part, which dcmqi requires."""
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset

    anatomy = Dataset()
    anatomy.FrameLaterality = "B"
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(concept("SCT", "Lung"))]
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
