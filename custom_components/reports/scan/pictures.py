"""Pictures of a scan report as in Fig. 5 of Ouyang et al. 2020, sized for print.

Lines are distinguishable without colour: lungs dashed, infection solid, attention as an outline at 0.5.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from custom_components.pictures.overlay import (
    HALF,
    INFECTION_COLOUR,
    LUNG_COLOUR,
    Cut,
    as_picture,
    blend,
    border,
    heated,
)
from custom_components.pictures.sheet import mark_sides
from custom_components.pictures.slices import most_affected, slices_to_show, window_to_grey
from custom_components.reports.scan.displayed import SIDES, DisplayedScan
from custom_components.reports.scan.regions import largest_lesion
from PIL import Image, ImageDraw, ImageFont

MAX_SLICES = 6
MIDDLE = "Middle of the lungs"

_PX_PER_MM = 8.0  # print resolution: 203 dpi
_MARGIN_MM = 15.0  # margin around the lungs in mm of the patient
_LEAST_GAP_MM = 10.0
_LESION_OPACITY = 0.45
_FONT_PX, _LINE_PX, _DASH_PX, _TICK_PX = 20, 2, 5, 9
_SCALE_BAR_MM = 50.0
_CAPTION_MM, _WRAPPED_MM = 5.0, 8.5  # height of a caption with its gap, and of one on two lines
_WHITE = (255, 255, 255)

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Panel:
    """One picture on the page.

    Attributes:
        picture: its pixels, the patient's right on the viewer's left.
        alt: alternative text.
        caption: line below it; may be empty.
        width_mm: printed width.
        height_mm: printed height.
        place: position of the plane, in words.
    """

    picture: Image.Image
    alt: str
    caption: str
    width_mm: float
    height_mm: float
    place: str


@dataclass(frozen=True)
class _Plane:
    """Plane through the scan, printed at ``scale`` mm per mm of the patient.

    ``where`` names the plane; ``other`` is the position of the intersecting plane as a fraction of the height.
    """

    where: str
    place: tuple[Any, ...]
    extent_mm: tuple[float, float]
    scale: float
    sides: str
    other: float | None = None

    @property
    def paper_mm(self) -> tuple[float, float]:
        return self.extent_mm[0] * self.scale, self.extent_mm[1] * self.scale

    @property
    def cut(self) -> Cut:
        width, height = (max(1, round(length * _PX_PER_MM)) for length in self.paper_mm)
        return Cut(self.place, (width, height))


def field_of_view(scan: DisplayedScan) -> Box:
    """Box around the lungs and attention of at least 0.5, with a margin; the whole scan without either."""
    shown = [scan.lungs != 0, *(values >= HALF for values in scan.attention.values())]
    box = []
    for axis, (count, step) in enumerate(zip(scan.image_hu.shape, scan.spacing_mm, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        there = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in shown]))
        margin = math.ceil(_MARGIN_MM / step)
        first, last = (int(there[0]), int(there[-1])) if there.size else (0, count - 1)
        box.append(slice(max(0, first - margin), min(count, last + margin + 1)))
    return box[0], box[1], box[2]


@dataclass(frozen=True)
class View:
    """A plane of the overview.

    Attributes:
        name: what it goes through.
        index: slice along z of an axial plane, along y of a coronal one, in display orientation.
        is_axial: whether the plane is axial.
        crossing: index of the plane of the other direction to mark; None marks none.
    """

    name: str
    index: int
    is_axial: bool
    crossing: int | None = None


def chosen_views(scan: DisplayedScan) -> list[View]:
    """Planes through the middle of the lungs and through the largest lesion inside them.

    The middle is the slice that halves the lungs' volume; the lesion is shown where it is largest, axial and coronal.
    Without infection: the most attention inside the lungs instead; without attention: the middle only.

    Args:
        scan: the scan.

    Returns:
        Two or three planes.
    """
    (middle_y, middle_z), lesion = scan.middle_of_lungs, largest_lesion(scan)
    attention = next(iter(scan.attention.values()), None)
    if lesion is not None:
        name, (_, y, z) = "Largest lesion", lesion.voxel
    elif attention is not None:
        name, (z, y) = "Most attention", most_affected(scan.image_hu.shape, None, attention, scan.lungs)
    else:
        return [View(MIDDLE, middle_z, True, middle_y), View(MIDDLE, middle_y, False, middle_z)]
    return [View(MIDDLE, middle_z, True), View(name, z, True, y), View(name, y, False, z)]


def draw_overview(scan: DisplayedScan, box: Box, width_mm: float, height_mm: float) -> list[list[Panel]]:
    """Draw the planes of :func:`chosen_views`: CT, mask outlines, attention of each branch.

    Planes are rows, or columns if the pictures are then larger.

    Args:
        scan: the scan.
        box: region to show.
        width_mm: printed width of all columns.
        height_mm: printed height of all rows with their captions.

    Returns:
        Rows of panels, all with the same scale.
    """
    views, layers = chosen_views(scan), 2 + len(scan.attention)
    width, depth, height = _extent_mm(scan, box)
    heights = [depth if view.is_axial else height for view in views]
    row_captions = len(views) * (_WRAPPED_MM if scan.attention else _CAPTION_MM)
    column_captions = layers * _CAPTION_MM + (_WRAPPED_MM - _CAPTION_MM)
    by_row = min(width_mm / layers / width, (height_mm - row_captions) / sum(heights))
    by_column = min(width_mm / len(views) / width, (height_mm - column_captions) / layers / max(heights))
    rows = [_overview_row(scan, _plane_of(scan, view, box, max(by_row, by_column))) for view in views]
    return rows if by_row >= by_column else [list(column) for column in zip(*rows, strict=True)]


def _plane_of(scan: DisplayedScan, view: View, box: Box, scale: float) -> _Plane:
    width, depth, height = _extent_mm(scan, box)
    if view.is_axial:
        where = f"{view.name}, {_slice_name(scan, view.index)}"
        ticks = None if view.crossing is None else (view.crossing - box[1].start + 0.5) / (box[1].stop - box[1].start)
        return _Plane(where, (box[0], box[1], view.index), (width, depth), scale, "RLAP", ticks)
    upwards = slice(box[2].stop - 1, box[2].start - 1 if box[2].start else None, -1)
    ticks = None if view.crossing is None else (box[2].stop - view.crossing - 0.5) / (box[2].stop - box[2].start)
    return _Plane(f"{view.name}, coronal", (box[0], view.index, upwards), (width, height), scale, "RLSI", ticks)


def draw_slices(scan: DisplayedScan, box: Box, columns: int, width_mm: float, height_mm: float) -> list[Panel]:
    """Draw axial slices from bottom to top with coloured lesion classes and mask outlines.

    Args:
        scan: the scan.
        box: region to show.
        columns: pictures per row.
        width_mm: printed width of a row.
        height_mm: printed height of a picture.

    Returns:
        One panel per slice, all with the same scale.
    """
    width, depth, _ = _extent_mm(scan, box)
    scale = min(width_mm / columns / width, height_mm / depth)
    panels = []
    there = ["the lungs' outline" if scan.infection is None else "the outlines of lungs and infection"]
    there += [] if scan.lesions is None else ["lesion classes in colour"]
    for z in chosen_slices(scan):
        plane = _Plane(_slice_name(scan, z), (box[0], box[1], z), (width, depth), scale, "RL")
        panels.append(_panel(plane, _outlined(scan, plane, scan.lesions), f"with {' and '.join(there)}", plane.where))
    return panels


def chosen_slices(scan: DisplayedScan, max_slices: int = MAX_SLICES) -> list[int]:
    """Select the most infected slices, spread over the infection; without infection, slices spread over the lungs.

    Args:
        scan: the scan.
        max_slices: maximum number of slices.

    Returns:
        Slice indices in display orientation, from bottom to top.
    """
    infected = scan.infected_voxels
    if infected is not None and scan.has_infection:
        there = np.flatnonzero(infected.any(axis=0))
        spread_mm = (there[-1] - there[0]) * scan.spacing_mm[2] / max_slices
        return slices_to_show(infected.sum(axis=0), scan.spacing_mm[2], max_slices, max(_LEAST_GAP_MM, spread_mm))
    lung = np.flatnonzero(scan.lung_voxels.any(axis=0))
    first, last = (lung[0], lung[-1]) if lung.size else (0, len(scan.slice_indices) - 1)
    return sorted({round(z) for z in np.linspace(first, last, max_slices + 2)[1:-1].tolist()})


def _extent_mm(scan: DisplayedScan, box: Box) -> tuple[float, float, float]:
    x, y, z = ((cut.stop - cut.start) * step for cut, step in zip(box, scan.spacing_mm, strict=True))
    return x, y, z


def _slice_name(scan: DisplayedScan, z: int) -> str:
    return f"slice {scan.slice_indices[z]} (z = {scan.z_mm[z]:.0f} mm)"


def _overview_row(scan: DisplayedScan, plane: _Plane) -> list[Panel]:
    grey = window_to_grey(plane.cut.values(scan.image_hu))
    masks = "lungs" if scan.infection is None else "lungs and infection"
    panels = [
        _panel(plane, np.stack([grey] * 3, axis=-1), "", plane.where, has_scale=True),
        _panel(plane, _outlined(scan, plane), f"with the outline of {masks}", masks),
    ]
    for name, values in scan.attention.items():
        rgb = heated(grey, np.clip(plane.cut.values(values), 0, 1), _LINE_PX)
        panels.append(_panel(plane, rgb, f"with the attention of the {name} branch", f"attention {name}"))
    return panels


def _panel(plane: _Plane, rgb: np.ndarray, what: str, caption: str, has_scale: bool = False) -> Panel:
    picture, font = as_picture(rgb), ImageFont.load_default(_FONT_PX)
    mark_sides(picture, plane.sides, font)
    draw = ImageDraw.Draw(picture)
    if plane.other is not None:
        _draw_ticks(draw, picture.size, round(plane.other * picture.height))
    if has_scale:
        _draw_scale_bar(draw, font, picture.size, plane.scale)
    return Panel(picture, f"CT, {plane.where} {what}".strip(), caption, *plane.paper_mm, plane.where)


def _outlined(scan: DisplayedScan, plane: _Plane, lesions: np.ndarray | None = None) -> np.ndarray:
    """CT as RGB rows with coloured lesions, dashed lung borders and a solid infection border."""
    lungs = plane.cut.labels(scan.lungs)
    label = np.zeros_like(lungs) if lesions is None else plane.cut.labels(lesions)
    rgb = blend(window_to_grey(plane.cut.values(scan.image_hu)), label, _LESION_OPACITY)
    rows, columns = np.indices(lungs.shape) // _DASH_PX
    for value in SIDES.values():
        rgb[border(lungs == value, _LINE_PX) & ((rows + columns) % 2 == 0)] = np.array(LUNG_COLOUR) / 255
    if scan.infection is not None:
        rgb[border(plane.cut.labels(scan.infection), _LINE_PX)] = np.array(INFECTION_COLOUR) / 255
    return rgb


def _draw_ticks(draw: ImageDraw.ImageDraw, size: tuple[int, int], row: int) -> None:
    for left in (0, size[0] - _TICK_PX):
        draw.line((left, row, left + _TICK_PX, row), fill=_WHITE, width=_LINE_PX)


def _draw_scale_bar(draw: ImageDraw.ImageDraw, font: Any, size: tuple[int, int], scale: float) -> None:
    length, bottom = round(_SCALE_BAR_MM * scale * _PX_PER_MM), size[1] - _TICK_PX
    if length > size[0] // 2:
        return
    draw.line((_TICK_PX, bottom, _TICK_PX + length, bottom), fill=_WHITE, width=3)
    halo: dict[str, Any] = {"stroke_width": 2, "stroke_fill": (0, 0, 0)}
    draw.text((_TICK_PX, bottom - 6), "5 cm", fill=_WHITE, font=font, anchor="lb", **halo)
