"""Each row of docs/bad_input_dicom.md: what is done with a folder of hostile or broken DICOM files."""

import io
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from custom_components.datalists.slices import list_cases
from custom_components.diagnosis.queue import scan_sources
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.images.ct_reader import CTReader
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

from tests.bundles.conftest import ROOT, digests
from tests.written_images import ct_image

SIZE, SPACING_MM, ORIGIN_MM = (64, 60, 8), (5.5, 6.0, 20.0), (-170.0, -180.0, -70.0)
# From air to metal, every value of 12 bits somewhere, no two slices alike.
HU = (np.arange(np.prod(SIZE)) * 7 % 4000 - 1024).reshape(SIZE)
IDENTITY = ("secret", "person", "id-secret")
TILTED = (1, 0, 0, 0, np.cos(0.3), np.sin(0.3))
CODED = {"SEG": "1.2.840.10008.5.1.4.1.1.66.4", "SR": "1.2.840.10008.5.1.4.1.1.88.33"}
PDF, ENHANCED_CT, DICOMDIR = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.1.3.10"
READ = "read"


# ---- making series ----


def slices(size=SIZE, spacing_mm=SPACING_MM, hu=HU, **tags: Any) -> list[Dataset]:
    """A good axial series; its tags changed in every slice, None takes one away."""
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


# ---- spoiling them ----


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


def deflated(folder: Path) -> None:
    images = slices()
    for image in images:
        image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(images, folder)


def big_endian(folder: Path) -> None:
    images = slices()
    for image in images:
        image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
    save(images, folder)


def implicit(folder: Path) -> None:
    images = slices()
    for image in images:
        image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
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


@dataclass(frozen=True)
class Row:
    """What is put into a folder, and the words of the message that each program ends with, or READ."""

    spoil: Callable[[Path], None]
    inference: str
    diagnose: str
    expected_hu: np.ndarray | None = None


def both(spoil: Callable[[Path], None], words: str, expected_hu: np.ndarray | None = None) -> Row:
    return Row(spoil, words, words, expected_hu)


def without(tag: str, diagnose: str | None = None) -> Row:
    return Row(partial(tagged, **{tag: None}), f"lacks {tag}", diagnose or f"lacks {tag}")


def with_tags(words: str, diagnose: str | None = None, **tags: Any) -> Row:
    return Row(partial(tagged, **tags), words, diagnose or words)


NO_ORIENTATION = "images without one common orientation"
NO_POSITION = "images without position"
UUID = "0b5f3a9e-64c1-4f4e-9d0a-3f8d1f1c2b6e"
EMPTIED = (
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "SOPInstanceUID",
    "SeriesNumber",
    "PatientID",
)
UNEVEN = "slice spacing is uneven at"
PIXEL_BYTES = 2 * SIZE[0] * SIZE[1]
NAN, FOREVER = "NaN", "1e999"

