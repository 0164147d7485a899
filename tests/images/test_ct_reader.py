import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from custom_components.images.case_id import case_id
from custom_components.images.ct_reader import CTReader, LabelReader, case_name, image_header
from hypothesis import given
from hypothesis.extra import numpy as arrays
from monai.data import DataLoader, Dataset
from monai.transforms import LoadImaged, Orientationd
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless


def load(path, reader=None):
    loader = LoadImaged(keys="image", reader=reader or CTReader(), ensure_channel_first=True)
    return loader({"image": str(path)})["image"]


def test_a_png_is_indexed_x_y_and_mapped_to_the_window_by_hand(tmp_path, write_png):
    image = load(write_png(tmp_path / "012.png", np.array([[0, 51, 255], [102, 153, 204]])), CTReader((-1000, 20)))

    assert image.shape == (1, 2, 3, 1)
    np.testing.assert_allclose(image[0, :, :, 0], [[-1000, -796, 20], [-592, -388, -184]], atol=1e-3)
    np.testing.assert_array_equal(image.affine, np.diag([-1, -1, 1, 1]))


def test_a_png_lies_in_the_orientation_of_the_array_convention(tmp_path, write_png):
    image = load(write_png(tmp_path / "012.png", np.arange(42).reshape(6, 7)))
    turned = Orientationd(keys="image", axcodes="LPS", labels=None)({"image": image})["image"]

    np.testing.assert_array_equal(turned, image)


@given(arrays.arrays(np.uint8, (3, 4)))
def test_no_intensity_is_lost_on_its_way_to_hu_and_back(tmp_path_factory, grey):
    path = tmp_path_factory.getbasetemp() / "grey.png"
    Image.fromarray(grey.T).save(path)
    reader = CTReader()
    image_hu, _ = reader.get_data(reader.read(path))

    np.testing.assert_array_equal(np.rint((image_hu[..., 0] + 1350) / 1500 * 255), grey)


def test_a_dicom_series_is_read_in_slice_order_with_its_affine(write_series, hu):
    image = load(write_series(hu, spacing_mm=(0.5, 0.75, 2.0), origin_mm=(-10, -20, -300)))

    np.testing.assert_array_equal(image[0], hu)
    np.testing.assert_allclose(image.affine, [[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2, -300], [0, 0, 0, 1]])


def test_each_dicom_slice_is_rescaled_by_its_own_header(write_series, hu):
    folder = write_series(hu, edit={2: {"RescaleSlope": 0.5, "RescaleIntercept": -1000}})
    image = load(folder)

    np.testing.assert_array_equal(image[0, :, :, 2], (hu[..., 2] + 1024) * 0.5 - 1000)
    np.testing.assert_array_equal(image[0, :, :, 3], hu[..., 3])


def test_one_dicom_slice_is_a_volume_of_its_slice_thickness(write_series, hu):
    image = load(write_series(hu[..., :1], spacing_mm=(0.5, 0.75, 3.5)))

    np.testing.assert_array_equal(image[0], hu[..., :1])
    np.testing.assert_allclose(np.abs(np.diag(image.affine)), [0.5, 0.75, 3.5, 1])


def test_dicom_metadata_hold_geometry_and_no_patient(write_series, hu):
    image = load(write_series(hu[..., :1]))

    assert {str(key) for key in image.meta} == {
        "affine", "original_affine", "spatial_shape", "space", "original_channel_dim", "filename_or_obj",
        "reading_notes",
    }  # fmt: skip
    assert "secret" not in str(image.meta).lower()


def test_labels_keep_their_values(tmp_path, write_png, write_nifti):
    values = np.array([[0, 1, 2], [3, 255, 0]])
    for path in (write_png(tmp_path / "a.png", values), write_nifti(tmp_path / "b.nii.gz", values.astype(np.uint8))):
        np.testing.assert_array_equal(load(path, LabelReader())[0, ..., 0], values)


