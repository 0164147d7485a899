import pickle
import re
import shutil
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
from custom_components.images.case_id import case_id
from custom_components.images.ct_reader import CTReader, LabelReader, case_name, image_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.data import DataLoader, Dataset
from monai.transforms import LoadImaged, Orientationd
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless
from scipy.spatial.transform import Rotation

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [5, -8, 12], degrees=True).as_matrix() @ np.diag([-0.5, -0.75, 2])
OBLIQUE[:3, 3] = 7, -9, 30


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
def test_no_grey_is_lost_on_its_way_to_hu_and_back(tmp_path_factory, grey):
    path = tmp_path_factory.getbasetemp() / "grey.png"
    Image.fromarray(grey.T).save(path)
    reader = CTReader()
    image_hu, _ = reader.get_data(reader.read(path))

    np.testing.assert_array_equal(np.rint((image_hu[..., 0] + 1350) / 1500 * 255), grey)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5, 6), (5, 6, 1)), ((5, 6, 1), (5, 6, 1)), ((5, 6, 7), (5, 6, 7)), ((5, 6, 7, 1), (5, 6, 7))],
)  # fmt: skip
def test_a_nifti_slice_or_volume_keeps_its_hu_and_affine(tmp_path, write_nifti, shape, expected):
    stored = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 1000
    image = load(write_nifti(tmp_path / "012.nii.gz", stored, OBLIQUE))

    assert str(image.dtype) == "torch.float32"
    np.testing.assert_array_equal(image[0], stored.reshape(expected))
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
    assert image.meta["spatial_shape"].tolist() == list(expected)


def test_scaled_and_big_endian_nifti_are_read_as_what_they_mean(tmp_path):
    stored = np.arange(30, dtype=">i2").reshape(5, 6, 1)
    header = nibabel.Nifti1Image(stored, np.eye(4), nibabel.Nifti1Header(endianness=">")).header
    header.set_data_dtype(np.int16)
    header["scl_slope"], header["scl_inter"], header["magic"], header["vox_offset"] = 0.5, -20, b"n+1", 352
    (tmp_path / "012.nii").write_bytes(header.binaryblock + bytes(4) + stored.tobytes(order="F"))

    np.testing.assert_array_equal(load(tmp_path / "012.nii")[0], stored * 0.5 - 20)


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


def test_the_same_volume_as_dicom_and_as_nifti_is_the_same(tmp_path, write_series, write_nifti, hu):
    from_dicom = load(write_series(hu))
    from_nifti = load(write_nifti(tmp_path / "n.nii", hu.astype(np.int16), from_dicom.affine.numpy()))

    np.testing.assert_array_equal(from_dicom, from_nifti)
    np.testing.assert_allclose(from_dicom.affine, from_nifti.affine)


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


def test_a_corrupted_dicom_series_is_named(write_series, hu):
    folder = write_series(hu)
    (folder / "3_slice1.dcm").write_bytes((folder / "3_slice1.dcm").read_bytes()[:-30])

    with pytest.raises(ValueError, match=r"Case P012: 3_slice1.dcm is truncated"):
        load(folder)


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


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_counted(tmp_path, write_nifti, value):
    array = np.zeros((5, 6, 7))
    array[1, 2, 3] = array[4, 5, 6] = value

    with pytest.raises(ValueError, match="Case 012: 2 of 210 values are NaN or infinite"):
        load(write_nifti(tmp_path / "012.nii.gz", array))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 6, 7, 2), r"has shape \(5, 6, 7, 2\). Expected one slice"),
        ((5,), "Expected one slice"),
        ((5, 6, 0), "is empty"),
    ],
)
def test_a_nifti_that_is_neither_slice_nor_volume_is_refused(tmp_path, write_nifti, shape, message):
    with pytest.raises(ValueError, match=message):
        load(write_nifti(tmp_path / "012.nii.gz", np.zeros(shape, dtype=np.int16)))


def test_colour_nifti_is_refused(tmp_path, write_nifti):
    colour = np.zeros((5, 6, 7), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])

    with pytest.raises(ValueError, match="Expected one number per voxel"):
        load(write_nifti(tmp_path / "012.nii.gz", colour))


@pytest.mark.parametrize("axes", [np.diag([1.0, 0, 1]), np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])])
def test_a_singular_affine_is_refused(tmp_path, write_nifti, axes):
    path = write_nifti(tmp_path / "012.nii", np.zeros((5, 6, 7), dtype=np.int16), np.eye(4))
    header = nibabel.load(path).header
    header["srow_x"][:3], header["srow_y"][:3], header["srow_z"][:3] = axes
    header["vox_offset"] = 352
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])

    with pytest.raises(ValueError, match=r"Case 012: 012.nii has a singular affine"):
        load(path)


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


