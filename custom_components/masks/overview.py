"""What a person looks at before a training: contact sheets, and a table of the cases to look at first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.files.report_files import write_csv, write_png
from custom_components.masks.case_masks import THUMBNAIL, CaseMasks, masks_folder
from custom_components.pictures.contact_sheet import CASES_PER_SHEET, Thumbnail, draw_contact_sheet
from custom_components.reports.scan.sentences import amount_text
from PIL import Image

SHEET_NAME, SUSPICIOUS_NAME = "contact_sheet_{:02d}.png", "suspicious.csv"


def numbers_text(case: CaseMasks) -> str:
    """Lung volume and infection of a case.

    Example:
        >>> numbers_text(CaseMasks("P001", 4321.0, 0.123, (), "VB-Net", "VB-Net"))
        'lungs 4 321 ml, infection 12.3 %'
    """
    return f"lungs {amount_text(case.lung_ml)} ml, infection {amount_text(100 * case.ratio)} %".replace("\u202f", " ")


def write_sheets(folder: Path, cases: Sequence[CaseMasks]) -> list[Path]:
    """Write contact sheets of 50 cases each, and remove those of an earlier run with more cases.

    Args:
        folder: output folder, with the folders of the cases.
        cases: the cases with masks, in their order on the sheets.

    Returns:
        The sheets.
    """
    written = []
    for first in range(0, len(cases), CASES_PER_SHEET):
        some = cases[first : first + CASES_PER_SHEET]
        title = f"Lungs and infection, cases {first + 1} to {first + len(some)} of {len(cases)}. Orange: look first"
        path = folder / SHEET_NAME.format(first // CASES_PER_SHEET + 1)
        write_png(path, draw_contact_sheet([_thumbnail(folder, case) for case in some], title))
        written.append(path)
    for path in folder.glob(SHEET_NAME.replace("{:02d}", "*")):
        if path not in written:
            path.unlink()
    return written


def _thumbnail(folder: Path, case: CaseMasks) -> Thumbnail:
    with Image.open(masks_folder(folder) / case.case_id / THUMBNAIL) as picture:
        return Thumbnail(picture.convert("RGB"), case.case_id, numbers_text(case), bool(case.why))


def write_suspicious(path: Path, cases: Sequence[CaseMasks], failed: Mapping[str, str]) -> int:
    """Write the cases to look at first: failed ones, then those with most reasons.

    Args:
        path: the table.
        cases: the cases with masks.
        failed: reason by case of those without masks.

    Returns:
        Number of rows.
    """
    rows: list[dict[str, Any]] = [{"case_id": name, "why": f"failed: {why}"} for name, why in failed.items()]
    for case in sorted((case for case in cases if case.why), key=lambda case: -len(case.why)):
        measured = {"lung_ml": round(case.lung_ml, 1), "infection_percent": round(100 * case.ratio, 2)}
        rows.append({"case_id": case.case_id, "why": "; ".join(case.why), **measured})
    write_csv(path, rows, ("case_id", "why", "lung_ml", "infection_percent"))
    return len(rows)