def test_a_label_in_a_folder_is_refused(write_series, hu):
    with pytest.raises(ValueError, match="the label is a folder"):
        load(write_series(hu), LabelReader())


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        ("RGB", "colour"),
        ("RGBA", "colour"),
        ("P", "palette"),
        ("1", "1-bit"),
        ("LA", "transparency"),
        ("I;16", "16 or 32"),
    ],
)
@pytest.mark.parametrize("reader", [CTReader(), LabelReader()])
def test_a_png_that_is_not_8_bit_grey_is_refused(tmp_path, write_png, mode, found, reader):
    path = write_png(tmp_path / "012.png", np.full((5, 6), 9), mode)

    with pytest.raises(ValueError, match=rf"Case 012: 012.png is .*{found}.*Expected 8-bit greyscale. Save it as"):
        load(path, reader)


def test_a_jpeg_is_refused_with_a_pointer_to_the_converter(tmp_path):
    Image.fromarray(np.zeros((5, 6), dtype=np.uint8)).save(tmp_path / "012.jpg")

    with pytest.raises(ValueError, match=r"JPEG.*convert_jpg"):
        load(tmp_path / "012.jpg")


def test_one_dicom_file_is_refused_with_a_pointer_to_its_folder(write_series, hu, tmp_path):
    file = write_series(hu) / "3_slice1.dcm"
    shutil.copy(file, tmp_path / "IM0001")

    for path in (file, tmp_path / "IM0001"):
        with pytest.raises(ValueError, match=rf"{path.name} is one DICOM file. Give the folder"):
            load(path)


@pytest.mark.parametrize("name", ["012.png", "012.nii", "012.nii.gz"])
def test_a_truncated_or_foreign_file_is_named(tmp_path, write_png, write_nifti, name):
    path, noise = tmp_path / name, np.random.default_rng(0).integers(0, 255, (50, 60, 7))
    whole = (
        write_png(path, noise[..., 0]) if name == "012.png" else write_nifti(path, noise.astype(np.int16))
    ).read_bytes()

    for content in (whole[: len(whole) // 2], whole[:100], b"", b"hello world, this is text" * 40):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=f"Case 012: {name} is truncated or not a (PNG|NIfTI) file: .+ Copy or export"
        ):
            load(path)


def test_a_slice_whose_compressed_pixels_do_not_decode_is_named(write_series):
    hu = np.arange(16 * 18 * 7).reshape(16, 18, 7) - 1000
    folder = write_series(hu)
    for file in folder.iterdir():
        image = dcmread(file)
        image.compress(RLELossless)
        image.save_as(file)
    np.testing.assert_array_equal(load(folder)[0], hu)

    image = dcmread(folder / "3_slice1.dcm")
    image.PixelData = encapsulate([b"\x07" * 70])
    image.save_as(folder / "3_slice1.dcm")
    with pytest.raises(ValueError, match=r"Case P012: 3_slice1.dcm is truncated or not a DICOM file: "):
        load(folder)


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path):
    (tmp_path / "012.mha").write_text("x")

    with pytest.raises(ValueError, match=r"Case 013: .* does not exist"):
        load(tmp_path / "013.png")
    with pytest.raises(ValueError, match=r"012.mha has an unsupported format"):
        load(tmp_path / "012.mha")


def test_a_name_and_the_files_of_a_series_are_read_as_its_folder(tmp_path, hu, write_series):
    folder = write_series(hu)
    expected = load(folder)
    scattered = []
    for number, path in enumerate(sorted(folder.iterdir())):
        (tmp_path / str(number)).mkdir()
        scattered.append(str(path.rename(tmp_path / str(number) / "Doe_Jane.dcm")))
    found = LoadImaged(keys="image", reader=CTReader(), ensure_channel_first=True)({"image": ["1.2.3", *scattered]})

    np.testing.assert_array_equal(found["image"], expected)
    assert case_id(found) == "1.2.3"


def test_files_that_are_no_series_are_refused_without_their_names(tmp_path, hu, write_series):
    files = sorted(write_series(hu).iterdir())
    with pytest.raises(ValueError, match=r"Case 1\.2: slice spacing is uneven at 1 places, first between [\d.]+ \("):
        CTReader().get_data((Path("1.2"), *files[:2], *files[3:]))
    (tmp_path / "Doe.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"Case 1\.2: 1 of 2 files are truncated or not DICOM files"):
        CTReader().get_data((Path("1.2"), files[0], tmp_path / "Doe.png"))
    with pytest.raises(ValueError, match=r"Case a: the label has 2 files"):
        LabelReader().get_data((tmp_path / "a.png", tmp_path / "b.png"))


@pytest.mark.parametrize("window_hu", [(150, -1350), (0, 0), (float("nan"), 0)])
def test_an_empty_window_is_refused(window_hu):
    with pytest.raises(ValueError, match=r"Expected .lower, upper. in HU"):
        CTReader(window_hu)


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/012.png", "012"), ("p.1.NII.GZ", "p.1"), ("012.nii", "012"), ("x.dcm", "x"), ("a/1.2.8/", "1.2.8")],
)  # fmt: skip
def test_only_image_suffixes_are_cut_from_a_case_name(path, name):
    assert case_name(path) == name


