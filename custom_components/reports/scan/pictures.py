"""Pictures of one scan's report, in the manner of Fig. 5 of Ouyang et al. 2020, sized for paper.

Each kind of line is told apart without colour too: lungs dashed, infection solid, attention by its outline at one half.
"""

import math
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from custom_components.pictures.attention import HEAT_OPACITY, INFECTION_COLOUR, slices_of_interest
from custom_components.pictures.overlay import mark_sides, overlay_rgb, slices_to_show, window_to_grey
from custom_components.reports.scan.displayed import SIDES, DisplayedScan
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

# RGB 0..255 of the lungs' outline: light, since on paper a dark blue is lost on dark lung.
LUNGS_COLOUR = (130, 205, 255)
# Brightness grows with the attention, so that grey print and colour-blind eyes keep its order.
HEAT_COLORMAP = "inferno"
# Attention whose outline is drawn.
HALF = 0.5

MAX_SLICES = 6

_PX_PER_MM = 8.0  # of paper: 203 dots an inch
_MARGIN_MM = 15.0  # of the patient, around the lungs
_LEAST_GAP_MM = 10.0
_LESION_OPACITY = 0.45
_FONT_PX, _LINE_PX, _DASH_PX, _TICK_PX = 20, 2, 5, 9
_SCALE_BAR_MM = 50.0
_WHITE = (255, 255, 255)

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Panel:
    """One picture on the page.

    Attributes:
        picture: its pixels, the patient's right on the viewer's left.
        alt: what it shows, for who cannot see it.
        caption: line below it; may be empty.
        width_mm: its width on paper.
        height_mm: its height on paper.
        place: where the cut lies, in words.
    """

    picture: Image.Image
    alt: str
    caption: str
    width_mm: float
    height_mm: float
    place: str


@dataclass(frozen=True)
class _Plane:
    """A cut through the scan, drawn at ``scale`` mm of paper for a mm of the patient.

    ``other`` is where the cut that is shown with it meets it, as a share of its height.
    """

    name: str
    cut: tuple[Any, ...]
    extent_mm: tuple[float, float]
    scale: float
    sides: str
    place: str
    other: float | None = None

    @property
    def paper_mm(self) -> tuple[float, float]:
        return self.extent_mm[0] * self.scale, self.extent_mm[1] * self.scale

    @property
    def size_px(self) -> tuple[int, int]:
        width, height = (max(1, round(length * _PX_PER_MM)) for length in self.paper_mm)
        return width, height

    def values(self, volume: np.ndarray) -> np.ndarray:
        """Rows of display pixels, linearly interpolated."""
        rows = Image.fromarray(np.ascontiguousarray(volume[self.cut].T, dtype=np.float32))
        return np.asarray(rows.resize(self.size_px, Image.Resampling.BILINEAR))

    def labels(self, volume: np.ndarray) -> np.ndarray:
        """Rows of display pixels, the nearest voxel's."""
        rows = Image.fromarray(np.ascontiguousarray(volume[self.cut].T, dtype=np.uint8))
        return np.asarray(rows.resize(self.size_px, Image.Resampling.NEAREST))


def field_of_view(scan: DisplayedScan) -> Box:
    """Box around the lungs and all attention of one half or more, with a margin; the scan when there is neither."""
    shown = [scan.lungs != 0, *(values >= HALF for values in scan.attention.values())]
    box = []
    for axis, (count, step) in enumerate(zip(scan.image_hu.shape, scan.spacing_mm, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        there = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in shown]))
        margin = math.ceil(_MARGIN_MM / step)
        first, last = (int(there[0]), int(there[-1])) if there.size else (0, count - 1)
        box.append(slice(max(0, first - margin), min(count, last + margin + 1)))
    return box[0], box[1], box[2]


def draw_overview(scan: DisplayedScan, box: Box, width_mm: float, height_mm: float) -> list[list[Panel]]:
    """An axial and a coronal cut through the most affected place: CT, outlines of the masks, attention of each branch.

    Affected is what is infected; without infection where the attention is, and without attention the lungs.

    Args:
        scan: the scan.
        box: what of it is shown.
        width_mm: of the paper that all columns share.
        height_mm: of the paper that both rows share.

    Returns:
        A row of panels for each cut, all of one scale.
    """
    z, y = _most_affected(scan)
    width, depth, height = _extent_mm(scan, box)
    scale = min(width_mm / (2 + len(scan.attention)) / width, height_mm / (depth + height))
    meets = {
        "axial": (y - box[1].start + 0.5) / (box[1].stop - box[1].start),
        "coronal": (box[2].stop - z - 0.5) / (box[2].stop - box[2].start),
    }
    upwards = slice(box[2].stop - 1, box[2].start - 1 if box[2].start else None, -1)
    place = _slice_name(scan, z)
    planes = (
        _Plane("axial", (box[0], box[1], z), (width, depth), scale, "RLAP", place, meets["axial"]),
        _Plane("coronal", (box[0], y, upwards), (width, height), scale, "RLSI", "", meets["coronal"]),
    )
    return [_overview_row(scan, plane) for plane in planes]


def draw_slices(scan: DisplayedScan, box: Box, columns: int, width_mm: float, height_mm: float) -> list[Panel]:
    """Axial slices from bottom to top, with the lesion classes in colour and the outlines of the masks.

    Args:
        scan: the scan.
        box: what of it is shown.
        columns: pictures beside each other.
        width_mm: of the paper that a row has.
        height_mm: of the paper that a picture has.

    Returns:
        A panel a slice, of one scale.
    """
    width, depth, _ = _extent_mm(scan, box)
    scale = min(width_mm / columns / width, height_mm / depth)
    panels = []
    for z in chosen_slices(scan):
        plane = _Plane("axial", (box[0], box[1], z), (width, depth), scale, "RL", _slice_name(scan, z))
        there = ["the lungs' outline" if scan.infection is None else "the outlines of lungs and infection"]
        there += [] if scan.lesions is None else ["lesion classes in colour"]
        panels.append(_panel(plane, _outlined(scan, plane, scan.lesions), f"with {' and '.join(there)}", plane.place))
    return panels


