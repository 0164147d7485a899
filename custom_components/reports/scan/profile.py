"""Chart of the infected area per slice along the patient."""

import math
from collections.abc import Sequence

import numpy as np
from custom_components.reports.scan.displayed import DisplayedScan
from markupsafe import Markup

# Size of the chart in its own units, and its inner frame.
WIDTH, HEIGHT = 744, 116
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 6, 8, 28

# SVG strokes of the lungs: solid blue and dashed orange, after Okabe and Ito 2008.
LINES = {"left": Markup('stroke="#0072b2"'), "right": Markup('stroke="#b34700" stroke-dasharray="6 3"')}
_MAX_TICKS = 9


def infected_areas_cm2(scan: DisplayedScan) -> np.ndarray:
    """Infected area of the left and right lung per slice, in square cm, shape (2, Z)."""
    if scan.infected_voxels is None:
        raise ValueError("The scan has no infection mask. Draw the chart only for scans with one.")
    return scan.infected_voxels * scan.slice_voxel_cm2


def draw_profile(scan: DisplayedScan, shown: Sequence[int] = ()) -> Markup:
    """Draw the chart as SVG, lowest slice on the left.

    Args:
        scan: a scan with an infection mask.
        shown: indices of the slices with a picture, which are marked.

    Returns:
        The ``svg`` element, without user-provided text.
    """
    areas_cm2 = infected_areas_cm2(scan)
    top_cm2 = nice_ceiling(float(areas_cm2.max()))
    across = np.linspace(_LEFT, WIDTH - _RIGHT, 2 * areas_cm2.shape[1] + 1)[1::2]
    floor, height = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    parts = [_grid(top_cm2, floor, height), _slice_ticks(scan, across, floor)]
    for areas, style in zip(areas_cm2, LINES.values(), strict=True):
        points = " ".join(f"{x:.1f},{floor - y * height:.1f}" for x, y in zip(across, areas / top_cm2, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke-width="1.8" {style}/>')
    marks = (f"M{across[z]:.1f} {floor + 1}l-4 7h8z" for z in shown)
    parts.append(f'<path d="{"".join(marks)}" fill="#222"/>')
    label = f"Infected area per slice from bottom to top, up to {areas_cm2.max():.1f} square centimetres."
    head = f'<svg class="profile" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    return Markup(f"{head}{''.join(parts)}</svg>")


def nice_ceiling(value: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten; 1 for zero.

    Example:
        >>> [nice_ceiling(value) for value in (0, 0.03, 1, 1.1, 42, 51)]
        [1.0, 0.05, 1.0, 2.0, 50.0, 100.0]
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= value * (1 - 1e-9))


def _grid(top_cm2: float, floor: int, height: int) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = floor - share * height
        parts.append(f'<path d="M{_LEFT} {y}H{WIDTH - _RIGHT}" stroke="#bbb" stroke-width="0.8"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end">{share * top_cm2:g}</text>')
    return "".join(parts)


def _slice_ticks(scan: DisplayedScan, across: np.ndarray, floor: int) -> str:
    chosen = sorted({round(z) for z in np.linspace(0, len(across) - 1, min(_MAX_TICKS, len(across))).tolist()})
    anchor = {chosen[-1]: "end", chosen[0]: "start"} if len(chosen) > 1 else {}
    return "".join(
        f'<text x="{across[z]:.1f}" y="{floor + 20}" text-anchor="{anchor.get(z, "middle")}">'
        f"{scan.slice_indices[z]}</text>"
        for z in chosen
    )
