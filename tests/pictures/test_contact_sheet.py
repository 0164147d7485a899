import numpy as np
import pytest
from custom_components.pictures.contact_sheet import (
    CAPTION_PX,
    COLUMNS,
    MARKED,
    VIEW_PX,
    Thumbnail,
    draw_contact_sheet,
    draw_thumbnail,
    fitting_caption,
)
from custom_components.pictures.overlay import INFECTION_COLOUR, LUNG_COLOUR
from custom_components.pictures.sheet import MARGIN_PX, TEXT_GREY
from PIL import Image, ImageFont

SHAPE, SPACING_MM = (40, 48, 20), (2.0, 1.0, 3.0)  # 80 x 48 x 60 mm


def coloured(pixels, colour):
    return np.abs(np.asarray(pixels).astype(int) - colour).max(axis=2) <= 1


def box(x, y, z):
    mask = np.zeros(SHAPE, np.uint8)
    mask[x, y, z] = 1
    return mask


@pytest.fixture
def thumbnail():
    """Lung in the patient's right half; infection in its right, anterior, upper corner."""
    lung, infection = box(np.s_[4:20], np.s_[6:40], np.s_[2:18]), box(np.s_[5:10], np.s_[8:14], np.s_[12:17])
    return draw_thumbnail(np.full(SHAPE, -1350.0), lung, infection, SPACING_MM)


def extent(there):
    rows, columns = np.nonzero(there)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_both_views_show_lungs_and_infection_at_their_places_in_proportion(thumbnail):
    axial, coronal = (thumbnail.crop((left, 0, left + VIEW_PX, VIEW_PX)) for left in (0, VIEW_PX))
    scale = VIEW_PX / 80  # pixels for a mm; both views are 80 mm wide
    above = {"axial": (VIEW_PX - 48 * scale) / 2, "coronal": (VIEW_PX - 60 * scale) / 2}
    infected = {"axial": (8, 14, 10, 20), "coronal": (60 - 51, 60 - 36, 10, 20)}  # top, bottom, left, right in mm
    for name, view in (("axial", axial), ("coronal", coronal)):
        top, bottom, left, right = extent(coloured(view, INFECTION_COLOUR))
        expected = [above[name] + mm * scale for mm in infected[name][:2]] + [mm * scale for mm in infected[name][2:]]
        assert [top, bottom, left, right] == pytest.approx(expected, abs=2.5)
        assert extent(coloured(view, LUNG_COLOUR))[3] == pytest.approx(40 * scale, abs=2.5)


def test_the_slices_are_those_with_most_infection():
    lung, infection = box(np.s_[4:36], np.s_[6:40], np.s_[2:18]), box(np.s_[5:30], np.s_[8:9], np.s_[12:13])
    drawn = draw_thumbnail(np.full(SHAPE, -1350.0), lung, infection, SPACING_MM)
    for left in (0, VIEW_PX):
        assert coloured(drawn.crop((left, 0, left + VIEW_PX, VIEW_PX)), INFECTION_COLOUR).any()


def test_thumbnails_are_arranged_row_by_row_with_marked_captions(thumbnail):
    other = Image.new("RGB", thumbnail.size, (10, 200, 10))
    cases = [
        Thumbnail(other if k == COLUMNS else thumbnail, f"c{k}", "lungs 1 ml", k == COLUMNS) for k in range(COLUMNS + 1)
    ]
    sheet = np.asarray(draw_contact_sheet(cases, "title"))
    step, line = VIEW_PX + CAPTION_PX + MARGIN_PX, CAPTION_PX + MARGIN_PX
    assert sheet.shape == (2 * step + 2 * line, COLUMNS * (2 * VIEW_PX + MARGIN_PX) + MARGIN_PX, 3)
    second = np.s_[line + step : line + step + VIEW_PX, MARGIN_PX : MARGIN_PX + 2 * VIEW_PX]
    assert np.array_equal(sheet[second], np.asarray(other))
    captions = [sheet[line + row * step + VIEW_PX :][:CAPTION_PX] for row in (0, 1)]
    assert [coloured(one, MARKED).any() for one in captions] == [False, True]
    assert [coloured(one, TEXT_GREY).any() for one in captions] == [True, False]


def test_sheets_of_few_and_many_cases_are_equally_wide(thumbnail):
    one = Thumbnail(thumbnail, "a", "b")
    few, many = (draw_contact_sheet([one] * count, "title") for count in (1, 50))
    assert few.width == many.width
    assert many.height - few.height == 9 * (VIEW_PX + CAPTION_PX + MARGIN_PX)


@pytest.mark.parametrize("name", ["P001", "1.2.826.0.1.3680043.8.498.81328250012993076616411464724380109228"])
def test_a_caption_fits_under_its_thumbnail_and_keeps_the_numbers(name):
    font = ImageFont.load_default(13)
    caption = fitting_caption(name, "lungs 4 321 ml, infection 12.3 %", font)
    assert font.getlength(caption) <= 2 * VIEW_PX
    assert caption.endswith(f"{name[-4:]}   lungs 4 321 ml, infection 12.3 %")
    assert caption.startswith("P001" if name == "P001" else "...")
