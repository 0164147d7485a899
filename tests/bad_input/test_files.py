"""Files that are missing, broken, of another kind, too large or badly named, and lists that are no lists."""

import gzip
import os
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from custom_components.images.ct_reader import CTReader, image_header
from PIL import Image

from tests.bad_input.data_sets import AFFINE, cap_data, chest, save, seg_data, seg_list
from tests.bad_input.row import TAKEN, Row

TRAIN, INFER, CAP_TRAIN, CAP_INFER = (
    "seg: training, evaluation",
    "seg: inference",
    "cap: training, evaluation",
    "cap: inference",
)
MIB = 2**20
GREY = np.arange(14 * 12, dtype=np.uint8).reshape(12, 14)
Spoil = Callable[[Path], Any]
Make = Callable[[Path], Path]


def seg_image(spoil: Spoil, name: str = "bad.nii.gz") -> Make:
    """Data set of covid_seg_bundle whose bad image is what `spoil` writes under a name of its own."""

    def make(folder: Path) -> Path:
        seg_data(folder / "data")
        (folder / "data/images/bad.nii.gz").unlink()
        spoil(folder / "data/images" / name)
        return folder / "data"

    return make


def alone(spoil: Spoil, name: str = "bad.nii.gz") -> Make:
    """One file, for diagnose."""

    def make(folder: Path) -> Path:
        (folder / "in").mkdir()
        spoil(folder / "in" / name)
        return folder / "in" / name

    return make


def seg_entry(**changes: Any) -> Make:
    """A datalist of two good cases, the entry of one of which is changed."""
    return lambda folder: seg_list(folder / "data", **changes)


def seg_text(text: str) -> Make:
    """A datalist of any text."""

    def make(folder: Path) -> Path:
        data = seg_data(folder / "data")
        (data / "datalist.json").write_text(text, encoding="utf-8")
        return data

    return make


def seg_named(name: str) -> Make:
    """Image and mask under a name of their own."""

    def make(folder: Path) -> Path:
        for part, array in (("images", chest()["image"]), ("masks", chest()["infection"])):
            save(array, folder / "data" / part / "x.nii.gz").rename(folder / "data" / part / name)
        return folder / "data"

    return make


def nifti(array: np.ndarray) -> Spoil:
    return lambda path: save(array, path)


def png(mode: str | None = None, **options: Any) -> Spoil:
    return lambda path: Image.fromarray(GREY).convert(mode or "L").save(path, "PNG", **options)


def png_16_bits(path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 99).save(path)


def png_of_3_gigapixels(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 60000, 50000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(9))))


def header(shape: tuple[int, ...], extension: bytes = bytes(4)) -> bytes:
    """Of a NIfTI file of int16, up to its first voxel."""
    made = nib.Nifti1Header()
    made.set_data_dtype(np.int16)
    made.set_data_shape(shape)
    made["magic"], made["vox_offset"] = b"n+1", 348 + len(extension)
    made.set_sform(AFFINE, 1)
    return made.binaryblock + extension


@cache
def zeros() -> bytes:
    return gzip.compress(bytes(64 * MIB))


def bomb(start: bytes) -> Spoil:
    """10 GB of zeros in 10 MB: one member of 64 MiB, over and over."""
    return lambda path: path.write_bytes(gzip.compress(start) + zeros() * 160)


# An extension that claims 0 bytes: a reader that takes off the 8 of its own header asks for all there is.
ENDLESS = struct.pack("<4Bii", 1, 0, 0, 0, 0, 4) + bytes(20)


def flip_voxel(path: Path) -> None:
    """One bit of a voxel, in a stream that stores its bytes as they are."""
    save(chest()["image"], path)
    stream = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    stream[2000] ^= 4
    path.write_bytes(stream)


def fields(**changes: Any) -> Spoil:
    """A .nii whose header has other fields."""

    def spoil(path: Path) -> None:
        save(chest()["image"], path)
        header = nib.Nifti1Header(path.read_bytes()[:348], check=False)
        for name, value in changes.items():
            header[name] = value
        path.write_bytes(header.binaryblock + path.read_bytes()[348:])

    return spoil


def cut(path: Path, count: int = 40) -> None:
    save(chest()["image"], path)
    path.write_bytes(path.read_bytes()[:-count])


def rgb(path: Path) -> None:
    save(np.zeros((7, 6, 5), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])), path)


