"""Folders of hostile or broken DICOM files, by the names of the rows of docs/bad_input_dicom.md."""

import io
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.written_images import ct_image

SIZE, SPACING_MM, ORIGIN_MM = (64, 60, 8), (5.5, 6.0, 20.0), (-170.0, -180.0, -70.0)
# From air to metal, every value of 12 bits somewhere, no two slices alike.
HU = (np.arange(np.prod(SIZE)) * 7 % 4000 - 1024).reshape(SIZE)
TILTED = (1, 0, 0, 0, np.cos(0.3), np.sin(0.3))
CODED = {"SEG": "1.2.840.10008.5.1.4.1.1.66.4", "SR": "1.2.840.10008.5.1.4.1.1.88.33"}
PDF, ENHANCED_CT, DICOMDIR = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.1.3.10"


def slices(size=SIZE, spacing_mm=SPACING_MM, hu=HU, **tags: Any) -> list[Dataset]:
    """A good axial series; its tags changed in every slice, None removes one."""
    x, y, z = ORIGIN_MM
    with config.disable_value_validation():
        return [
            ct_image(hu[:, :, k], (x, y, z + k * spacing_mm[2]), spacing_mm, series_uid="1.2.3", number=k + 1, **tags)
            for k in range(size[2])
        ]


def save(images: list[Dataset], folder: Path, **more: Any) -> None:
    """One file an image, whose names are not in slice order."""
    folder.mkdir(parents=True, exist_ok=True)
    with config.disable_value_validation():
        for number, image in enumerate(images):
            dcmwrite(folder / f"IM{number * 3 % len(images)}.dcm", image, **{"enforce_file_format": True, **more})


def tagged(folder: Path, **tags: Any) -> None:
    save(slices(**tags), folder)


def one_slice(folder: Path, number: int = 3, **tags: Any) -> None:
    """A good series but for one slice."""
    images = slices()
    with config.disable_value_validation():
        for name, value in tags.items():
            setattr(images[number], name, value)
    save(images, folder)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def mixed_series(folder: Path) -> None:
    save(slices(), folder)
    save(slices(SeriesInstanceUID="1.2.4", SeriesNumber=9, SeriesDescription="Chest of Secret"), folder / "more")
    for path in files(folder / "more"):
        path.rename(folder / f"b{path.name}")
    (folder / "more").rmdir()


def same_place(folder: Path) -> None:
    one_slice(folder, ImagePositionPatient=slices()[4].ImagePositionPatient)


def copied_files(folder: Path) -> None:
    save(slices(), folder)
    for path in files(folder)[:3]:
        shutil.copyfile(path, folder / f"copy_of_{path.name}")


def one_uid_for_all(folder: Path) -> None:
    tagged(folder, SOPInstanceUID="1.2.9")


def series_number_of_letters(folder: Path) -> None:
    tagged(folder, SeriesNumber="4711")
    for path in files(folder):
        path.write_bytes(path.read_bytes().replace(b"4711", b"N/A "))


def series_uid_for_each(folder: Path) -> None:
    """A de-identification that draws a new SeriesInstanceUID for every file."""
    images = slices()
    for number, image in enumerate(images):
        image.SeriesInstanceUID = f"1.2.77.{number}"
    save(images, folder)


def without_a_slice(folder: Path) -> None:
    images = slices()
    save([*images[:3], *images[4:]], folder)


def uneven(folder: Path) -> None:
    x, y, z = ORIGIN_MM
    one_slice(folder, ImagePositionPatient=[x, y, z + 3 * SPACING_MM[2] + 4.0])


def tilted_gantry(folder: Path) -> None:
    images = slices()
    for k, image in enumerate(images):
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x, y + 5.0 * k, z]
    save(images, folder)


def smaller_slice(folder: Path) -> None:
    images = slices()
    images[3].Rows -= 4
    images[3].PixelData = images[3].PixelData[: -2 * 4 * SIZE[0]]
    save(images, folder)


def encapsulated(folder: Path, syntax: str, encode: Callable[[np.ndarray], bytes]) -> None:
    images = slices()
    for image in images:
        image.PixelData = encapsulate([encode(image.pixel_array)])
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = syntax
    save(images, folder)


