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
from tests.bad_input.row import Input, Make, rows_of

MIB = 2**20
GREY = np.arange(14 * 12, dtype=np.uint8).reshape(12, 14)
Spoil = Callable[[Path], Any]


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


def published_files(files: dict[str, Spoil]) -> Make:
    """Several files of a data set as published."""

    def make(folder: Path) -> Path:
        for name, spoil in files.items():
            path = folder / "published" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            spoil(path)
        return folder

    return make


def words(text: str) -> Spoil:
    return lambda path: path.write_text(text)


def volume(kind: str, cut: int = 0) -> Spoil:
    """An image or a mask of the chest, without its first slices."""
    return lambda path: save(chest()[kind][:, :, cut:], path)


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


INPUTS: dict[str, Input] = {
    "missing": seg_entry(image="images/nowhere.nii.gz"),
    "link": seg_image(lambda path: path.symlink_to("nowhere")),
    "link_to_itself": seg_image(lambda path: path.symlink_to(path)),
    "empty": seg_image(lambda path: path.touch()),
    "gz_bit": alone(flip_voxel),
    "truncated_gz": seg_image(cut),
    "truncated": seg_image(cut, "bad.nii"),
    "text": alone(lambda path: path.write_text("404")),
    "gz_as_nii": seg_image(lambda path: path.write_bytes(gzip.compress(bytes(999))), "bad.nii"),
    "gz_followed": (
        seg_image(lambda path: save(chest()["image"], path).open("ab").write(b"<html>")),
        lambda item: "after the end of its gzip data" in item["native"].meta["reading_notes"],
    ),
    "no_orientation": (
        seg_image(fields(sform_code=0), "bad.nii"),
        lambda item: (
            "left and right, front and back, head and feet are a guess" in item["native"].meta["reading_notes"]
        ),
    ),
    "no_voxel_size": seg_image(fields(sform_code=0, pixdim=[1, 24, 28, 0, 0, 0, 0, 0]), "bad.nii"),
    "no_rotation": seg_image(fields(sform_code=0, qform_code=1, quatern_b=3), "bad.nii"),
    "voxels_in_header": alone(fields(vox_offset=0), "bad.nii"),
    "png_as_nifti": seg_image(png(), "bad.nii"),
    "bomb_by_header": seg_image(bomb(header((512, 512, 20000)))),
    "bomb_behind_header": alone(bomb(header((14, 12, 9)))),
    "bomb_in_extension": seg_image(bomb(header((14, 12, 9), ENDLESS))),
    "large_header": seg_image(
        lambda path: path.write_bytes(gzip.compress(header((512, 512, 2000)) + bytes(600), mtime=0))
    ),
    "complex": seg_image(nifti(np.zeros((14, 12, 9), np.complex64))),
    "rgb_nifti": seg_image(rgb),
    "4d": seg_image(nifti(np.zeros((14, 12, 9, 2), np.int16))),
    "5d": alone(nifti(np.zeros((14, 12, 9, 1, 3), np.int16))),
    "png_16_bits": seg_image(png_16_bits, "bad.png"),
    "png_rgb": seg_image(png("RGB"), "bad.png"),
    "png_palette": seg_image(png("P"), "bad.png"),
    "png_animated": seg_image(png(save_all=True, append_images=[Image.fromarray(GREY[::-1].copy())]), "bad.png"),
    "png_huge": seg_image(png_of_3_gigapixels, "bad.png"),
    "png_for_volume": in_cases(image="images/bad.png"),
    "npz_pickled": runs(pickled),
    "npz_no_archive": runs(no_archive),
    "npz_empty": runs(lambda path: path.touch()),
    "npz_bomb": runs(zip_bomb),
    "excerpt_pickled": published("one.npz", pickled),
    "excerpt_bomb": published("one.npz", zip_bomb),
    "published_elsewhere": published("LCTSC-Train-S1-001/1-001.dcm", lambda path: path.write_text("text")),
    "published_half": published(
        "Effusions/LUNG1-001/LUNG1-001_effusion_first_reviewer.nii.gz", lambda path: save(chest()["lung"], path)
    ),
    "published_no_mask": published("rp_im/1.nii.gz", lambda path: save(chest()["image"], path)),
    "ct_md_elsewhere": published("P001.zip", words("404")),
    "ct_md_text": published("COVID-19 subjects/P001/IM0001.dcm", words("404")),
    "spgc_elsewhere": published("Test-1/readme.txt", words("404")),
    "spgc_text": published("Test-1/T001/IM0001.dcm", words("404")),
    "ccii_elsewhere": published("NCP-1.zip", words("404")),
    "ccii_gap": published_files({f"NCP/16/1164/{number:04d}.png": png() for number in (0, 1, 3)}),
    "ccii_text": published_files({f"NCP/16/1164/{number:04d}.png": words("404") for number in range(3)}),
    "ccii_few": published_files({f"NCP/16/1164/{number:04d}.png": png() for number in range(3)}),
    "stoic_half": published("data/mha/2.mha", words("404")),
    "stoic_text": published_files(
        {"data/mha/2.mha": words("404"), "metadata/reference.csv": words("PatientID,probCOVID,probSevere\n2,1,0\n")}
    ),
    "stoic_columns": published_files(
        {"data/mha/2.mha": words("404"), "metadata/reference.csv": words("PatientID,label\n2,1\n")}
    ),
    "mosmed_elsewhere": published("COVID19_1110.zip", words("404")),
    "mosmed_mask": published_files(
        {"studies/CT-1/study_0255.nii.gz": volume("image"), "masks/study_0255_mask.nii.gz": volume("infection", cut=1)}
    ),
    "covid19_20_elsewhere": published("Train/readme.txt", words("404")),
    "covid19_20_no_mask": published("Train/volume-covid19-A-0003_ct.nii.gz", volume("image")),
    "covid19_20_text": published_files(
        {
            "Train/volume-covid19-A-0003_ct.nii.gz": words("404"),
            "Train/volume-covid19-A-0003_seg.nii.gz": volume("infection"),
        }
    ),
    "masks_text": alone(words("404")),
    "masks_one_slice": alone(nifti(chest()["image"][:, :, :1])),
    "masks_stored": alone(nifti(chest()["image"] + 1024)),
    "masks_of_nothing": alone(lambda path: path.mkdir()),
    "folder": seg_image(lambda path: path.mkdir()),
    "pipe": seg_image(lambda path: os.mkfifo(path)),
    "way_out": seg_entry(image="../../etc/passwd"),
    "no_image": seg_entry(image="/etc/passwd"),
    "absolute": (elsewhere, names_bad),
    "case_id_way_out": seg_entry(case_id="../../x"),
    "case_id_lines": seg_entry(case_id="a\nb"),
    "case_id_long": in_cases(case_id="a" * 300),
    "case_id_twice": seg_entry(case_id="good"),
    "dots": alone(nifti(chest()["image"]), "...nii.gz"),
    "line_break": seg_named("bad\nx.nii.gz"),
    "signs": (seg_named("bad -ö 肺 'x'.nii.gz"), names_bad),
    "latin_1": (seg_named("bad" + os.fsdecode(b"\xe9") + ".nii.gz"), names_bad),
    "long_name": seg_entry(image="a" * 5000 + ".nii.gz"),
    "null": in_cases(image="a\0b.nii.gz"),
    "not_json": seg_text("{'cases': []}"),
    "top_level": seg_text("[1]"),
    "key_twice": seg_text(
        '{"cases": [{"image": "images/bad.nii.gz", "image": "images/good.nii.gz", "label": "masks/bad.nii.gz"}]}'
    ),
    "junk": seg_text('{"cases": [' + "1," * 50_000_000 + "1]}"),
    "deep": seg_text('{"cases": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "nan": in_cases(ratio=float("nan")),
}


@pytest.mark.parametrize("row", rows_of("Files and lists"), ids=lambda row: row.name)
def test_files(row, tmp_path, caplog):
    row.check(INPUTS[row.name], tmp_path, caplog)


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
