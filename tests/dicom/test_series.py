import re
import shutil

import itk
import numpy as np
import pytest
from custom_components.dicom.series import check_dicom_series
from pydicom import dcmread
from pydicom.uid import RLELossless

AXIAL = (1, 0, 0, 0, 1, 0)
TILTED = (1, 0, 0, 0, np.cos(0.3), np.sin(0.3))


def test_slices_are_ordered_by_position_whatever_their_names(write_series, hu):
    series = check_dicom_series(write_series(hu))

    assert [file.name[-10:] for file in series.files] == [f"slice{k}.dcm" for k in range(7)]
    assert (series.num_slices, series.shape, series.modality) == (7, (5, 6, 7), "CT")


def test_spacing_is_given_in_the_order_x_y_z(write_series, hu):
    assert check_dicom_series(write_series(hu, spacing_mm=(0.5, 0.75, 2.0))).spacing_mm == pytest.approx((0.5, 0.75, 2))


def test_the_affine_of_an_axial_series_by_hand(write_series, hu):
    series = check_dicom_series(write_series(hu, spacing_mm=(0.5, 0.75, 2.0), origin_mm=(-10, -20, -300)))

    expected = [[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2, -300], [0, 0, 0, 1]]
    np.testing.assert_allclose(series.affine, expected)


def test_the_affine_of_an_oblique_series_is_that_of_itk(write_series, hu):
    series = check_dicom_series(write_series(hu, orientation=TILTED))

    image = itk.imread([str(file) for file in series.files])
    itk_affine = np.eye(4)
    itk_affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) @ np.diag(np.asarray(image.GetSpacing()))
    itk_affine[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(series.affine, np.diag([-1, -1, 1, 1]) @ itk_affine, atol=1e-5)


def test_one_slice_is_as_thick_as_its_header_says(write_series, hu):
    series = check_dicom_series(write_series(hu[..., :1], spacing_mm=(0.5, 0.75, 3.5)))

    assert series.shape == (5, 6, 1)
    assert series.spacing_mm == pytest.approx((0.5, 0.75, 3.5))


def test_text_previews_hidden_files_and_the_dicomdir_are_left_aside(write_series, write_ct_image, hu):
    folder = write_series(hu)
    (folder / "notes.txt").write_text("x")
    (folder / "._slice.dcm").write_bytes(b"resource fork")
    write_ct_image(folder / "DICOMDIR", hu[..., 0], SOPClassUID="1.2.840.10008.1.3.10")

    assert check_dicom_series(folder).num_slices == 7


def test_several_series_are_listed_with_what_tells_them_apart(write_series, hu):
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesNumber": 1, "SeriesDescription": "Topogram"}
    folder = write_series(hu, edit={6: {**scout, "SeriesInstanceUID": "9.9"}})

    with pytest.raises(ValueError, match="holds 2 series, expected one") as caught:
        check_dicom_series(folder)
    assert "series 4 (Thorax 2.0): 6 images, AXIAL" in str(caught.value)
    assert "series 1 (Topogram): 1 images, LOCALIZER" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "is a localizer"), ({"NumberOfFrames": 7}, "multi-frame")],
)
def test_one_slice_that_is_not_ct_is_named(write_series, hu, changes, message):
    """All other reasons: docs/bad_input_dicom.md."""
    with pytest.raises(ValueError, match=f"Case P012: 3_slice1.dcm .*{message}"):
        check_dicom_series(write_series(hu[..., :2], edit={1: changes}))


def test_the_odd_slice_is_named_even_where_it_is_read_first(write_series, hu):
    with pytest.raises(
        ValueError, match=r"1 of 7 images differ in pixel spacing, e.g. 0_slice0.dcm has \[0.75, 0.51\]"
    ):
        check_dicom_series(write_series(hu, edit={0: {"PixelSpacing": [0.75, 0.51]}}))


def test_a_copy_of_a_file_counts_once(write_series, hu):
    folder = write_series(hu)
    shutil.copy(folder / "3_slice1.dcm", folder / "copy.dcm")

    series = check_dicom_series(folder)
    assert (series.num_slices, series.notes) == (7, ("1 files are copies of other files and are ignored",))


def test_two_images_at_one_place_are_refused(write_series, hu):
    folder = write_series(hu)
    image = dcmread(folder / "3_slice1.dcm")
    image.PixelData = (image.pixel_array + 1).astype("<u2").tobytes()
    image.save_as(folder / "copy.dcm")

    with pytest.raises(ValueError, match=r"1 slice positions occur twice, e.g. .*at -298.00 mm"):
        check_dicom_series(folder)


