"""report.html of one scan: a self-contained file that prints on two A4 pages."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from custom_components.pictures.overlay import INFECTION_COLOUR, LESION_COLOURS, LUNG_COLOUR, as_picture, heat_scale
from custom_components.reports.html_page import page_template, picture_data_uri
from custom_components.reports.scan.displayed import DisplayedScan
from custom_components.reports.scan.left_out import dice_text
from custom_components.reports.scan.pictures import (
    chosen_slices,
    chosen_views,
    draw_overview,
    draw_slices,
    field_of_view,
)
from custom_components.reports.scan.profile import LINES, draw_profile
from custom_components.reports.scan.sentences import LESION_NAMES, amount_text, class_texts, estimate_text

# Printed size available for pictures.
OVERVIEW_MM, SLICES_MM = 181.0, (182.0, 42.0)
# Height for the pictures of the first page without sentences; of the table of scores, which may be missing; and of the
# scores on left-out data.
OVERVIEW_HEIGHT_MM, SCORES_MM, LEFT_OUT_MM = 130.0, 49.0, 9.0
# Height of a line of sentences, letters in it with a wide font, and most lines of notes.
LINE_MM, LETTERS, NOTE_LINES = 4.2, 105, 6
SLICE_COLUMNS = 3
# The viewer of the same scan, see :mod:`custom_components.reports.scan.viewer`.
VIEWER_NAME = "viewer.html"

# Maximum text lengths on the two pages; report.json has the full texts.
MAX_LETTERS = 160


def render_page(report: Mapping[str, Any], scan: DisplayedScan, has_viewer: bool = False) -> str:
    """Render the report page of a scan with its pictures.

    Texts and lists that do not fit on two pages are shortened and marked.

    Args:
        report: result of :func:`custom_components.reports.scan.description.describe_scan`.
        scan: the same scan.
        has_viewer: whether to link to the viewer in the same folder; the link is not printed.

    Returns:
        HTML without scripts and external resources; report texts are escaped.
    """
    box = field_of_view(scan)
    filters = {
        "amount": amount_or_unknown,
        "estimate": estimate_or_unknown,
        "dice": dice_text,
        "shortened": shortened,
        "fitting": fitting,
        "data_uri": picture_data_uri,
    }
    return page_template("reports/scan", "report.html.j2", filters).render(
        report=report,
        viewer=VIEWER_NAME if has_viewer else None,
        overview=draw_overview(scan, box, OVERVIEW_MM, _overview_height_mm(report)),
        overview_title=_overview_title(scan),
        slices=draw_slices(scan, box, SLICE_COLUMNS, *SLICES_MM),
        profile=draw_profile(scan, chosen_slices(scan)) if scan.has_infection else None,
        has_attention=bool(scan.attention),
        colours={name: css_colour(colour) for name, colour in LESION_COLOURS.items()},
        infection_colour=css_colour(INFECTION_COLOUR),
        lungs_colour=css_colour(LUNG_COLOUR),
        lesion_names=LESION_NAMES,
        class_ml={} if report["lesions"] is None else class_texts(report),
        class_percent={} if report["lesions"] is None else class_texts(report, "percent_of_lung"),
        heat_scale=as_picture(heat_scale(112, 20)),
        profile_lines=LINES,
    )


def _overview_height_mm(report: Mapping[str, Any]) -> float:
    """Height that the texts of the first page leave for its pictures."""
    read, noted = _lines([" ".join(report["reading"])], LETTERS), _lines(report["notes"], LETTERS)
    no_scores = SCORES_MM if report["scores"] is None else 0
    left_out = LEFT_OUT_MM if report["left_out"] else 0
    return OVERVIEW_HEIGHT_MM + no_scores - left_out - LINE_MM * (read + min(noted, NOTE_LINES))


def _lines(texts: Sequence[str], letters: int) -> int:
    return sum(math.ceil(len(text) / letters) for text in texts)


def _overview_title(scan: DisplayedScan) -> str:
    names = dict.fromkeys(view.name for view in chosen_views(scan))
    return " and ".join([next(iter(names)), *(name.lower() for name in list(names)[1:])])


def shortened(text: str, letters: int = MAX_LETTERS) -> str:
    """Shorten a text to a maximum length and mark the omission.

    Example:
        >>> shortened("thorax 1.25 mm", 9)
        'thorax 1…'
    """
    text = " ".join(text.split())
    return text if len(text) <= letters else text[: letters - 1] + "…"


def fitting(texts: Sequence[str], letters: int, lines: int) -> list[str]:
    """Select the first texts that fit into an area of the page.

    Args:
        texts: sentences; if they do not all fit, a long one is shortened to half of the area.
        letters: letters per line.
        lines: lines of the area.

    Returns:
        The texts that fit, in order.

    Example:
        >>> fitting(["one line", "another that needs two", "no more room"], letters=12, lines=2)
        ['one line', 'another tha…']
        >>> fitting(["a long one that has the room"], letters=12, lines=3)
        ['a long one that has the room']
    """
    whole = [" ".join(text.split()) for text in texts]
    if _lines(whole, letters) <= lines:
        return whole
    shown: list[str] = []
    most = max(1, lines // 2) * letters
    for text in texts:
        short = shortened(text, most)
        lines -= math.ceil(len(short) / letters)
        if lines < 0:
            break
        shown.append(short)
    return shown


def amount_or_unknown(value: float | None) -> str:
    """:func:`amount_text`, or ``unknown`` for None."""
    return "unknown" if value is None else amount_text(value)


def estimate_or_unknown(value: float | None) -> str:
    """:func:`estimate_text`, or ``unknown`` for None."""
    return "unknown" if value is None else estimate_text(value)


def css_colour(colour: tuple[int, int, int]) -> str:
    """Colour as CSS has it.

    Example:
        >>> css_colour((255, 135, 60))
        '#ff873c'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)