def test_the_header_tells_the_shape_that_is_loaded(tmp_path, write_png, write_nifti, write_series, hu):
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


@pytest.mark.parametrize("turned", ["RAS", "LPS", "SPL"])
@pytest.mark.parametrize("surround", [-3024, 62512])
def test_the_surround_of_a_nifti_is_air_however_it_is_stored(tmp_path, write_nifti, turned, surround):
    hu = np.full((40, 36, 9), -900.0, np.float32)
    hu[12:28, 12:24] = 40
    hu[20, 18, 4] = 9000  # metal
    expected = hu.copy()
    hu[:6], expected[:6] = surround, -1024
    affine = np.diag([-1.0, -1, 2, 1])
    image = nibabel.Nifti1Image(hu, affine)
    stored = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(tuple(turned))
    )
    image = image.as_reoriented(stored)
    read = load(write_nifti(tmp_path / "012.nii.gz", np.asarray(image.dataobj), image.affine))
    np.testing.assert_array_equal(np.asarray(read[0]), nibabel.apply_orientation(expected, stored))
    assert "outside the field of view is set to air (-1024) in 9 of 9 slices" in read.meta["reading_notes"]


@pytest.mark.parametrize("dtype", ["u2", "u4"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.5, 10)])
def test_signed_values_of_a_nifti_that_are_declared_unsigned_are_read_as_signed(tmp_path, dtype, slope, intercept):
    signed = np.full((40, 36, 9), -900, np.int64)
    signed[12:28, 12:24] = 40
    signed[20, 18, 4] = 9000  # metal
    content = bytearray(nibabel.Nifti1Image(signed.astype(dtype), np.diag([-1.0, -1, 2, 1])).to_bytes())
    content[112:120] = struct.pack("<ff", slope, intercept)
    (tmp_path / "012.nii").write_bytes(content)
    read = load(tmp_path / "012.nii")
    np.testing.assert_array_equal(np.asarray(read[0]), signed * slope + intercept)
    assert read.meta["reading_notes"] == "its values are declared unsigned but are signed: read as signed"
    label = load(tmp_path / "012.nii", LabelReader())
    np.testing.assert_array_equal(label[0], (signed.astype(dtype) * slope + intercept).astype(np.float32))


def test_high_values_of_an_unsigned_nifti_that_are_no_air_stay(tmp_path):
    stored = np.full((40, 36, 9), 1000, np.uint16)
    stored[12:28, 12:24] = 40000
    nibabel.save(nibabel.Nifti1Image(stored, np.diag([-1.0, -1, 2, 1])), tmp_path / "012.nii")
    np.testing.assert_array_equal(load(tmp_path / "012.nii")[0], stored)


def test_what_is_odd_is_warned_of_once_however_often_a_scan_is_read(write_series, hu, caplog):
    folder = write_series(hu, name="P077", StudyInstanceUID="0b5f3a9e-64c1-4f4e-9d0a-3f8d1f1c2b6e")
    for _ in range(3):
        load(folder)
    warnings = [one.getMessage() for one in caplog.records if "P077 is read with warnings" in one.getMessage()]
    assert len(warnings) == 1
    assert "StudyInstanceUID is not a DICOM UID" in warnings[0]


def gzipped(content, level=6):
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


NOISE = np.random.default_rng(0).integers(-1000, 1000, (20, 16, 12)).astype(np.int16)


