"""Slices with the largest change: the earlier scan, registered; the later scan; and the change."""

from dataclasses import dataclass

import numpy as np
from custom_components.followup.change import NEW, PERSISTING, RESOLVED, Change
from custom_components.followup.scan import DiagnosedScan
from custom_components.pictures.overlay import INFECTION_COLOUR, LUNG_COLOUR, Cut, as_picture, blend, border
from custom_components.pictures.sheet import mark_sides
from custom_components.pictures.slices import slices_to_show, window_to_grey
from custom_components.reports.display import Display
from PIL import Image, ImageFont

# RGB 0..255 of each value of the change map: distinguishable for colour-blind readers, and in grey by brightness.
CHANGE_COLOURS = {PERSISTING: (255, 235, 140), NEW: (255, 95, 60), RESOLVED: (60, 140, 255)}
CHANGE_NAMES = {PERSISTING: "in both scans", NEW: "new", RESOLVED: "resolved"}
COLUMNS = ("earlier, registered", "later", "change")

_MOST_SLICES, _GAP_MM, _MARGIN_MM = 4, 15.0, 12.0
_WIDTH_PX, _FONT_PX, _LINE_PX, _OPACITY = 420, 15, 2, 0.55


@dataclass(frozen=True)
class SliceRow:
    """Pictures of one axial slice.

    Attributes:
        caption: slice of the later scan, in the order of its file.
        pictures: one for each of ``COLUMNS``.
    """

    caption: str
    pictures: tuple[Image.Image, ...]


def draw_change(
    later: DiagnosedScan, earlier_hu: np.ndarray, earlier_infection: np.ndarray, change: Change
) -> list[SliceRow]:
    """Draw the axial slices with the largest change; without change, those with most infection.

    Args:
        later: the later scan.
        earlier_hu: CT of the earlier scan on the grid of the later one, in HU, (X, Y, Z).
        earlier_infection: infection of the earlier scan on this grid.
        change: the change on this grid.

    Returns:
        Rows from bottom to top; empty without lungs.
    """
    display = Display(later.affine)
    lungs = display.turned(later.lungs)
    if not lungs.any():
        return []
    map_, masks = display.turned(change.map), [display.turned(mask) for mask in (earlier_infection, later.infected)]
    images = [display.turned(hu) for hu in (earlier_hu, later.hu)]
    counts = [np.count_nonzero(part, axis=(0, 1)) for part in (np.isin(map_, (NEW, RESOLVED)), map_, lungs)]
    most = next(count for count in counts if count.any())
    rows, box = [], _box(lungs, display.spacing_mm)
    for z in slices_to_show(most, display.spacing_mm[2], _MOST_SLICES, _GAP_MM):
        cut = _cut(box, z, display.spacing_mm)
        plain = [_outlined(cut, image, lungs, mask) for image, mask in zip(images, masks, strict=True)]
        changed = blend(
            window_to_grey(cut.values(images[1])), cut.labels(map_), _OPACITY, tuple(CHANGE_COLOURS.values())
        )
        caption = f"slice {display.slice_indices(later.hu.shape)[z]}"
        rows.append(SliceRow(caption, tuple(_picture(rgb) for rgb in (*plain, changed))))
    return rows


def _box(lungs: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[slice, slice]:
    """Columns and rows around the lungs."""
    box = []
    for axis in (0, 1):
        there = np.flatnonzero(lungs.any(axis=(1 - axis, 2)))
        margin = round(_MARGIN_MM / spacing_mm[axis])
        box.append(slice(max(0, int(there[0]) - margin), int(there[-1]) + margin + 1))
    return box[0], box[1]


def _cut(box: tuple[slice, slice], z: int, spacing_mm: tuple[float, float, float]) -> Cut:
    width, height = ((part.stop - part.start) * step for part, step in zip(box, spacing_mm[:2], strict=True))
    return Cut((*box, z), (_WIDTH_PX, max(1, round(_WIDTH_PX * height / width))))


def _outlined(cut: Cut, hu: np.ndarray, lungs: np.ndarray, infection: np.ndarray) -> np.ndarray:
    """CT as RGB with the outlines of the later lungs and of an infection."""
    rgb = np.stack([window_to_grey(cut.values(hu))] * 3, axis=-1)
    rgb[border(cut.labels(lungs != 0))] = np.array(LUNG_COLOUR) / 255
    rgb[border(cut.labels(infection), _LINE_PX)] = np.array(INFECTION_COLOUR) / 255
    return rgb


def _picture(rgb: np.ndarray) -> Image.Image:
    picture = as_picture(rgb)
    mark_sides(picture, "RL", ImageFont.load_default(_FONT_PX))
    return picture
