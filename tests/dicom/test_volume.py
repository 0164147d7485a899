import itk
import numpy as np
import pytest
from custom_components.dicom import volume as dicom_volume
from custom_components.dicom.series import check_dicom_series
from custom_components.dicom.volume import series_volume
from custom_components.phantom import make_volume, write_dicom
from custom_components.phantom.nifti import phantom_hu
from pydicom import dcmread


@pytest.fixture(scope="module")
def phantom():
    return make_volume(2, (40, 36, 5), (9.0, 10.0, 40.0))


@pytest.fixture
def itk_reads(monkeypatch):
    """Cases that were left to ITK."""
    cases, read = [], dicom_volume._read_any

    def recorded(series, case):
        cases.append(case)
        return read(series, case)

    monkeypatch.setattr(dicom_volume, "_read_any", recorded)
    return cases


def as_read_by_itk(folder) -> np.ndarray:
    files = check_dicom_series(folder).files
    return itk.array_from_image(itk.imread([str(file) for file in files], pixel_type=itk.F)).transpose(2, 1, 0)


def volume_of(folder) -> np.ndarray:
    return series_volume(check_dicom_series(folder), "1.2")[0]


def change(folder, edit) -> None:
    for path in folder.iterdir():
        image = dcmread(path)
        edit(image)
        image.save_as(path)


def test_a_plain_series_is_read_as_itk_reads_it(phantom, tmp_path, itk_reads):
    folder = write_dicom(phantom, tmp_path / "ct")
    volume = volume_of(folder)
    assert np.array_equal(volume, phantom_hu(phantom))
    assert np.array_equal(volume, as_read_by_itk(folder))
    assert (volume.dtype, volume.shape) == (np.float32, (40, 36, 5))
    assert itk_reads == []


def test_slopes_that_are_no_whole_numbers_are_applied_slice_by_slice(phantom, tmp_path, itk_reads):
    folder = write_dicom(phantom, tmp_path / "ct", shuffle=False)

    def edit(image):
        image.RescaleSlope, image.RescaleIntercept = f"{1 + image.InstanceNumber / 8 + 0.0123:.4f}", "-1000.5"

    change(folder, edit)
    volume = volume_of(folder)
    assert itk_reads == []
    stored = phantom_hu(phantom).astype(float) + 1024
    slopes = np.round(1 + np.arange(1, 6) / 8 + 0.0123, 4)
    assert np.allclose(volume, stored * slopes - 1000.5, rtol=0, atol=1e-3)


def test_signed_values_are_read_as_itk_reads_them(phantom, tmp_path, itk_reads):
    folder = write_dicom(phantom, tmp_path / "ct")

    def edit(image):
        signed = image.pixel_array.astype(np.int16) - 1024
        image.PixelRepresentation, image.BitsStored, image.HighBit = 1, 16, 15
        image.RescaleIntercept, image.PixelData = 0, signed.tobytes()

    change(folder, edit)
    assert np.array_equal(volume_of(folder), phantom_hu(phantom))
    assert itk_reads == []


def overlay_in_the_upper_bits(image) -> None:
    image.PixelData = (image.pixel_array | 0x4000).astype("<u2").tobytes()


