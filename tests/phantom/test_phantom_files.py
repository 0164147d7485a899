import nibabel as nib
import numpy as np
import pydicom
import pytest
from custom_components.phantom import make_slice, make_volume, write_dicom, write_localizer, write_nifti
from monai.data import ITKReader

PHANTOM = make_volume(2, (40, 36, 9), (8.7, 8.9, 27.3))
WHOLE_HU = np.rint(PHANTOM.image_hu)


def test_nifti_files_keep_values_types_and_affine(tmp_path):
    paths = write_nifti(PHANTOM, tmp_path / "new", "case")
    assert [path.name for path in paths.values()] == [f"case_{kind}.nii.gz" for kind in ("image", "label", "lung")]
    for kind, array, dtype in (("image", WHOLE_HU, "int16"), ("label", PHANTOM.label, "uint8")):
        image = nib.load(paths[kind])
        assert image.get_data_dtype() == dtype
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), array)
        np.testing.assert_allclose(image.affine, PHANTOM.affine, atol=1e-4)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(nib.load(paths["lung"]).get_fdata(), PHANTOM.lung)


@pytest.mark.parametrize("compressed", [False, True])
def test_dicom_files_keep_values_and_affine(tmp_path, compressed):
    folder = write_dicom(PHANTOM, tmp_path / "series", compressed=compressed)
    reader = ITKReader()
    array, meta = reader.get_data(reader.read(str(folder)))
    np.testing.assert_array_equal(array, WHOLE_HU)
    np.testing.assert_allclose(meta["affine"], PHANTOM.affine, atol=1e-6)


def test_compressed_files_are_compressed_and_keep_their_uids(tmp_path):
    plain = write_dicom(PHANTOM, tmp_path / "plain")
    compressed = write_dicom(PHANTOM, tmp_path / "compressed", compressed=True)
    for path in sorted(plain.iterdir()):
        first, second = pydicom.dcmread(path), pydicom.dcmread(compressed / path.name)
        assert second.file_meta.TransferSyntaxUID.is_compressed
        assert second.file_meta.MediaStorageSOPInstanceUID == second.SOPInstanceUID == first.SOPInstanceUID


def test_file_names_are_not_in_slice_order_by_default(tmp_path):
    def heights(folder):
        return [float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in sorted(folder.iterdir())]

    shuffled = heights(write_dicom(PHANTOM, tmp_path / "shuffled"))
    ordered = heights(write_dicom(PHANTOM, tmp_path / "ordered", shuffle=False))
    assert ordered == sorted(ordered)
    assert len(set(shuffled)) == 9
    assert shuffled != ordered
    assert sorted(shuffled) == ordered


def test_the_same_phantom_has_the_same_uids_and_another_phantom_others(tmp_path):
    def uids(phantom, name):
        header = pydicom.dcmread(write_dicom(phantom, tmp_path / name) / "IM0000.dcm")
        return header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID

    first, again = uids(PHANTOM, "first"), uids(PHANTOM, "again")
    other = uids(make_slice(5, (40, 36)), "other")
    assert first == again
    assert uids(make_slice(np.int64(5), (40, 36), level_mm=np.float64(9)), "a") == uids(
        make_slice(5, (40, 36), level_mm=9), "b"
    )
    assert not set(first) & set(other)
    assert len(set(first)) == 3


def test_a_slice_can_be_one_dicom_file(tmp_path):
    phantom = make_slice(1, (40, 36), lesions_ml={})
    folder = write_dicom(phantom, tmp_path)
    header = pydicom.dcmread(folder / "IM0000.dcm")
    assert (header.Columns, header.Rows) == (40, 36)
    np.testing.assert_array_equal(header.pixel_array.T - 1024.0, np.rint(phantom.image_hu[..., 0]))


def test_window_and_patient_id_are_as_requested(tmp_path):
    header = pydicom.dcmread(write_dicom(PHANTOM, tmp_path, window=(-160.0, 240.0), patient_id="X-1") / "IM0003.dcm")
    assert (header.WindowCenter, header.WindowWidth, header.PatientID) == (40, 400, "X-1")


def test_the_localizer_is_a_separate_coronal_series_in_the_same_study(tmp_path):
    axial = pydicom.dcmread(write_dicom(PHANTOM, tmp_path) / "IM0000.dcm")
    localizer = pydicom.dcmread(write_localizer(PHANTOM, tmp_path))
    assert list(localizer.ImageType) == ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    assert localizer.StudyInstanceUID == axial.StudyInstanceUID
    assert localizer.SeriesInstanceUID != axial.SeriesInstanceUID
    assert (localizer.Columns, localizer.Rows) == (40, 9)
    assert list(localizer.ImageOrientationPatient) == [1, 0, 0, 0, 0, -1]
    top = pydicom.dcmread(sorted(tmp_path.glob("IM*"))[0]).ImagePositionPatient[2]
    assert localizer.ImagePositionPatient[2] >= top
    expected = np.rint(WHOLE_HU[7, :, 8].mean())
    assert abs(float(localizer.pixel_array[0, 7]) - 1024 - expected) <= 1
