"""Detect implausible lung masks. They cause only a warning, because a disease or a short scan may look the same."""

import numpy as np
import torch
from custom_components.images.ct_reader import warn_once
from custom_components.transforms.lungs.body_outline import body_outline
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

# Volume of both lungs of an adult, from full expiration to full inspiration, in scans of at least this length.
USUAL_LITRES, WHOLE_MM = (1.0, 9.0), 100.0
# Upper limit of the median HU of aerated lung.
AERATED_HU = -500.0
# Smallest share of the smaller lung, and largest share outside the body.
LEAST_SIDE, MOST_OUTSIDE = 0.05, 0.02
# Approximate voxel size for finding the body's outline.
WORKING_MM = 4.0

# Key of the warning about a case's lung mask; empty when it is plausible.
LUNG_NOTES = "lung_notes"


def implausible_lungs(image_hu: np.ndarray, lung: np.ndarray, affine: np.ndarray) -> tuple[str, ...]:
    """Phrases that say why a lung mask is implausible; empty when it is plausible.

    Reasons: the median HU is not that of aerated lung, or a part lies outside the body. For scans of at least 100 mm
    also: the mask lies in one half of the body, or its volume is less than 1 or more than 9 litres.

    Args:
        image_hu: CT in HU, shape (X, Y, Z), stored in any orientation.
        lung: nonzero inside the lungs, same shape.
        affine: (4, 4) voxel index to RAS mm.

    Example:
        >>> from custom_components.phantom import make_volume
        >>> phantom = make_volume(seed=1, shape=(50, 42, 25), spacing_mm=(8.0, 8.4, 12.0))
        >>> implausible_lungs(phantom.image_hu, phantom.lung, phantom.affine)
        ()
        >>> implausible_lungs(phantom.image_hu, phantom.lung * (np.arange(50) < 25)[:, None, None], phantom.affine)
        ('100 % of it lies in the right half of the body',)
    """
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(("L", "P", "S")))
    voxels, steps_mm = np.count_nonzero(lung), voxel_sizes(affine)
    some = tuple(slice(None, None, max(1, int(WORKING_MM / 2 / step))) for step in steps_mm)
    hu, mask = apply_orientation(image_hu[some], turn), apply_orientation(np.asarray(lung[some]) != 0, turn)
    if not mask.any():
        return ()
    sizes_mm = (steps_mm * np.shape(lung))[np.argsort(turn[:, 0])]
    coarse_hu, inside = _coarse(hu, sizes_mm), _coarse(mask, sizes_mm)
    body = body_outline(coarse_hu, sizes_mm / coarse_hu.shape)
    found = [_median(hu[mask]), _outside(inside, body)]
    if sizes_mm[2] >= WHOLE_MM:
        found += [_side(inside, body), _litres(voxels * float(np.prod(steps_mm)) / 1e6)]
    return tuple(filter(None, found))


def _coarse(array: np.ndarray, sizes_mm: np.ndarray) -> np.ndarray:
    """Average whole voxels to about ``WORKING_MM``; coarser axes are not changed."""
    size = np.clip(np.rint(sizes_mm / WORKING_MM), 1, array.shape).astype(int).tolist()
    tensor = torch.from_numpy(np.ascontiguousarray(np.clip(array, -1024, 1000), dtype=np.float32))
    return torch.nn.functional.interpolate(tensor[None, None], size=size, mode="area")[0, 0].numpy()


def _median(lung_hu: np.ndarray) -> str:
    median = float(np.median(lung_hu))
    if median <= AERATED_HU:
        return ""
    return f"its median is {median:.0f} HU, expected below {AERATED_HU:.0f} HU for aerated lung"


def _outside(inside: np.ndarray, body: np.ndarray) -> str:
    share = float(inside[~body].sum() / inside.sum())
    return f"{100 * share:.0f} % of it lies outside the body" if share > MOST_OUTSIDE else ""


def _side(inside: np.ndarray, body: np.ndarray) -> str:
    """Check that both halves of the body contain lung; x points to the patient's left."""
    columns = body.sum(axis=(1, 2))
    middle = float((columns * np.arange(len(columns))).sum() / max(1, columns.sum()))
    share = float(inside[np.arange(len(columns)) > middle].sum() / inside.sum())
    name, part = ("left", share) if share > 0.5 else ("right", 1 - share)
    return f"{100 * part:.0f} % of it lies in the {name} half of the body" if part > 1 - LEAST_SIDE else ""


def _litres(litres: float) -> str:
    low, high = USUAL_LITRES
    usual = low <= litres <= high
    return "" if usual else f"its volume is {litres:.2g} litres, expected {low:g} to {high:g}"


def warned_of_lungs(case: str, image_hu: np.ndarray, lung: np.ndarray, affine: np.ndarray) -> str:
    """Result of :func:`implausible_lungs` as one sentence for a report; also logged once per case.

    Args:
        case: name of the case.
        image_hu: CT in HU, shape (X, Y, Z).
        lung: nonzero inside the lungs, same shape.
        affine: (4, 4) voxel index to RAS mm.

    Returns:
        The sentence; empty when the mask is plausible.
    """
    found = implausible_lungs(image_hu, lung, affine)
    warn_once(case, found, "has an implausible lung mask")
    return f"The lung mask is implausible: {'; '.join(found)}. Check it." if found else ""
