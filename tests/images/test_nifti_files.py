import re
import struct
import zlib
from contextlib import suppress

import nibabel
import numpy as np
import pytest
from custom_components.images.ct_reader import CTReader, LabelReader, image_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.images.test_ct_reader import load

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [5, -8, 12], degrees=True).as_matrix() @ np.diag([-0.5, -0.75, 2])
OBLIQUE[:3, 3] = 7, -9, 30


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
