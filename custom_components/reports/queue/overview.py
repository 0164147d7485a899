"""overview.html and overview.csv: all cases of a folder of ``diagnose`` on one page, those to look at first on top."""

import hashlib
import io
from base64 import b64encode
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from custom_components._version import NOTICE, __version__
from custom_components.files.atomic import atomic_path
from custom_components.files.report_files import write_csv
from custom_components.reports.html_page import page_template
from custom_components.reports.queue.rows import case_rows, csv_rows
from custom_components.reports.scan.page import shortened
from custom_components.reports.scan.sentences import amount_text, estimate_text
from markupsafe import Markup
from PIL import Image

HTML_NAME, CSV_NAME, THUMBNAIL = "overview.html", "overview.csv", "thumbnail.png"
# Columns with numbers: entry of a row, title, how it is shown.
COLUMNS = (
    ("lungs_ml", "Lungs, ml", amount_text),
    ("infection_ml", "Infection, ml", estimate_text),
    ("infection_percent", "% of lungs", estimate_text),
    ("ct_score", "CT score, of 24", "{:d}".format),
    ("ground_glass_ml", "Ground-glass, ml", estimate_text),
    ("consolidation_ml", "Consolidation, ml", estimate_text),
    ("pleural_effusion_ml", "Effusion, ml", estimate_text),
    ("p_final", "P_final", "{:.3f}".format),
)

_FOLDER = "reports/queue"
_THUMBNAIL_PX = (208, 104)


def write_overview(folder: str | Path, cases: Iterable[Path], failed: Mapping[str, str]) -> Path | None:
    """Write the overview of a folder of cases, if there are several.

    Args:
        folder: output folder of ``diagnose``.
        cases: folders of its finished cases.
        failed: reason by case of those that failed in this run.

    Returns:
        Path of ``overview.html``; None for a single case, which has its own report.
    """
    folder = Path(folder)
    rows = case_rows(cases, failed)
    if len(rows) < 2:
        return None
    write_csv(folder / CSV_NAME, csv_rows(rows), ("case_id", "why"))
    script = (files("custom_components") / _FOLDER / "overview.js").read_text(encoding="utf-8")
    filters = {"shortened": shortened, "link": _link, "thumbnail": _thumbnail}
    page = page_template(_FOLDER, "overview.html.j2", filters).render(
        rows=rows,
        columns=COLUMNS,
        notice=NOTICE,
        version=__version__,
        csv=CSV_NAME,
        policy=f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'",
        script=Markup(script),
    )
    with atomic_path(folder / HTML_NAME) as path:
        path.write_text(page, encoding="utf-8", errors="replace")  # a file name may contain invalid Unicode
    return folder / HTML_NAME


def _link(page: Path) -> str:
    """Relative address of the page of a case."""
    return quote(f"{page.parent.name}/{page.name}", errors="surrogateescape")


def _thumbnail(page: Path) -> str:
    """Small picture of a case as data URI; empty if it has none, as cases of earlier versions."""
    path, jpeg = page.with_name(THUMBNAIL), io.BytesIO()
    if not path.is_file():
        return ""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail(_THUMBNAIL_PX)
    small.save(jpeg, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(jpeg.getvalue()).decode('ascii')}"
