import runpy

import pytest
from PIL import Image

from tests.bundles.conftest import ROOT

SCRIPT = runpy.run_path(str(ROOT / "docs" / "draw_cases.py"))
HEADER = "case_id,dice_ground_glass,dice_consolidation,dice_pleural_effusion\n"


@pytest.fixture
def cases(tmp_path):
    """Two evaluated cases, of which the second has no lesion."""
    (tmp_path / "per_case.csv").write_text(HEADER + "a,0.456,0.0,\nb,,,\n", encoding="utf-8")
    folders = [tmp_path / name for name in ("a", "b")]
    for folder, height in zip(folders, (100, 300), strict=True):
        folder.mkdir()
        Image.new("RGB", (400, height), "white").save(folder / f"{folder.name}_overlay_000.png")
    return folders


def test_a_class_that_a_case_lacks_has_no_dice(cases):
    assert [SCRIPT["title"](case) for case in cases] == [
        "case a   Dice: ground-glass 0.46, consolidation 0.00",
        "case b   Dice: no lesion in truth or prediction",
    ]


def test_pictures_are_stacked_with_equal_widths(cases, tmp_path):
    SCRIPT["main"](str(tmp_path / "sheet.png"), *map(str, cases), width=200)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (200, 50 + 150)
    assert sheet.getpixel((190, 5)) == sheet.getpixel((190, 55)) == (0, 0, 0)  # behind the titles
    assert sheet.getpixel((100, 40)) == sheet.getpixel((100, 190)) == (255, 255, 255)