@pytest.fixture
def packed(tmp_path, write_nifti):
    """A NIfTI file of noise as gzip, and as the bytes in it."""
    content = write_nifti(tmp_path / "plain.nii", NOISE).read_bytes()
    return gzipped(content), content


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flipped_bit_of_a_gzip_never_gives_other_voxels(tmp_path, packed, data):
    stream = bytearray(gzipped(packed[1], data.draw(st.sampled_from([0, 1, 6]))))
    stream[data.draw(st.integers(10, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "012.nii.gz").write_bytes(stream)
    found = None
    with suppress(ValueError):
        found = load(tmp_path / "012.nii.gz")
    assert found is None or np.array_equal(found[0], NOISE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda stream, content: b"", "it has 0 bytes, fewer than a header"),
        (lambda stream, content: gzipped(b""), "it has 0 bytes, fewer than a header"),
        (lambda stream, content: stream[: len(stream) // 2], "ended before the end-of-stream marker"),
        (lambda stream, content: stream[:-8], "ended before the end-of-stream marker"),
        (lambda stream, content: stream[:-3], "ended before the end-of-stream marker"),
        (lambda stream, content: stream[:-8] + bytes(4) + stream[-4:], "CRC check failed"),
        (lambda stream, content: stream[:-4] + bytes(4), "Incorrect length"),
        (
            lambda stream, content: gzipped(content[:400]) + gzipped(content[400:])[:-8],
            "ended before the end-of-stream",
        ),
        (lambda stream, content: gzipped(content[:-40]), "Expected 7680 bytes, got 7640"),
        (lambda stream, content: gzipped(content[:-40]) + b"something else", "Not a gzipped file"),
        (lambda stream, content: stream + gzipped(bytes(3 * 2**20)), "decompresses to more than the 8,032 bytes"),
        (lambda stream, content: content, "it is not gzip-compressed, although its name ends in .gz"),
    ],
)
@pytest.mark.parametrize("reader", [CTReader(), LabelReader()])
def test_a_gzip_is_read_to_its_end(tmp_path, packed, change, reason, reader):
    (tmp_path / "012.nii.gz").write_bytes(change(*packed))

    with pytest.raises(ValueError, match=f"Case 012: 012.nii.gz is truncated or not a NIfTI file: .*{reason}"):
        load(tmp_path / "012.nii.gz", reader)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda stream, content: b"", "it has 0 bytes, fewer than a header"),
        (lambda stream, content: content[:-1], "its header declares 8,032 bytes, the file has 8,031"),
        (lambda stream, content: stream, "it is gzip-compressed: rename it to .nii.gz"),
    ],
)
@pytest.mark.parametrize("reader", [CTReader(), LabelReader()])
def test_a_file_that_is_not_packed_has_the_length_that_its_header_declares(tmp_path, packed, change, reason, reader):
    (tmp_path / "012.nii").write_bytes(change(*packed))

    with pytest.raises(ValueError, match=f"Case 012: 012.nii is truncated or not a NIfTI file: {reason}"):
        load(tmp_path / "012.nii", reader)


@pytest.mark.parametrize("reader", [CTReader(), LabelReader()])
def test_zeros_behind_a_gzip_and_a_second_member_are_fine(tmp_path, packed, reader):
    stream, content = packed
    for changed in (stream + bytes(512), gzipped(content[:400]) + gzipped(content[400:]), stream + stream):
        (tmp_path / "012.nii.gz").write_bytes(changed)
        image = load(tmp_path / "012.nii.gz", reader)
        np.testing.assert_array_equal(image[0], NOISE)
        assert image.meta["reading_notes"] == ""


@pytest.mark.parametrize("reader", [CTReader(), LabelReader()])
def test_what_follows_a_whole_gzip_is_left_out_with_a_warning(tmp_path, packed, reader):
    (tmp_path / "012.nii.gz").write_bytes(packed[0] + b"<html>")
    image = load(tmp_path / "012.nii.gz", reader)

    np.testing.assert_array_equal(image[0], NOISE)
    assert image.meta["reading_notes"] == "the bytes after the end of its gzip data are ignored"


def test_nifti_2_in_a_gzip_is_read(tmp_path, hu):
    nibabel.save(nibabel.Nifti2Image(hu.astype(np.int16), OBLIQUE), tmp_path / "012.nii.gz")

    np.testing.assert_array_equal(load(tmp_path / "012.nii.gz")[0], hu)