ROWS = {
    "no_position": without("ImagePositionPatient", NO_POSITION),
    "no_orientation": without("ImageOrientationPatient", NO_ORIENTATION),
    "no_pixel_spacing": without("PixelSpacing"),
    "no_rescale_slope": without("RescaleSlope"),
    "no_rescale_intercept": without("RescaleIntercept"),
    "no_rows": without("Rows"),
    "no_bits_stored": without("BitsStored"),
    "no_pixel_representation": without("PixelRepresentation"),
    "no_image_uid": with_tags(READ, SOPInstanceUID=None),
    "no_series_uid": with_tags(READ, SeriesInstanceUID=None),
    "no_study_uid": with_tags(READ, StudyInstanceUID=None),
    "uuids": with_tags(READ, SeriesInstanceUID=UUID, StudyInstanceUID=UUID, FrameOfReferenceUID=UUID),
    "empty_identifiers": with_tags(READ, **dict.fromkeys(EMPTIED, "")),
    "series_uid_for_each_image": both(series_uid_for_each, READ),
    "no_modality": with_tags(READ, Modality=None),
    "mixed_series": Row(mixed_series, "holds 2 series, expected one", READ),
    "same_place_twice": both(same_place, "1 slice positions occur twice"),
    "copied_files": both(copied_files, READ),
    "one_uid_for_all": both(one_uid_for_all, READ),
    "missing_slice": both(without_a_slice, UNEVEN),
    "unequal_spacing": both(uneven, UNEVEN),
    "gantry_tilt": both(tilted_gantry, "the slices are sheared by 14.0 degrees"),
    "other_size": both(smaller_slice, "1 of 8 images differ in size"),
    "other_orientation": Row(
        partial(one_slice, ImageOrientationPatient=list(TILTED)), "1 of 8 images differ in orientation", NO_ORIENTATION
    ),
    "jpeg_lossless": both(jpeg_lossless, READ),
    "jpeg_2000": both(partial(encapsulated, syntax=JPEG2000Lossless, encode=jpeg_2000), READ),
    "rle": both(partial(compressed, syntax=RLELossless), READ),
    "jpeg_ls": both(partial(compressed, syntax=JPEGLSLossless), READ),
    "deflated": both(deflated, READ),
    "unknown_compression": both(
        partial(encapsulated, syntax=MPEG2MPML, encode=lambda pixels: b"\0\0\1\xb3" * 99),
        "is truncated or not a DICOM file",
    ),
    "broken_codestream": both(
        partial(encapsulated, syntax=JPEG2000Lossless, encode=lambda pixels: b"\xff\x4f\xff\x51" * 40),
        "is truncated or not a DICOM file",
    ),
    "big_endian": both(big_endian, READ),
    "implicit": both(implicit, READ),
    "no_meta_header": both(without_meta, READ),
    "no_preamble": both(without_preamble, READ),
    "no_transfer_syntax": both(without_syntax, READ),
    "mr": with_tags("is of modality MR", "not CT (modality MR)", Modality="MR"),
    "cr": with_tags("is of modality CR", "not CT (modality CR)", Modality="CR"),
    "secondary_capture": with_tags("a secondary capture", SOPClassUID="1.2.840.10008.5.1.4.1.1.7"),
    "seg": Row(partial(other_class, kind=CODED["SEG"], modality="SEG"), "is of modality SEG", "not CT (modality SEG)"),
    "sr": Row(partial(other_class, kind=CODED["SR"], modality="SR"), "is of modality SR", "not CT (modality SR)"),
    "pdf": Row(
        partial(other_class, kind=PDF, modality="DOC", EncapsulatedDocument=b"%PDF-1.7"),
        "is of modality DOC",
        "not CT (modality DOC)",
    ),
    "enhanced": with_tags("multi-frame (enhanced) CT", SOPClassUID=ENHANCED_CT, NumberOfFrames=8),
    "truncated": both(truncated, "is truncated or not a DICOM file: its pixel data have"),
    "pixels_too_short": both(
        partial(pixels_of_wrong_length, by=-400), f"has {PIXEL_BYTES - 400:,} bytes of pixel data"
    ),
    "pixels_too_long": both(partial(pixels_of_wrong_length, by=400), f"has {PIXEL_BYTES + 400:,} bytes of pixel data"),
    "one_slice": Row(lambda folder: save(slices()[:1], folder), READ, "too short, 0 mm"),
    "two_slices": Row(lambda folder: save(slices()[:2], folder), READ, "too short, 20 mm"),
    "long_name": with_tags(READ, PatientName="Secret^" + "Person" * 1667),
    "name_with_markup": with_tags(READ, PatientName="Secret^<script>alert('Person')</script>"),
    "name_with_control_signs": with_tags(READ, PatientName="Secret^\x1b[2J\nERROR Person\x00"),
    "name_in_unicode": with_tags(READ, PatientName="Sécret^Person=秘密^人", SpecificCharacterSet="ISO_IR 192"),
    "name_in_no_charset": with_tags(READ, PatientName="Sécret^Person", SpecificCharacterSet="ISO_IR 4711"),
    "series_uid_with_path": with_tags(READ, SeriesInstanceUID="../../../Secret"),
    "series_uid_too_long": with_tags(READ, SeriesInstanceUID="1." + "2" * 5000),
    "image_uid_with_path": both(
        lambda folder: save([slices(SOPInstanceUID=f"../../../Secret{k}")[k] for k in range(SIZE[2])], folder), READ
    ),
    "slope_zero": with_tags("has a RescaleSlope of 0", RescaleSlope=0),
    "slope_nan": with_tags("has a RescaleSlope that is not a finite number", RescaleSlope=NAN),
    "intercept_infinite": with_tags("has a RescaleIntercept that is not a finite number", RescaleIntercept=FOREVER),
    "position_nan": with_tags(
        "has a ImagePositionPatient that is not 3 finite numbers", NO_POSITION, ImagePositionPatient=[NAN, "1", "2"]
    ),
    "position_of_two": with_tags(
        "has a ImagePositionPatient that is not 3 finite numbers", NO_POSITION, ImagePositionPatient=["1", "2"]
    ),
    "orientation_nan": with_tags(
        "has a ImageOrientationPatient that is not 6 finite numbers",
        NO_ORIENTATION,
        ImageOrientationPatient=["1", "0", "0", "0", NAN, "0"],
    ),
    "orientation_zero": with_tags(
        "has an ImageOrientationPatient that is not two unit vectors", "not axial", ImageOrientationPatient=["0"] * 6
    ),
    "spacing_zero": with_tags("has a PixelSpacing that is not above 0", PixelSpacing=["0", "1"]),
    "spacing_negative": with_tags("has a PixelSpacing that is not above 0", PixelSpacing=["-1", "1"]),
    "too_many_rows": with_tags("has 60000 rows and 60000 columns", Rows=60000, Columns=60000),
    "two_series_numbers": with_tags(READ, SeriesNumber=["1", "2"]),
    "series_number_of_letters": both(series_number_of_letters, READ),
    "nested_of_known_length": both(partial(nested, undefined_length=False), READ),
    "nested_of_unknown_length": Row(
        partial(nested, undefined_length=True),
        "its sequences are nested too deeply",
        "No DICOM images in the folder (8 files without readable header)",
    ),
    "dicomdir": Row(dicomdir, "no DICOM images among the 1 files", "No DICOM images in the folder (0 files"),
    "empty_folder": Row(Path.mkdir, "has no cases", "contains neither NIfTI files nor DICOM studies"),
    "empty_file": Row(
        partial(of_bytes, content=b""),
        "is truncated or not a DICOM file: it has no DICOM preamble",
        "No DICOM images in the folder (1 files without readable header)",
    ),
    "preamble_alone": Row(
        partial(of_bytes, content=b"\0" * 128 + b"DICM", name="IM0"), "is without modality", "not CT (modality unknown)"
    ),
    "padding_signed": both(partial(padded, is_signed=True), READ, padded_hu(-1024)),
    "padding_unsigned": both(partial(padded, is_signed=False), READ, padded_hu(-1024)),
    "signed_12_bits": both(signed, READ, np.clip(HU, -2048, 2047)),
    "signed_12_bits_not_extended": both(partial(signed, extended=False), READ, np.clip(HU, -2048, 2047)),
    "links_in_circles": Row(linked_in_circles, READ, READ),
}


