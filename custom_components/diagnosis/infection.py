"""Infection of a scan: what VB-Net finds in its lungs, alone or together with the lesion network."""

from dataclasses import dataclass

import numpy as np
from custom_components.diagnosis.lesion_search import LesionMap
from custom_components.diagnosis.lung_sources import LungMasks
from custom_components.reports.lesion_volumes import INFECTION_LABELS
from custom_components.transforms.segment_lungs import VBNET_SOURCE

EITHER, VBNET = "either", "vbnet"
EITHER_SOURCE = f"{VBNET_SOURCE} or lesion network (ground-glass, consolidation)"


@dataclass(frozen=True)
class Infection:
    """Infection of a CT.

    Args:
        infection: 0/1, uint8 (X, Y, Z), inside the lungs; None when it is unknown.
        infection_source: what found it, in words; None likewise.
    """

    infection: np.ndarray | None = None
    infection_source: str | None = None


def check_infection_by(infection_by: str) -> None:
    """Refuse a source of infection that there is not.

    Raises:
        ValueError: naming the two that there are.
    """
    if infection_by not in (EITHER, VBNET):
        raise ValueError(f"infection_by is {infection_by!r}. Expected {EITHER!r} or {VBNET!r}.")


def find_infection(masks: LungMasks, lesions: LesionMap, infection_by: str = EITHER) -> Infection:
    """Decide which voxels of the lungs are infected.

    VB-Net sees the volume at 3 mm and misses faint ground-glass; the lesion network sees it slice by slice and misses
    others. Ground-glass and consolidation are infection, effusion is not. Ouyang et al. 2020 take VB-Net's alone.
    `docs/real_check.md` has what each source measures.

    Args:
        masks: lungs, and what VB-Net found.
        lesions: lesion classes of the same CT, limited to the lungs and their margin, or none.
        infection_by: ``either`` (VB-Net or the lesion network), or ``vbnet``.

    Returns:
        The infection, unknown without VB-Net's.

    Example:
        >>> lungs, vbnet, classes = (np.array([[row]], np.uint8) for row in ([1, 1, 1, 0], [1, 0, 0, 0], [0, 2, 3, 1]))
        >>> masks = LungMasks(lungs, "VB-Net", vbnet)
        >>> find_infection(masks, LesionMap((0,), classes)).infection.tolist()
        [[[1, 1, 0, 0]]]
        >>> find_infection(masks, LesionMap()).infection_source
        'VB-Net'
    """
    check_infection_by(infection_by)
    found = masks.vbnet_infection
    if found is None:
        return Infection()
    if infection_by == VBNET or lesions.lesions is None:
        return Infection(found, VBNET_SOURCE)
    dense = np.isin(lesions.lesions, INFECTION_LABELS) & (masks.lungs != 0)
    return Infection((dense | (found != 0)).astype(np.uint8), EITHER_SOURCE)
