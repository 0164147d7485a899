"""Pictures of lesions on CT slices, in the manner of Fig. 5 of Chen et al. 2020."""

from collections.abc import Mapping, Sequence

import numpy as np
from custom_components.labels import LESION_CLASSES, LUNG_WINDOW_HU
from PIL import Image, ImageDraw, ImageFont

# RGB 0..255: the paper's green, yellow and blue, in shades that colour-blind eyes tell apart and from grey too.
LESION_COLOURS = {"ground_glass": (69, 230, 130), "consolidation": (255, 235, 51), "pleural_effusion": (51, 146, 255)}

# Share of the lesion's colour; the rest is the CT below.
OPACITY = 0.65

MIN_PANEL_PX = 384
MARGIN_PX = 8
FONT_PX = 15
TEXT_GREY = (230, 230, 230)
# Layout that all pictures of slices share.
FOOTER = "research use only"

_MIN_WIDTH_PX = 560  # of the legend

_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def window_to_grey(image_hu: np.ndarray, window_hu: tuple[float, float] = LUNG_WINDOW_HU) -> np.ndarray:
    """CT in the lung window as grey.

    Args:
        image_hu: CT in HU, any shape.
        window_hu: HU shown black and HU shown white.

    Returns:
        Grey in [0, 1], float32, same shape.

    Example:
        >>> window_to_grey(np.array([-2000.0, -1350.0, -600.0, 150.0, 900.0])).tolist()
        [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    low, high = window_hu
    return np.clip((np.asarray(image_hu, dtype=np.float32) - low) / (high - low), 0, 1)


def overlay_rgb(image01: np.ndarray, label: np.ndarray | None = None, opacity: float = OPACITY) -> np.ndarray:
    """A slice as it is displayed, its lesions coloured.

    Args:
        image01: grey in [0, 1], shape (X, Y), x to the patient's left, y to posterior.
        label: label map, shape (X, Y); background and ignored pixels stay grey; None shows the slice alone.
        opacity: share of the lesion's colour, 0 to 1.

    Returns:
        RGB in [0, 1], float32, shape (3, Y, X): the patient's right on the viewer's left, anterior up.

    Raises:
        ValueError: when the shapes differ or are not those of a slice.

    Example:
        >>> (overlay_rgb(np.zeros((5, 6)), np.ones((5, 6)), opacity=1)[:, 0, 0] * 255).round().tolist()
        [69.0, 230.0, 130.0]
    """
    if image01.ndim != 2 or (label is not None and label.shape != image01.shape):
        raise ValueError(
            f"Expected a slice (X, Y) and its label map, got {image01.shape} and "
            f"{None if label is None else label.shape}. Pick one slice, on one grid."
        )
    rgb = np.repeat(np.clip(image01, 0, 1).astype(np.float32).T[None], 3, axis=0)
    if label is None:
        return rgb
    for value, name in enumerate(LESION_CLASSES, 1):
        colour = np.array(LESION_COLOURS[name], dtype=np.float32)[:, None] / 255
        lesion = np.equal(label, value).T
        rgb[:, lesion] = (1 - opacity) * rgb[:, lesion] + opacity * colour
    return rgb


def slices_to_show(
    lesion_pixels: np.ndarray, spacing_mm: float, max_slices: int = 6, gap_mm: float = 10.0
) -> list[int]:
    """Choose the slices with most lesion that lie apart.

    Args:
        lesion_pixels: lesion pixels of each slice, shape (Z,).
        spacing_mm: distance between neighbouring slices.
        max_slices: how many at most.
        gap_mm: least distance between two of them.

    Returns:
        Slice indices in order; the middle slice when there is no lesion at all.

    Example:
        >>> slices_to_show(np.array([0, 9, 8, 7, 1, 0]), spacing_mm=5.0)
        [1, 3]
    """
    if max_slices > 0 and not np.any(lesion_pixels):
        return [len(lesion_pixels) // 2]
    chosen: list[int] = []
    for index in np.argsort(-np.asarray(lesion_pixels), kind="stable").tolist():
        apart = all(abs(index - other) * spacing_mm >= gap_mm for other in chosen)
        if len(chosen) < max_slices and apart and lesion_pixels[index] > 0:
            chosen.append(index)
    return sorted(chosen)


def draw_overlay(
    image_hu: np.ndarray, labels: Mapping[str, np.ndarray], title: str, pixel_mm: Sequence[float] = (1.0, 1.0)
) -> Image.Image:
    """Draw a slice: the CT in the lung window, beside it each label map over the CT, a legend below.

    Args:
        image_hu: CT slice in HU, shape (X, Y), x to the patient's left, y to posterior.
        labels: name to label map, shape (X, Y); one panel each.
        title: text above.
        pixel_mm: pixel size along x and y.

    Returns:
        RGB image, the patient's right on the viewer's left, anterior up, in true proportion.

    Raises:
        ValueError: when a label map is not on the grid of the image.
    """
    grey = window_to_grey(image_hu)
    panels = {"CT": overlay_rgb(grey), **{name: overlay_rgb(grey, label) for name, label in labels.items()}}
    size = _panel_size(grey.shape, pixel_mm)
    row = FONT_PX + MARGIN_PX
    width = max(_MIN_WIDTH_PX, len(panels) * (size[0] + MARGIN_PX) + MARGIN_PX)
    picture = Image.new("RGB", (width, size[1] + 3 * row + 2 * MARGIN_PX))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_PX)
    draw.text((MARGIN_PX, MARGIN_PX // 2), title, fill=TEXT_GREY, font=font)
    for index, (name, rgb) in enumerate(panels.items()):
        left = MARGIN_PX + index * (size[0] + MARGIN_PX)
        picture.paste(_panel(rgb, size), (left, 2 * row))
        draw.text((left, row + MARGIN_PX // 2), name, fill=TEXT_GREY, font=font)
        mark_sides(draw, font, (left, 2 * row), size)
    _draw_legend(draw, font, size[1] + 2 * row + MARGIN_PX, width)
    return picture


def short_name(case_id: str, most: int = 40) -> str:
    """Name of a case, as long as a title has room for; of a longer one, such as a UID, the end.

    Example:
        >>> short_name("covid_003"), short_name("1.2.826.0.1.3680043.8.498.81328250012993076616411464724380109228")
        ('covid_003', '...8.81328250012993076616411464724380109228')
    """
    return case_id if len(case_id) <= most else f"...{case_id[-most:]}"


def mark_sides(
    draw: ImageDraw.ImageDraw, font: _Font, corner: tuple[int, int], size: tuple[int, int], sides: str = "RL"
) -> None:
    """Write the patient's sides at the edges of a panel.

    Args:
        draw: picture to write on.
        font: font of the letters.
        corner: left and top of the panel in pixels.
        size: its width and height.
        sides: letters of the left and the right edge, and of the upper and the lower one when there are four.
    """
    (left, top), (width, height) = corner, size
    middle = (left + width // 2, top + height // 2)
    places = (
        ("lm", (left + 4, middle[1])),
        ("rm", (left + width - 4, middle[1])),
        ("mt", (middle[0], top + 4)),
        ("mb", (middle[0], top + height - 4)),
    )
    for side, (anchor, place) in zip(sides, places, strict=False):
        draw.text(place, side, fill=TEXT_GREY, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _panel_size(shape: Sequence[int], pixel_mm: Sequence[float]) -> tuple[int, int]:
    """Width and height in display pixels: square ones, none of the slice's own lost."""
    fine_mm = min(pixel_mm)
    width, height = shape[0] * pixel_mm[0] / fine_mm, shape[1] * pixel_mm[1] / fine_mm
    scale = max(1.0, MIN_PANEL_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _panel(rgb: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Nearest neighbours: a lesion's border stays where it is."""
    pixels = np.ascontiguousarray((rgb * 255).round().astype(np.uint8).transpose(1, 2, 0))
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def _draw_legend(draw: ImageDraw.ImageDraw, font: _Font, top: int, width: int) -> None:
    left = float(MARGIN_PX)
    for name in LESION_CLASSES:
        draw.rectangle((left, top, left + FONT_PX, top + FONT_PX), fill=LESION_COLOURS[name])
        text = name.replace("_", " ").replace("ground glass", "ground-glass")
        draw.text((left + FONT_PX + 5, top), text, fill=TEXT_GREY, font=font)
        left += FONT_PX + 5 + draw.textlength(text, font=font) + 2 * MARGIN_PX
    draw.text((width - MARGIN_PX, top), FOOTER, fill=TEXT_GREY, font=font, anchor="ra")