# ---- what the programs do with them ----


def read_for_inference(folder: Path) -> np.ndarray:
    """As the inference of covid_seg_bundle lists and loads a folder."""
    (case,) = list_cases(folder, require_labels=False, check_files=False)
    reader = CTReader()
    return reader.get_data(reader.read(case["image"]))[0]


def read_for_diagnose(folder: Path) -> np.ndarray:
    (source,) = scan_sources(folder)
    return source.image()[0].numpy()


PROGRAMS = {"inference": read_for_inference, "diagnose": read_for_diagnose}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", ROWS)
def test_a_folder_is_read_or_refused_with_a_message(name, program, tmp_path, caplog, recwarn):
    row = ROWS[name]
    place = tmp_path / "in" / "scan"
    place.parent.mkdir()
    row.spoil(place)
    before, recwarn_before = digests(tmp_path), len(recwarn)
    caplog.clear()
    words = getattr(row, program)
    if words == READ:
        expected = HU[:, :, : len(files(place)) if name.endswith("slices") or name == "one_slice" else None]
        expected = expected if row.expected_hu is None else row.expected_hu
        np.testing.assert_array_equal(PROGRAMS[program](place), expected)
        told = ""
    else:
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            PROGRAMS[program](place)
        told = str(caught.value)
        assert all(line.isprintable() and len(line) < 1000 for line in told.splitlines())
    warned = " ".join(str(one.message) for one in recwarn.list[recwarn_before:])
    assert not [part for part in IDENTITY if part in f"{told} {caplog.text} {warned}".lower()]
    assert digests(tmp_path) == before