def test_the_header_has_the_shape_that_is_loaded(tmp_path, write_png, write_nifti, write_series, hu):
    for path in (
        write_png(tmp_path / "a.png", np.zeros((6, 7))),
        write_nifti(tmp_path / "b.nii", np.zeros((5, 6, 1, 1))),
        write_series(hu),
    ):
        image, header = load(path), image_header(path)
        assert tuple(image.shape[1:]) == header.shape
        np.testing.assert_allclose(image.affine, header.affine)


def test_the_kinds_it_reads_are_verified(tmp_path):
    reader = CTReader()

    assert reader.verify_suffix([tmp_path / "a.PNG", "b.nii", "c.nii.gz", tmp_path])
    assert not reader.verify_suffix("a.jpg")
    assert not reader.verify_suffix(["a.png", "slice.dcm"])


def test_readers_pickle_with_their_window():
    assert pickle.loads(pickle.dumps(CTReader((-1000, 0)))).window_hu == (-1000, 0)
    assert isinstance(pickle.loads(pickle.dumps(LabelReader())), LabelReader)


def test_slices_of_different_kinds_make_one_batch(tmp_path, write_png, write_nifti, write_ct_image, hu):
    paths = [write_png(tmp_path / "a.png", np.zeros((5, 6))), write_nifti(tmp_path / "b.nii", np.ones((5, 6)))]
    write_ct_image(tmp_path / "c" / "1.dcm", hu[..., 0])
    cases = [{"image": str(path), "group": ""} for path in [*paths, tmp_path / "c"]]
    loader = DataLoader(Dataset(cases, LoadImaged("image", reader=CTReader(), ensure_channel_first=True)), batch_size=3)

    assert next(iter(loader))["image"].shape == (3, 1, 5, 6, 1)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "range_hu"), [("P001", (-1024, 1563)), ("cap001", (-1024, 2019))])
def test_a_public_series_has_the_hu_that_pydicom_decodes(real_data, name, range_hu):
    folder = real_data / "covid_ct_md" / name
    image = load(folder)

    assert (image.min(), image.max()) == range_hu
    headers = [(dcmread(file, stop_before_pixels=True), file) for file in folder.iterdir()]
    headers.sort(key=lambda pair: pair[0].ImagePositionPatient[2])
    for k in (0, len(headers) // 2, len(headers) - 1):
        header, file = headers[k]
        slice_hu = dcmread(file).pixel_array * header.RescaleSlope + header.RescaleIntercept
        np.testing.assert_array_equal(image[0, :, :, k], slice_hu.T)
        place_ras_mm = image.affine.numpy() @ [0, 0, k, 1]
        np.testing.assert_allclose(place_ras_mm[:3] * [-1, -1, 1], header.ImagePositionPatient, atol=1e-4)


@pytest.mark.real_data
def test_the_air_of_a_public_png_is_near_minus_1000_hu(real_data):
    image = load(real_data / "medseg100" / "images" / "006.png")

    assert image.shape == (1, 512, 512, 1)
    values_hu, counts = np.unique(np.asarray(image), return_counts=True)
    assert -1020 < values_hu[np.argmax(counts)] < -980


def test_a_warning_is_logged_once_however_often_a_scan_is_read(write_series, hu, caplog):
    folder = write_series(hu, name="P077", StudyInstanceUID="0b5f3a9e-64c1-4f4e-9d0a-3f8d1f1c2b6e")
    for _ in range(3):
        load(folder)
    warnings = [one.getMessage() for one in caplog.records if "P077 is read with warnings" in one.getMessage()]
    assert len(warnings) == 1
    assert "StudyInstanceUID is not a DICOM UID" in warnings[0]