def runs(spoil: Spoil, table: str = "name\n") -> Make:
    """A run of slices and its table, for convert_covid20_slices."""

    def make(folder: Path) -> Path:
        (folder / "runs").mkdir()
        (folder / "table.csv").write_text(table)
        spoil(folder / "runs" / "volume_0007.npz")
        return folder

    return make


def published(name: str, spoil: Spoil) -> Make:
    """A file of a data set as published."""

    def make(folder: Path) -> Path:
        path = folder / "published" / name
        path.parent.mkdir(parents=True)
        spoil(path)
        return folder

    return make


def pickled(path: Path) -> None:
    np.savez(path, ct=np.array([{"a": 1}], dtype=object), lung=np.zeros(3), infection=np.zeros(3))


def no_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def zip_bomb(path: Path) -> None:
    """The directory of the archive tells of 4 GiB."""
    np.savez(path, ct=np.zeros(4, np.uint8))
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)


def in_cases(**changes: Any) -> Make:
    return lambda folder: cap_data(folder / "data", **changes)


def elsewhere(folder: Path) -> Path:
    return seg_list(folder / "data", image=str(save(chest()["image"], folder / "other" / "bad.nii.gz")))


def names_bad(item: Any) -> bool:
    return Path(item["native"].meta["filename_or_obj"]).name.startswith("bad")


NO_FILE = "image: Case nowhere: … does not exist. Check the path or the datalist."
BROKEN = "Case bad: bad.nii.gz is truncated or not a NIfTI file: "
NO_NAME = "1 case ids cannot be file names: "
NO_JSON = "Datalist … cannot be read as JSON: "
OF_RUN = "volume_0007.npz cannot be read: "
IS = "Case bad: bad.png is "