def jpeg_2000(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG2000", irreversible=False, no_jp2=True)
    return written.getvalue()


def compressed(folder: Path, syntax: str) -> None:
    images = slices()
    for image in images:
        image.compress(syntax)
    save(images, folder)


def jpeg_lossless(folder: Path) -> None:
    """As GDCM writes it, which is in ITK."""
    import itk

    save(slices(), folder)
    for path in files(folder):
        writer = itk.GDCMImageIO.New()
        writer.SetCompressor("JPEG")
        coded = folder / "coded.dcm"
        itk.imwrite(itk.imread(str(path), itk.US), str(coded), imageio=writer, compression=True)
        found, image = dcmread(coded), dcmread(path)
        assert found.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        image.PixelData, image.file_meta.TransferSyntaxUID = found.PixelData, JPEGLosslessSV1
        image["PixelData"].is_undefined_length = True
        image.RescaleSlope, image.RescaleIntercept = found.RescaleSlope, found.RescaleIntercept
        coded.unlink()
        save([image], folder / "one")
        (folder / "one" / "IM0.dcm").replace(path)
    (folder / "one").rmdir()


def with_syntax(folder: Path, syntax: str, order: str = "<u2") -> None:
    """Uncompressed pixels in another transfer syntax."""
    images = slices()
    for image in images:
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(order).tobytes()
    save(images, folder)


def without_meta(folder: Path) -> None:
    folder.mkdir()
    for number, image in enumerate(slices()):
        del image.file_meta
        dcmwrite(folder / f"IM{number}.dcm", image, implicit_vr=True, little_endian=True, enforce_file_format=False)


def without_preamble(folder: Path) -> None:
    save(slices(), folder)
    for path in files(folder):
        path.write_bytes(path.read_bytes()[132:])
        path.rename(path.with_suffix(""))


def without_syntax(folder: Path) -> None:
    save(slices(), folder)
    for path in files(folder):
        content = path.read_bytes()
        start = content.index(b"\x02\x00\x10\x00UI")
        length = 8 + int.from_bytes(content[start + 6 : start + 8], "little")
        size = int.from_bytes(content[140:144], "little") - length
        content = content[:start] + content[start + length :]
        path.write_bytes(content[:140] + size.to_bytes(4, "little") + content[144:])


def other_class(folder: Path, kind: str, modality: str, **tags: Any) -> None:
    """Objects without pixels."""
    tagged(folder, SOPClassUID=kind, Modality=modality, PixelData=None, Rows=None, Columns=None, **tags)
    for path in files(folder):
        image = dcmread(path)
        image.file_meta.MediaStorageSOPClassUID = kind
        image.save_as(path)


def truncated(folder: Path) -> None:
    save(slices(), folder)
    path = files(folder)[2]
    path.write_bytes(path.read_bytes()[:-1000])


def pixels_of_wrong_length(folder: Path, by: int) -> None:
    images = slices()
    images[3].PixelData = images[3].PixelData[:by] if by < 0 else images[3].PixelData + b"\0" * by
    save(images, folder)


def nested(folder: Path, undefined_length: bool) -> None:
    """Sequences a thousand deep, put together by hand: pydicom itself cannot write them."""
    tag, item, item_end, end = b"\x40\x00\x75\x02", b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
    inner = b""
    for _ in range(1000):
        if undefined_length:
            inner = item + b"\xff" * 4 + inner + item_end + b"\0" * 4
            inner = tag + b"SQ\0\0" + b"\xff" * 4 + inner + end + b"\0" * 4
        else:
            inner = item + len(inner).to_bytes(4, "little") + inner
            inner = tag + b"SQ\0\0" + len(inner).to_bytes(4, "little") + inner
    save(slices(), folder)
    for path in files(folder):
        content = path.read_bytes()
        start = content.index(b"\xe0\x7f\x10\x00OW")
        path.write_bytes(content[:start] + inner + content[start:])


def dicomdir(folder: Path) -> None:
    (image,) = slices((1, 1, 1), SOPClassUID=DICOMDIR)
    folder.mkdir()
    dcmwrite(folder / "DICOMDIR", image, enforce_file_format=True)


def of_bytes(folder: Path, content: bytes, name: str = "IM0.dcm") -> None:
    folder.mkdir()
    (folder / name).write_bytes(content)


def signed(folder: Path, extended: bool = True) -> None:
    """12 bits of 16, signed, without intercept; the sign fills the upper bits or not."""
    images = slices(hu=np.clip(HU, -2048, 2047), BitsStored=12, HighBit=11, PixelRepresentation=1, RescaleIntercept=0)
    for k, image in enumerate(images):
        stored = np.clip(HU[:, :, k].T, -2048, 2047).astype("<i2")
        image.PixelData = (stored if extended else stored & 0x0FFF).tobytes()
    save(images, folder)


def padded(folder: Path, is_signed: bool) -> None:
    """-2000 in the corners, which after the intercept is -3024."""
    images = slices(PixelRepresentation=int(is_signed))
    for image in images:
        stored = np.frombuffer(image.PixelData, "<u2").reshape(SIZE[1], SIZE[0]).copy()
        stored[:5, :7] = np.array(-2000, "<i2").view("<u2")
        image.PixelData = stored.tobytes()
        image.add_new("PixelPaddingValue", "SS" if is_signed else "US", -2000 if is_signed else 63536)
    save(images, folder)


def padded_hu(value: float) -> np.ndarray:
    expected = HU.astype(float)
    expected[:7, :5] = value
    return expected


def linked_in_circles(folder: Path) -> None:
    """The series below a folder that holds links to itself, to the folder above, and to nowhere."""
    save(slices(), folder / "series")
    for name, target in {"self": ".", "above": "..", "loop": "loop", "series/again": "..", "a.dcm": "a.dcm"}.items():
        (folder / name).symlink_to(target)


UUID = "0b5f3a9e-64c1-4f4e-9d0a-3f8d1f1c2b6e"
EMPTIED = (
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "SOPInstanceUID",
    "SeriesNumber",
    "PatientID",
)
NAN, FOREVER = "NaN", "1e999"

SPOIL: dict[str, Callable[[Path], Any]] = {
    "no_position": partial(tagged, ImagePositionPatient=None),
    "no_orientation": partial(tagged, ImageOrientationPatient=None),
    "no_pixel_spacing": partial(tagged, PixelSpacing=None),
    "no_rescale_slope": partial(tagged, RescaleSlope=None),
    "no_rescale_intercept": partial(tagged, RescaleIntercept=None),
    "no_rows": partial(tagged, Rows=None),
    "no_bits_stored": partial(tagged, BitsStored=None),
    "no_pixel_representation": partial(tagged, PixelRepresentation=None),
    "no_image_uid": partial(tagged, SOPInstanceUID=None),
    "no_series_uid": partial(tagged, SeriesInstanceUID=None),
    "no_study_uid": partial(tagged, StudyInstanceUID=None),
    "uuids": partial(tagged, SeriesInstanceUID=UUID, StudyInstanceUID=UUID, FrameOfReferenceUID=UUID),
    "empty_identifiers": partial(tagged, **dict.fromkeys(EMPTIED, "")),
    "series_uid_for_each_image": series_uid_for_each,
    "no_modality": partial(tagged, Modality=None),
    "mixed_series": mixed_series,
    "same_place_twice": same_place,
    "copied_files": copied_files,
    "one_uid_for_all": one_uid_for_all,
    "missing_slice": without_a_slice,
    "unequal_spacing": uneven,
    "gantry_tilt": tilted_gantry,
    "other_size": smaller_slice,
    "other_orientation": partial(one_slice, ImageOrientationPatient=list(TILTED)),
    "jpeg_lossless": jpeg_lossless,
    "jpeg_2000": partial(encapsulated, syntax=JPEG2000Lossless, encode=jpeg_2000),
    "rle": partial(compressed, syntax=RLELossless),
    "jpeg_ls": partial(compressed, syntax=JPEGLSLossless),
    "deflated": partial(with_syntax, syntax=DeflatedExplicitVRLittleEndian),
    "unknown_compression": partial(encapsulated, syntax=MPEG2MPML, encode=lambda pixels: b"\0\0\1\xb3" * 99),
    "broken_codestream": partial(encapsulated, syntax=JPEG2000Lossless, encode=lambda pixels: b"\xff\x4f\xff\x51" * 40),
    "big_endian": partial(with_syntax, syntax=ExplicitVRBigEndian, order=">u2"),
    "implicit": partial(with_syntax, syntax=ImplicitVRLittleEndian),
    "no_meta_header": without_meta,
    "no_preamble": without_preamble,
    "no_transfer_syntax": without_syntax,
    "mr": partial(tagged, Modality="MR"),
    "cr": partial(tagged, Modality="CR"),
    "secondary_capture": partial(tagged, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"),
    "seg": partial(other_class, kind=CODED["SEG"], modality="SEG"),
    "sr": partial(other_class, kind=CODED["SR"], modality="SR"),
    "pdf": partial(other_class, kind=PDF, modality="DOC", EncapsulatedDocument=b"%PDF-1.7"),
    "enhanced": partial(tagged, SOPClassUID=ENHANCED_CT, NumberOfFrames=8),
    "truncated": truncated,
    "pixels_too_short": partial(pixels_of_wrong_length, by=-400),
    "pixels_too_long": partial(pixels_of_wrong_length, by=400),
    "one_slice": lambda folder: save(slices()[:1], folder),
    "two_slices": lambda folder: save(slices()[:2], folder),
    "long_name": partial(tagged, PatientName="Secret^" + "Person" * 1667),
    "name_with_markup": partial(tagged, PatientName="Secret^<script>alert('Person')</script>"),
    "name_with_control_signs": partial(tagged, PatientName="Secret^\x1b[2J\nERROR Person\x00"),
    "name_in_unicode": partial(tagged, PatientName="Sécret^Person=秘密^人", SpecificCharacterSet="ISO_IR 192"),
    "name_in_no_charset": partial(tagged, PatientName="Sécret^Person", SpecificCharacterSet="ISO_IR 4711"),
    "series_uid_with_path": partial(tagged, SeriesInstanceUID="../../../Secret"),
    "series_uid_too_long": partial(tagged, SeriesInstanceUID="1." + "2" * 5000),
    "image_uid_with_path": lambda folder: save(
        [slices(SOPInstanceUID=f"../../../Secret{k}")[k] for k in range(SIZE[2])], folder
    ),
    "slope_zero": partial(tagged, RescaleSlope=0),
    "slope_nan": partial(tagged, RescaleSlope=NAN),
    "intercept_infinite": partial(tagged, RescaleIntercept=FOREVER),
    "position_nan": partial(tagged, ImagePositionPatient=[NAN, "1", "2"]),
    "position_of_two": partial(tagged, ImagePositionPatient=["1", "2"]),
    "orientation_nan": partial(tagged, ImageOrientationPatient=["1", "0", "0", "0", NAN, "0"]),
    "orientation_zero": partial(tagged, ImageOrientationPatient=["0"] * 6),
    "spacing_zero": partial(tagged, PixelSpacing=["0", "1"]),
    "spacing_negative": partial(tagged, PixelSpacing=["-1", "1"]),
    "too_many_rows": partial(tagged, Rows=60000, Columns=60000),
    "two_series_numbers": partial(tagged, SeriesNumber=["1", "2"]),
    "series_number_of_letters": series_number_of_letters,
    "nested_of_known_length": partial(nested, undefined_length=False),
    "nested_of_unknown_length": partial(nested, undefined_length=True),
    "dicomdir": dicomdir,
    "empty_folder": Path.mkdir,
    "empty_file": partial(of_bytes, content=b""),
    "preamble_alone": partial(of_bytes, content=b"\0" * 128 + b"DICM", name="IM0"),
    "padding_signed": partial(padded, is_signed=True),
    "padding_unsigned": partial(padded, is_signed=False),
    "signed_12_bits": signed,
    "signed_12_bits_not_extended": partial(signed, extended=False),
    "links_in_circles": linked_in_circles,
}
# What is read, where it is not HU.
EXPECTED_HU = {
    "one_slice": HU[:, :, :1],
    "two_slices": HU[:, :, :2],
    "padding_signed": padded_hu(-1024),
    "padding_unsigned": padded_hu(-1024),
    "signed_12_bits": np.clip(HU, -2048, 2047),
    "signed_12_bits_not_extended": np.clip(HU, -2048, 2047),
}