def raw_nifti(path, hu, **fields):
    """A file whose header has these very fields, however wrong."""
    image = nibabel.Nifti1Image(hu.astype(np.int16), OBLIQUE)
    image.set_qform(OBLIQUE, 1)
    for name, value in {"magic": b"n+1", "vox_offset": 352, **fields}.items():
        image.header[name] = value
    path.write_bytes(image.header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F"))
    return path


@pytest.mark.parametrize(("qform_code", "sform_code"), [(1, 0), (0, 1), (0, 4), (2, 1)])
def test_one_form_is_enough_to_know_the_sides(tmp_path, hu, caplog, qform_code, sform_code):
    image = load(raw_nifti(tmp_path / "sides.nii", hu, qform_code=qform_code, sform_code=sform_code))

    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
    assert image.meta["reading_notes"] == ""
    assert "although" not in caplog.text


def test_without_any_form_the_sides_are_a_guess_which_is_warned_of_once(tmp_path, hu, caplog):
    path = raw_nifti(tmp_path / "guess.nii", hu, qform_code=0, sform_code=0)
    images = [load(path) for _ in range(3)]

    assert "left and right, front and back, head and feet are a guess" in images[0].meta["reading_notes"]
    assert caplog.text.count("Case guess is read with warnings: its header does not give the orientation") == 1


def test_two_forms_that_exchange_the_sides_are_warned_of(tmp_path, hu, caplog):
    image = load(raw_nifti(tmp_path / "two.nii", hu, srow_x=-OBLIQUE[0]))

    np.testing.assert_allclose(image.affine, np.diag([-1, 1, 1, 1]) @ OBLIQUE, atol=1e-5)
    assert "its qform and sform differ by up to " in image.meta["reading_notes"]
    assert caplog.text.count("Case two is read with warnings") == 1


@given(st.floats(-60, 60), st.permutations(range(3)))
def test_axes_are_sheared_by_one_degree_at_most_as_of_dicom(tmp_path_factory, degrees, order):
    affine = OBLIQUE.copy()
    first, second, _ = order
    along = affine[:3, first] / np.linalg.norm(affine[:3, first])
    affine[:3, second] += np.tan(np.deg2rad(degrees)) * np.linalg.norm(affine[:3, second]) * along
    path = tmp_path_factory.getbasetemp() / "sheared.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine), path)

    if abs(degrees) < 0.999:
        image_header(path)
    elif abs(degrees) > 1.001:
        with pytest.raises(ValueError, match=r"at most 1 is allowed. Resample it") as raised:
            image_header(path)
        found = float(re.search(r"sheared by ([\d.]+) degrees", str(raised.value))[1])
        assert abs(found - abs(degrees)) < 0.06


NOTHING, OF_0_MM = [0.0] * 4, [1, 0.5, 0, 2, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sform_code": 0, "pixdim": OF_0_MM}, "has voxels of 0.5 x 0 x 2 mm and no sform, so its voxel size is"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": OF_0_MM}, "has voxels of 0.5 x 0 x 2 mm and no sform, so its"),
        ({"sform_code": 0, "quatern_b": 3}, "has a qform that is not a rotation and no sform, so its orientation"),
        ({"sform_code": 0, "quatern_b": np.nan}, "has a qform that is not a rotation and no sform, so its orientation"),
        ({"srow_y": NOTHING}, "has a singular affine, so its voxel size or orientation is unknown"),
        ({"srow_x": [np.nan] * 4}, "has a singular affine, so its voxel size or orientation is unknown"),
        ({"vox_offset": 0}, "its voxel data would start at byte 0, inside its header"),
        ({"dim": [3, 3, -4, 5, 1, 1, 1, 1]}, r"is empty, its shape is \(3, -4, 5\)"),
        ({"scl_slope": 1, "scl_inter": np.nan}, "Valid slope but invalid intercept nan"),
        ({"scl_slope": 3e38, "scl_inter": 0}, "values are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("reader", [CTReader(), LabelReader()])
def test_a_header_that_leaves_place_or_values_unknown_is_refused_by_name(tmp_path, hu, fields, message, reader):
    with pytest.raises(ValueError, match=f"^Case bad: .*{message}"):
        load(raw_nifti(tmp_path / "bad.nii", np.full_like(hu, 900), **fields), reader)


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"sform_code": 0, "srow_x": [np.nan] * 4}, ""),
        ({"qform_code": 0, "pixdim": OF_0_MM}, ""),
        ({"quatern_b": 3}, "its qform is not a rotation; the sform is used"),
        ({"qoffset_x": np.inf}, "its qform is not a rotation; the sform is used"),
        ({"scl_slope": 0, "scl_inter": -1024}, ""),
        ({"scl_slope": np.nan, "scl_inter": np.nan}, ""),
    ],
)
@pytest.mark.parametrize("reader", [CTReader(), LabelReader()])
def test_a_form_that_is_not_used_and_a_slope_of_nothing_change_nothing(tmp_path, hu, fields, note, reader):
    image = load(raw_nifti(tmp_path / "good.nii", hu, **fields), reader)

    np.testing.assert_array_equal(image[0], hu)
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
    assert image.meta["reading_notes"].startswith(note)
    assert bool(image.meta["reading_notes"]) == bool(note)


def test_a_scan_with_one_time_point_is_a_volume(tmp_path, hu, write_nifti):
    np.testing.assert_array_equal(load(write_nifti(tmp_path / "one.nii", hu[..., None].astype(np.int16)))[0], hu)