def test_a_missing_slice_is_refused_and_its_place_named(write_series, hu):
    folder = write_series(hu)
    (folder / "3_slice1.dcm").unlink()

    message = r"uneven at 1 places, first between 0_slice0.dcm \(-300.00 mm\) and 6_slice2.dcm .*: 4.00 mm, elsewhere"
    with pytest.raises(ValueError, match=message):
        check_dicom_series(folder)


@pytest.mark.parametrize(("last_mm", "is_even"), [(5.85, True), (6.15, True), (5.75, False), (6.25, False)])
def test_a_tenth_of_the_spacing_is_the_tolerance(write_series, hu, last_mm, is_even):
    folder = write_series(hu[..., :4], steps_mm=[0, 2, 4, last_mm])

    if is_even:
        assert check_dicom_series(folder).num_slices == 4
    else:
        with pytest.raises(ValueError, match="uneven"):
            check_dicom_series(folder)


@pytest.mark.parametrize(("step_mm", "decimals"), [(0.625, 1), (0.75, 1), (2.5, 0), (1.5, 0), (3.75, 0)])
@pytest.mark.parametrize("orientation", [AXIAL, (0.8, 0.6, 0, -0.6, 0.8, 0)])
def test_positions_that_the_scanner_rounded_are_read_on_their_even_grid(write_series, step_mm, decimals, orientation):
    count = 60
    series = check_dicom_series(
        write_series(
            np.zeros((5, 6, count)),
            spacing_mm=(0.5, 0.75, step_mm),
            origin_mm=(-10.25, -20.125, 0),
            steps_mm=np.round(-171.3 + step_mm * np.arange(count), decimals),
            orientation=orientation,
        )
    )

    assert series.spacing_mm[2] == pytest.approx(step_mm, rel=2e-3)
    assert "slice positions are rounded" in series.notes[0]


@pytest.mark.parametrize(("step_mm", "decimals"), [(0.625, 1), (2.5, 0), (1.5, 0)])
@pytest.mark.parametrize("missing", [1, 17, 30, 58])
def test_a_slice_that_is_missing_among_rounded_positions_is_refused(write_series, step_mm, decimals, missing):
    steps_mm = np.delete(np.round(-171.3 + step_mm * np.arange(60), decimals), missing)
    with pytest.raises(ValueError, match="slice spacing is uneven"):
        check_dicom_series(write_series(np.zeros((5, 6, 59)), origin_mm=(-10.25, -20.125, 0), steps_mm=steps_mm))


def test_a_sheared_series_is_refused_with_its_angle(write_series, hu):
    with pytest.raises(ValueError, match=r"sheared by 26\.6 degrees"):
        check_dicom_series(write_series(hu, drift_mm=1.0))


def test_half_a_degree_of_shear_is_measuring_error(write_series, hu):
    assert check_dicom_series(write_series(hu, drift_mm=2 * np.tan(np.deg2rad(0.5)))).num_slices == 7


@pytest.mark.parametrize("lost_bytes", [1, 60, 70, 200, 400])
def test_a_truncated_file_is_named(write_series, hu, lost_bytes):
    file = write_series(hu) / "6_slice2.dcm"
    file.write_bytes(file.read_bytes()[:-lost_bytes])

    with pytest.raises(ValueError, match=r"Case P012: 6_slice2.dcm is truncated"):
        check_dicom_series(file.parent)


def test_a_truncated_compressed_file_is_named(write_series, hu):
    folder = write_series(hu)
    for file in folder.iterdir():
        image = dcmread(file)
        image.compress(RLELossless)
        image.save_as(file)
    assert check_dicom_series(folder).num_slices == 7

    file = folder / "6_slice2.dcm"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"6_slice2.dcm is truncated .*no end"):
        check_dicom_series(folder)


def test_no_message_and_no_field_names_the_patient(write_series, hu):
    series = check_dicom_series(write_series(hu))
    folder = write_series(hu, edit={3: {"SeriesInstanceUID": "9.9"}})
    with pytest.raises(ValueError, match="2 series") as caught:
        check_dicom_series(folder)

    assert not re.search("secret", f"{series}{caught.value}", re.IGNORECASE)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "shape"), [("P001", (512, 512, 148)), ("cap001", (512, 512, 168))])
def test_the_public_series_are_whole(real_data, name, shape):
    series = check_dicom_series(real_data / "covid_ct_md" / name)

    assert series.shape == shape
    assert series.spacing_mm[2] == pytest.approx(2.0)
