import numpy as np
import pytest
from custom_components.data.ct_reader import CTReader
from custom_components.data.dicom_series import check_dicom_series
from custom_components.diagnosis.series_volume import series_volume
from custom_components.phantom import make_volume, write_dicom
from custom_components.phantom.nifti import phantom_hu
from pydicom import dcmread


@pytest.fixture(scope="module")
def phantom():
    return make_volume(2, (40, 36, 5), (9.0, 10.0, 40.0))


@pytest.fixture
def itk_reads(monkeypatch):
    """Folders that were left to CTReader."""
    folders = []

    def read(self, folder):
        folders.append(folder.name)
        return (folder,)

    monkeypatch.setattr(CTReader, "read", read)
    return folders


def as_read_by_itk(folder) -> np.ndarray:
    return CTReader().get_data((folder,))[0]


def change(folder, edit) -> None:
    for path in folder.iterdir():
        image = dcmread(path)
        edit(image)
        image.save_as(path)


def test_a_plain_series_is_read_as_itk_reads_it(phantom, tmp_path, itk_reads):
    folder = write_dicom(phantom, tmp_path / "ct")
    volume = series_volume(check_dicom_series(folder), "1.2")
    assert np.array_equal(volume, phantom_hu(phantom))
    assert np.array_equal(volume, as_read_by_itk(folder))
    assert (volume.dtype, volume.shape) == (np.float32, (40, 36, 5))
    assert itk_reads == []


def test_slopes_that_are_no_whole_numbers_are_applied_slice_by_slice(phantom, tmp_path, itk_reads):
    folder = write_dicom(phantom, tmp_path / "ct", shuffle=False)

    def edit(image):
        image.RescaleSlope, image.RescaleIntercept = f"{1 + image.InstanceNumber / 8 + 0.0123:.4f}", "-1000.5"

    change(folder, edit)
    volume = series_volume(check_dicom_series(folder), "1.2")
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
    assert np.array_equal(series_volume(check_dicom_series(folder), "1.2"), phantom_hu(phantom))
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
    volume = series_volume(check_dicom_series(folder), "1.2")
    assert itk_reads == ["1.2"]
    step = 1 if edit is overlay_in_the_upper_bits else 16
    assert np.array_equal(volume, (phantom_hu(phantom) + 1024) // step * step - 1024)


def test_a_compressed_series_is_left_to_itk(phantom, tmp_path, itk_reads):
    folder = write_dicom(phantom, tmp_path / "ct", compressed=True)
    assert np.array_equal(series_volume(check_dicom_series(folder), "1.2"), phantom_hu(phantom))
    assert itk_reads == ["1.2"]