OBJECTS = {
    "long_name": READ,
    "name_with_markup": READ,
    "name_with_control_signs": READ,
    "name_in_unicode": READ,
    "name_in_no_charset": "the headers are in the character set ISO_IR 4711, which DICOM does not have",
    **dict.fromkeys(
        ["no_image_uid", "image_uid_with_path", "no_series_uid", "no_study_uid", "uuids", "empty_identifiers"], READ
    ),
    **dict.fromkeys(["one_uid_for_all", "series_uid_for_each_image", "series_uid_too_long", "no_modality"], READ),
}


def assert_refers_consistently(segmentation, measurements, series) -> None:
    """All identifiers are valid, each image has one of its own, and both objects name the same study and series."""
    (referred,) = segmentation.ReferencedSeriesSequence
    images = [item.ReferencedSOPInstanceUID for item in referred.ReferencedInstanceSequence]
    assert len(set(images)) == SIZE[2]
    assert all(uid.is_valid for uid in (*images, referred.SeriesInstanceUID, segmentation.FrameOfReferenceUID))
    assert referred.SeriesInstanceUID == series.uid
    assert segmentation.StudyInstanceUID == measurements.StudyInstanceUID == series.study_uid
    assert segmentation.StudyInstanceUID.is_valid


@pytest.mark.parametrize("name", OBJECTS)
def test_dicom_objects_of_a_series_are_written_or_refused_with_a_message(name, tmp_path, caplog, recwarn):
    pytest.importorskip("highdicom")
    from custom_components.reports.dicom.objects import write_dicom_objects
    from custom_components.reports.scan.findings import ScanFindings

    (tmp_path / "in").mkdir()
    ROWS[name].spoil(tmp_path / "in" / "scan")
    source = ScanSource(tmp_path / "in" / "scan")
    image = source.image()
    lungs = np.zeros(image.shape[1:], np.uint8)
    lungs[10:20, 10:30, 2:6], lungs[30:40, 10:30, 2:6] = 1, 2
    findings = ScanFindings("012", image[0].numpy(), image.affine.numpy(), lungs, "by hand", series=source.series)
    caplog.clear()
    recwarn.clear()
    if OBJECTS[name] == READ:
        write_dicom_objects(findings, tmp_path / "out")
        original = dcmread(files(tmp_path / "in" / "scan")[0])
        segmentation = dcmread(tmp_path / "out" / "segmentation.dcm")
        assert segmentation.PatientName == original.PatientName
        assert_refers_consistently(segmentation, dcmread(tmp_path / "out" / "measurements.dcm"), source.series)
    else:
        with pytest.raises(ValueError, match=f"^Case 012: {OBJECTS[name]}"):
            write_dicom_objects(findings, tmp_path / "out")
    told = " ".join([caplog.text, *(str(one.message) for one in recwarn.list)]).lower()
    assert not [part for part in IDENTITY if part in told]


def test_the_page_has_a_line_for_each_row_with_the_words_that_the_user_sees():
    page = (ROOT / "docs/bad_input_dicom.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (.+) \| (.+) \| (.+) \| `(\w+)` \|$", page, re.M)
    told = {name: (inference.strip("`"), diagnose.strip("`")) for _, inference, diagnose, name in lines}
    assert told == {name: (row.inference, row.diagnose) for name, row in ROWS.items()}
    assert len({text for text, *_ in lines}) == len(lines)
