"""comparison.html: both scans side by side in one self-contained file."""

from collections.abc import Mapping, Sequence
from typing import Any

from custom_components.followup.pictures import CHANGE_COLOURS, CHANGE_NAMES, COLUMNS, SliceRow
from custom_components.pictures.overlay import INFECTION_COLOUR, LUNG_COLOUR
from custom_components.reports.html_page import page_template, picture_data_uri
from custom_components.reports.scan.displayed import SIDES
from custom_components.reports.scan.page import amount_or_unknown, css_colour, estimate_or_unknown, shortened
from custom_components.reports.scan.sentences import LESION_NAMES, estimate_text

_MINUS = "\N{MINUS SIGN}"


def render_comparison(comparison: Mapping[str, Any], rows: Sequence[SliceRow]) -> str:
    """Render the page of a comparison.

    Args:
        comparison: content of ``comparison.json``.
        rows: pictures of slices; may be empty.

    Returns:
        HTML without scripts and external resources; texts are escaped.
    """
    filters = {
        "amount": amount_or_unknown,
        "estimate": estimate_or_unknown,
        "signed": signed,
        "data_uri": picture_data_uri,
        "shortened": shortened,
    }
    return page_template("followup", "comparison.html.j2", filters).render(
        comparison=comparison,
        tables=_tables(comparison),
        sides={**{side: f"{side} lung" for side in reversed(SIDES)}, "total": "both"},
        rows=rows,
        columns=COLUMNS,
        legend={CHANGE_NAMES[value]: css_colour(colour) for value, colour in CHANGE_COLOURS.items()},
        infection_colour=css_colour(INFECTION_COLOUR),
        lungs_colour=css_colour(LUNG_COLOUR),
    )


def _tables(comparison: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], bool]]:
    """Name, values and whether they are estimates, of each group of rows."""
    tables = [
        ("Lungs, ml", comparison["lungs_ml"], False),
        ("Infection, ml", comparison["infection_ml"], True),
        ("Infection, % of the lung", comparison["infection_percent"], True),
    ]
    lesions = comparison["lesions_ml"] or {}
    return tables + [(f"{LESION_NAMES[name].capitalize()}, ml", values, True) for name, values in lesions.items()]


def signed(value: float | None) -> str:
    r"""A difference with its sign, rounded as an estimate.

    Example:
        >>> signed(33.71), signed(-0.42), signed(0.0), signed(None)
        ('+34', '\u22120.42', '0', 'unknown')
    """
    if value is None:
        return "unknown"
    return estimate_text(0.0) if not value else f"{'+' if value > 0 else _MINUS}{estimate_text(abs(value))}"