def draw_heat_scale() -> Image.Image:
    """The colours of attention 0 to 1, from left to right, as they lie over dark lung."""
    attention = np.tile(np.linspace(0, 1, 112), (20, 1))
    grey = np.full((*attention.shape, 3), 0.3)
    return Image.fromarray((_tinted(grey, attention) * 255).round().astype(np.uint8))


def chosen_slices(scan: DisplayedScan, max_slices: int = MAX_SLICES) -> list[int]:
    """The most infected slices, spread over all infected ones; without infection, slices spread over the lungs.

    Args:
        scan: the scan.
        max_slices: how many at most.

    Returns:
        Display indices, from bottom to top.
    """
    infected = scan.infected_voxels
    if infected is not None and scan.has_infection:
        there = np.flatnonzero(infected.any(axis=0))
        spread_mm = (there[-1] - there[0]) * scan.spacing_mm[2] / max_slices
        return slices_to_show(infected.sum(axis=0), scan.spacing_mm[2], max_slices, max(_LEAST_GAP_MM, spread_mm))
    lung = np.flatnonzero(scan.lung_voxels.any(axis=0))
    first, last = (lung[0], lung[-1]) if lung.size else (0, len(scan.slice_indices) - 1)
    return sorted({round(z) for z in np.linspace(first, last, max_slices + 2)[1:-1].tolist()})


def _most_affected(scan: DisplayedScan) -> tuple[int, int]:
    shape = scan.image_hu.shape
    if scan.infection is not None and scan.has_infection:
        z, y = slices_of_interest(shape, scan.infection)
    elif scan.attention:
        first = next(iter(scan.attention.values()))
        z, y = slices_of_interest(shape, np.where(scan.lungs != 0, first, 0), first, scan.lungs)
    else:
        z, y = slices_of_interest(shape, scan.lungs)
    return z, y


def _extent_mm(scan: DisplayedScan, box: Box) -> tuple[float, float, float]:
    x, y, z = ((cut.stop - cut.start) * step for cut, step in zip(box, scan.spacing_mm, strict=True))
    return x, y, z


def _slice_name(scan: DisplayedScan, z: int) -> str:
    return f"slice {scan.slice_indices[z]} (z = {scan.z_mm[z]:.1f} mm)"


def _overview_row(scan: DisplayedScan, plane: _Plane) -> list[Panel]:
    grey = np.repeat(_grey(scan, plane)[..., None], 3, axis=2)
    masks = "lungs" if scan.infection is None else "lungs and infection"
    panels = [
        _panel(plane, grey, "", "CT", has_scale=True),
        _panel(plane, _outlined(scan, plane), f"with the outline of {masks}", f"CT, {masks}"),
    ]
    for name, values in scan.attention.items():
        heated = _heated(grey, np.clip(plane.values(values), 0, 1))
        panels.append(_panel(plane, heated, f"with the attention of the {name} branch", f"attention {name}"))
    return panels


def _panel(plane: _Plane, rgb: np.ndarray, what: str, caption: str, has_scale: bool = False) -> Panel:
    picture = Image.fromarray((rgb * 255).round().astype(np.uint8))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT_PX)
    mark_sides(draw, font, (0, 0), picture.size, plane.sides)
    if plane.other is not None:
        _draw_ticks(draw, picture.size, round(plane.other * picture.height))
    if has_scale:
        _draw_scale_bar(draw, font, picture.size, plane.scale)
    view = "Coronal cut of the CT" if plane.name == "coronal" else f"Axial CT {plane.place}"
    return Panel(picture, f"{view} {what}".strip(), caption, *plane.paper_mm, plane.place)


def _grey(scan: DisplayedScan, plane: _Plane) -> np.ndarray:
    return window_to_grey(plane.values(scan.image_hu))


def _outlined(scan: DisplayedScan, plane: _Plane, lesions: np.ndarray | None = None) -> np.ndarray:
    """The CT as RGB rows, lesions coloured, the border of each lung dashed and that of the infection drawn through."""
    label = None if lesions is None else plane.labels(lesions).T
    rgb = overlay_rgb(_grey(scan, plane).T, label, _LESION_OPACITY).transpose(1, 2, 0)
    lungs = plane.labels(scan.lungs)
    for value in SIDES.values():
        border = _border(lungs == value)
        rows, columns = np.indices(border.shape) // _DASH_PX
        rgb[border & ((rows + columns) % 2 == 0)] = np.array(LUNGS_COLOUR) / 255
    if scan.infection is not None:
        rgb[_border(plane.labels(scan.infection) != 0)] = np.array(INFECTION_COLOUR) / 255
    return rgb


def _heated(grey_rgb: np.ndarray, attention: np.ndarray) -> np.ndarray:
    rgb = _tinted(grey_rgb, attention)
    rgb[_border(attention >= HALF)] = 1
    return rgb


def _tinted(grey_rgb: np.ndarray, attention: np.ndarray) -> np.ndarray:
    opacity = HEAT_OPACITY * attention[..., None]
    return (1 - opacity) * grey_rgb + opacity * matplotlib.colormaps[HEAT_COLORMAP](attention)[..., :3]


def _border(inside: np.ndarray) -> np.ndarray:
    return inside & ~binary_erosion(inside, iterations=_LINE_PX, border_value=1)


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