def eight_bits(image) -> None:
    small = (image.pixel_array // 16).astype(np.uint8)
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.RescaleSlope, image.PixelData = 7, 16, small.tobytes()


@pytest.mark.parametrize("edit", [overlay_in_the_upper_bits, eight_bits])
def test_what_does_not_lie_plainly_in_the_file_is_left_to_itk(phantom, tmp_path, itk_reads, edit):
    folder = write_dicom(phantom, tmp_path / "ct")
    change(folder, edit)
    volume = volume_of(folder)
    assert itk_reads == ["1.2"]
    step = 1 if edit is overlay_in_the_upper_bits else 16
    assert np.array_equal(volume, (phantom_hu(phantom) + 1024) // step * step - 1024)


def test_a_compressed_series_is_left_to_itk(phantom, tmp_path, itk_reads):
    folder = write_dicom(phantom, tmp_path / "ct", compressed=True)
    assert np.array_equal(volume_of(folder), phantom_hu(phantom))
    assert itk_reads == ["1.2"]


CIRCLE = np.hypot(*np.meshgrid(np.linspace(-1, 1, 36), np.linspace(-1, 1, 40))) > 1


def with_surround(folder, stored, signed=False, **tags):
    """Put stored values outside the circle of view; ``stored`` and ``tags`` may depend on the slice."""

    def edit(image):
        k = int(image.InstanceNumber)
        values = image.pixel_array.astype(np.int32)
        values[CIRCLE.T] = stored(k) if callable(stored) else stored
        image.PixelRepresentation, image.BitsStored, image.HighBit = int(signed), 16, 15
        image.PixelData = values.astype("<i2" if signed else "<u2").tobytes()
        for name in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
            if name in image:
                delattr(image, name)
        for name, value in tags.items():
            number = value(k) if callable(value) else value
            if number is not None:
                image.add_new(name, "SS" if signed else "US", number)

    change(folder, edit)


SURROUNDS = {
    "unsigned, tagged": {"stored": 63536, "PixelPaddingValue": 63536},
    "unsigned, without tag": {"stored": 63536},
    "signed, without tag": {"stored": -2000, "signed": True},
    "tag in some slices": {"stored": 63536, "PixelPaddingValue": lambda k: 63536 if k > 2 else None},
    "another value in some slices": {
        "stored": lambda k: 63536 if k > 2 else 62512,
        "PixelPaddingValue": lambda k: 63536 if k > 2 else 62512,
    },
    "range": {
        "stored": lambda k: np.resize([63536, 63000], np.count_nonzero(CIRCLE)),
        "PixelPaddingValue": 63536,
        "PixelPaddingRangeLimit": 63000,
    },
    "0 HU, tagged": {"stored": 1024, "PixelPaddingValue": 1024},
}


@pytest.mark.parametrize("name", SURROUNDS)
def test_the_surround_of_the_circle_of_view_is_air_however_it_is_stored(phantom, tmp_path, name):
    folder = write_dicom(phantom, tmp_path / "ct")
    expected = phantom_hu(phantom).astype(float)
    expected[CIRCLE] = -1024
    with_surround(folder, **SURROUNDS[name])
    volume, notes = series_volume(check_dicom_series(folder), "1.2")
    assert np.array_equal(volume, expected)
    assert len(notes) == 1
    assert notes[0].endswith("outside the field of view is set to air (-1024) in 5 of 5 slices")


def test_metal_and_dark_streaks_inside_the_body_stay(phantom, tmp_path):
    folder = write_dicom(phantom, tmp_path / "ct")

    def edit(image):
        values = image.pixel_array.astype(np.int32)
        values[10:14, 20:24], values[20, 8:30] = 30000, -500
        image.PixelRepresentation, image.BitsStored, image.HighBit = 1, 16, 15
        image.PixelData = values.astype("<i2").tobytes()

    change(folder, edit)
    volume, notes = series_volume(check_dicom_series(folder), "1.2")
    assert (volume[20:24, 10:14] == 30000 - 1024).all()
    assert (volume[8:30, 20] == -1524).all()
    assert notes == ()


def test_signed_values_that_are_declared_unsigned_are_read_as_signed(phantom, tmp_path):
    folder = write_dicom(phantom, tmp_path / "ct")

    def edit(image):
        signed = image.pixel_array.astype(np.int16) - 1024
        image.PixelRepresentation, image.BitsStored, image.HighBit = 0, 16, 15
        image.RescaleIntercept, image.PixelData = 0, signed.tobytes()

    change(folder, edit)
    volume, notes = series_volume(check_dicom_series(folder), "1.2")
    assert np.array_equal(volume, phantom_hu(phantom))
    assert notes == (dicom_volume.READ_AS_SIGNED,)