ROWS = [
    Row("missing", "a listed file that is not there", TRAIN, NO_FILE, seg_entry(image="images/nowhere.nii.gz")),
    Row(
        "link",
        "a broken link",
        TRAIN,
        "image: Case bad: … does not exist. Check the path or the datalist.",
        seg_image(lambda path: path.symlink_to("nowhere")),
    ),
    Row(
        "link_to_itself",
        "a link to itself",
        INFER,
        "Case bad: … does not exist. Check the path or the datalist.",
        seg_image(lambda path: path.symlink_to(path)),
    ),
    Row(
        "empty",
        "0 bytes",
        TRAIN,
        f"image: {BROKEN}it has 0 bytes, fewer than a header. Copy or export the file again.",
        seg_image(lambda path: path.touch()),
    ),
    Row(
        "gz_bit",
        "a .nii.gz with one flipped bit",
        "diagnose",
        f"{BROKEN.removeprefix('Case bad: ')}CRC check failed",
        alone(flip_voxel),
    ),
    Row("truncated_gz", "half a .nii.gz", TRAIN, f"{BROKEN}Compressed file ended before", seg_image(cut)),
    Row(
        "truncated",
        "half a .nii",
        TRAIN,
        "image: Case bad: bad.nii is truncated or not a NIfTI file: its header declares "
        "3,376 bytes, the file has 3,336. Copy or export the file again.",
        seg_image(cut, "bad.nii"),
    ),
    Row(
        "text",
        "a text named .nii.gz",
        "diagnose",
        f"{BROKEN[10:]}it is not gzip-compressed, although its name ends in .gz: rename it to .nii.",
        alone(lambda path: path.write_text("404")),
    ),
    Row(
        "gz_as_nii",
        "a .nii.gz named .nii",
        INFER,
        "Case bad: bad.nii is truncated or not a NIfTI file: it is gzip-compressed: rename it to .nii.gz.",
        seg_image(lambda path: path.write_bytes(gzip.compress(bytes(999))), "bad.nii"),
    ),
    Row(
        "gz_followed",
        "a .nii.gz followed by text",
        INFER,
        f"{TAKEN}the extra bytes are ignored, with a warning",
        seg_image(lambda path: save(chest()["image"], path).open("ab").write(b"<html>")),
        lambda item: "after the end of its gzip data" in item["native"].meta["reading_notes"],
    ),
    Row(
        "no_orientation",
        "a .nii with qform_code and sform_code 0",
        INFER,
        f"{TAKEN}a warning, repeated in the report, says that the sides are guessed",
        seg_image(fields(sform_code=0), "bad.nii"),
        lambda item: (
            "left and right, front and back, head and feet are a guess" in item["native"].meta["reading_notes"]
        ),
    ),
    Row(
        "no_voxel_size",
        "a .nii with a voxel size of 0 and no sform",
        INFER,
        "Case bad: bad.nii has voxels of 24 x 28 x 0 mm and no sform, so its voxel size is unknown. Copy the header",
        seg_image(fields(sform_code=0, pixdim=[1, 24, 28, 0, 0, 0, 0, 0]), "bad.nii"),
    ),
    Row(
        "no_rotation",
        "a .nii whose qform is not a rotation, and no sform",
        TRAIN,
        "image: Case bad: bad.nii has a qform that is not a rotation and no sform, so its orientation is unknown. Copy",
        seg_image(fields(sform_code=0, qform_code=1, quatern_b=3), "bad.nii"),
    ),
    Row(
        "voxels_in_header",
        "a .nii whose voxel data starts inside the header",
        "diagnose",
        "bad.nii is truncated or not a NIfTI file: its voxel data would start at byte 0, inside its header.",
        alone(fields(vox_offset=0), "bad.nii"),
    ),
    Row(
        "png_as_nifti",
        "a PNG named .nii",
        INFER,
        "Case bad: bad.nii is truncated or not a NIfTI file: ",
        seg_image(png(), "bad.nii"),
    ),
    Row(
        "bomb_by_header",
        "10 GB in a .nii.gz of 10 MB, header says 512 x 512 x 20000",
        INFER,
        "Case bad: bad.nii.gz has 5,242,880,000 voxels according to its header. Expected one CT of at most "
        "1,073,741,824: ",
        seg_image(bomb(header((512, 512, 20000)))),
    ),
    Row(
        "bomb_behind_header",
        "10 GB in a .nii.gz of 10 MB, header says 14 x 12 x 9",
        "diagnose",
        "bad.nii.gz has … bytes, but its header declares 3,376. Expected a header that fits the voxels: ",
        alone(bomb(header((14, 12, 9)))),
    ),
    Row(
        "bomb_in_extension",
        "10 GB in a .nii.gz of 10 MB, in a header extension",
        TRAIN,
        f"image: {BROKEN}failed to read extension content. ",
        seg_image(bomb(header((14, 12, 9), ENDLESS))),
    ),
    Row(
        "large_header",
        "header says 512 x 512 x 2000 voxels, file has 1 kB",
        TRAIN,
        f"image: {BROKEN}its header declares 1,048,576,352 bytes, the file has …. Copy or export",
        seg_image(lambda path: path.write_bytes(gzip.compress(header((512, 512, 2000)) + bytes(600), mtime=0))),
    ),
    Row(
        "complex",
        "NIfTI of complex numbers",
        TRAIN,
        "image: Case bad: bad.nii.gz stores complex values. Expected one number per voxel (intensity or HU): convert "
        "the file.",
        seg_image(nifti(np.zeros((14, 12, 9), np.complex64))),
    ),
    Row(
        "rgb_nifti",
        "NIfTI in colour",
        INFER,
        "Case bad: bad.nii.gz stores colour values. Expected one number per voxel",
        seg_image(rgb),
    ),
    Row(
        "4d",
        "NIfTI with two time points",
        INFER,
        "Case bad: bad.nii.gz has shape (14, 12, 9, 2). Expected one slice (X, Y) or one volume (X, Y, Z): ",
        seg_image(nifti(np.zeros((14, 12, 9, 2), np.int16))),
    ),
    Row(
        "5d",
        "NIfTI of vectors",
        "diagnose",
        "bad.nii.gz has shape (14, 12, 9, 1, 3). Expected one slice (X, Y) or one volume",
        alone(nifti(np.zeros((14, 12, 9, 1, 3), np.int16))),
    ),
    Row(
        "png_16_bits",
        "PNG of 16 bits",
        INFER,
        f"{IS}of mode I;16 (16 or 32 bits). Expected 8-bit greyscale. Save it as",
        seg_image(png_16_bits, "bad.png"),
    ),
    Row(
        "png_rgb",
        "PNG in colour",
        INFER,
        f"{IS}colour (RGB). Expected 8-bit greyscale.",
        seg_image(png("RGB"), "bad.png"),
    ),
    Row(
        "png_palette",
        "PNG with a palette",
        INFER,
        f"{IS}a colour palette. Expected 8-bit greyscale.",
        seg_image(png("P"), "bad.png"),
    ),
    Row(
        "png_animated",
        "animated PNG",
        INFER,
        f"{IS}animated (2 frames). Expected one slice: ",
        seg_image(png(save_all=True, append_images=[Image.fromarray(GREY[::-1].copy())]), "bad.png"),
    ),
    Row(
        "png_huge",
        "PNG of 60000 x 50000 pixels",
        INFER,
        "Case bad: bad.png has more pixels than the limit (178,956,970). Expected one CT slice: export it again.",
        seg_image(png_of_3_gigapixels, "bad.png"),
    ),
    Row(
        "png_for_volume",
        "a 2D image instead of a volume",
        CAP_INFER,
        "Case bad: bad.png is a 2D image. "
        "Expected a CT volume: NIfTI (.nii, .nii.gz) or the folder of one DICOM series",
        in_cases(image="images/bad.png"),
    ),
    Row(
        "npz_pickled",
        "npz with pickled objects",
        "convert_covid20_slices",
        f"{OF_RUN}Object arrays cannot be loaded when "
        "allow_pickle=False. Expected an .npz with the arrays ct, lung, infection.",
        runs(pickled),
    ),
    Row(
        "npz_no_archive",
        "npy named .npz",
        "convert_covid20_slices",
        f"{OF_RUN}File is not a zip file. Expected an .npz",
        runs(no_archive),
    ),
    Row(
        "npz_empty",
        "npz of 0 bytes",
        "convert_covid20_slices",
        f"{OF_RUN}File is not a zip file. ",
        runs(lambda path: path.touch()),
    ),
    Row(
        "npz_bomb",
        "npz of 4 GiB unpacked",
        "convert_covid20_slices",
        f"{OF_RUN}unpacked it has 4,294,967,294 bytes, at most 3,221,225,472 are expected. ",
        runs(zip_bomb),
    ),
    Row(
        "excerpt_pickled",
        "npz with pickled objects",
        "convert_ct_excerpts",
        "Case one cannot be read: Object arrays cannot be loaded when allow_pickle=False. Expected an .npz: ",
        published("one.npz", pickled),
    ),
    Row(
        "excerpt_bomb",
        "npz of 4 GiB unpacked",
        "convert_ct_excerpts",
        "Case one cannot be read: unpacked it has 4,294,967,294 bytes, at most 3,221,225,472 are expected. ",
        published("one.npz", zip_bomb),
    ),
    Row(
        "published_elsewhere",
        "a folder with other content",
        "convert_lctsc",
        "Data set … has no patients. Expected DICOM files (.dcm) of LCTSC-Train-S1-001 and others: ",
        published("LCTSC-Train-S1-001/1-001.dcm", lambda path: path.write_text("text")),
    ),
    Row(
        "published_half",
        "masks without their CT series",
        "convert_plethora",
        "Data set … has 0 patients with DICOM series and 1 with masks. Expected both: ",
        published(
            "Effusions/LUNG1-001/LUNG1-001_effusion_first_reviewer.nii.gz", lambda path: save(chest()["lung"], path)
        ),
    ),
    Row(
        "published_no_mask",
        "a volume without its masks, the only one",
        "convert_medseg_volumes",
        "Case rp_1: there is no file in rp_msk and rp_lung_msk. Download all three archives.",
        published("rp_im/1.nii.gz", lambda path: save(chest()["image"], path)),
    ),
    Row(
        "folder",
        "a folder instead of a file",
        TRAIN,
        "image: Case bad: bad.nii.gz is a folder without DICOM files. Expected a file: give the file inside the "
        "folder.",
        seg_image(lambda path: path.mkdir()),
    ),
    Row(
        "pipe",
        "a named pipe",
        TRAIN,
        "image: Case bad: bad.nii.gz is neither a file nor a folder. Give the file itself.",
        seg_image(lambda path: os.mkfifo(path)),
    ),
    Row(
        "way_out",
        "`../../etc/passwd` in a datalist",
        TRAIN,
        "entry 1: path ../../etc/passwd is outside the datalist's folder. "
        "Use an absolute path, or move the files into the folder",
        seg_entry(image="../../etc/passwd"),
    ),
    Row(
        "no_image",
        "`/etc/passwd` in a datalist",
        TRAIN,
        "image: Case passwd: passwd has an unsupported format. Expected",
        seg_entry(image="/etc/passwd"),
    ),
    Row(
        "absolute",
        "an absolute path outside the datalist's folder",
        INFER,
        f"{TAKEN}lists may name files anywhere",
        elsewhere,
        names_bad,
    ),
    Row(
        "case_id_way_out",
        "`../../x` as case id",
        TRAIN,
        f'{NO_NAME}"../../x". Use letters and digits',
        seg_entry(case_id="../../x"),
    ),
    Row(
        "case_id_lines",
        "a line break in a case id",
        TRAIN,
        f'{NO_NAME}"a\\nb". Use letters and digits',
        seg_entry(case_id="a\nb"),
    ),
    Row("case_id_long", "a case id of 300 letters", CAP_TRAIN, f'{NO_NAME}"aaaa', in_cases(case_id="a" * 300)),
    Row(
        "case_id_twice",
        "a duplicate case id",
        TRAIN,
        "1 case ids occur more than once: good. Rename the files or ids",
        seg_entry(case_id="good"),
    ),
    Row(
        "dots",
        "a scan named `...nii.gz`",
        "diagnose",
        "The name of this scan cannot be a folder name. Rename it: ",
        alone(nifti(chest()["image"]), "...nii.gz"),
    ),
    Row(
        "line_break",
        "a line break in a file name",
        INFER,
        f'{NO_NAME}"bad\\nx". Use letters and digits',
        seg_named("bad\nx.nii.gz"),
    ),
    Row(
        "signs",
        "spaces, symbols and other scripts in a file name",
        INFER,
        f"{TAKEN}outputs have the same name",
        seg_named("bad -ö 肺 'x'.nii.gz"),
        names_bad,
    ),
    Row(
        "latin_1",
        "a file name that is not valid Unicode",
        INFER,
        f"{TAKEN}outputs have the same name",
        seg_named("bad" + os.fsdecode(b"\xe9") + ".nii.gz"),
        names_bad,
    ),
    Row(
        "long_name",
        "a file name of 5,007 letters in a datalist",
        TRAIN,
        'entry 1: path "aaaa…',
        seg_entry(image="a" * 5000 + ".nii.gz"),
    ),
    Row(
        "null",
        "a null byte in a path",
        CAP_TRAIN,
        'Case bad: path "a\\u0000b.nii.gz" (10 characters) is not a valid file name. Correct it',
        in_cases(image="a\0b.nii.gz"),
    ),
    Row(
        "not_json", "a datalist that is not JSON", TRAIN, f"{NO_JSON}Expecting property name", seg_text("{'cases': []}")
    ),
    Row(
        "top_level", "a list instead of an object", TRAIN, "Datalist … has no list of cases. Expected", seg_text("[1]")
    ),
    Row(
        "key_twice",
        "a duplicate key in one entry",
        TRAIN,
        f'{NO_JSON}an object has the key "image" 2 times. ',
        seg_text(
            '{"cases": [{"image": "images/bad.nii.gz", "image": "images/good.nii.gz", "label": "masks/bad.nii.gz"}]}'
        ),
    ),
    Row(
        "junk",
        "a datalist of 100 MB",
        TRAIN,
        "Datalist … has 100,000,014 bytes. Expected at most 33,554,432: ",
        seg_text('{"cases": [' + "1," * 50_000_000 + "1]}"),
    ),
    Row(
        "deep",
        "a datalist nested 100,000 deep",
        CAP_TRAIN,
        f"{NO_JSON}it is nested too deeply. Check it with a JSON editor.",
        seg_text('{"cases": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    ),
    Row(
        "nan",
        "`NaN` as a number of a datalist",
        CAP_TRAIN,
        "Case bad: infection ratio is nan. Expected infection volume / lung volume, 0 to 1. ",
        in_cases(ratio=float("nan")),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_files(row, tmp_path, caplog):
    row.try_out(tmp_path, caplog)


@pytest.mark.parametrize("start", [header((512, 512, 20000)), header((14, 12, 9)), header((14, 12, 9), ENDLESS)])
def test_a_bomb_is_refused_before_it_is_inflated(tmp_path, start):
    path = tmp_path / "bad.nii.gz"
    bomb(start)(path)
    tracemalloc.start()
    for read in (image_header, lambda path: CTReader().get_data((path,))):
        with pytest.raises(ValueError, match=r"^Case bad: "):
            read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * MIB


def test_a_header_does_not_read_the_voxels(tmp_path):
    path = save(np.zeros((512, 512, 200), np.uint8), tmp_path / "long.nii.gz", np.diag([0.7, 0.7, 1, 1]))
    tracemalloc.start()
    assert image_header(path).shape == (512, 512, 200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * MIB


def test_nothing_of_ours_unpacks_an_archive():
    """So that no member of one can lead out of a folder; `.npz` is read member by member, in memory."""
    package = Path(image_header.__code__.co_filename).parents[1]
    sources = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert len(sources) > 100
    assert not [
        path.name for path, text in sources.items() if re.search(r"extractall|unpack_archive|\.extract\(", text)
    ]
