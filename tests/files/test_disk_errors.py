import errno
import os
import resource
import shutil
from collections import namedtuple

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.files.atomic import atomic_path, new_folder, writable_folder
from custom_components.files.disk_errors import NotWrittenError, full_folders, named_when_not_written
from custom_components.files.report_files import write_csv, write_json, write_png
from PIL import Image

from tests.full_disk import fill_disk


def write_nifti(path) -> None:
    with atomic_path(path) as temporary:
        nib.save(nib.Nifti1Image(np.random.default_rng(0).random((23, 24, 25)), np.eye(4)), temporary)


def write_weights(path) -> None:
    with atomic_path(path) as temporary:
        torch.save({"weight": torch.rand(300, 301)}, temporary)


WRITERS = {
    "a.json": lambda path: write_json(path, {"a": 1}),
    "a.csv": lambda path: write_csv(path, [{"case_id": "a"}]),
    "a.png": lambda path: write_png(path, Image.new("L", (20, 30))),
    "a.nii.gz": write_nifti,
    "a.nii": write_nifti,
    "a.pt": write_weights,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_reported_with_the_name_of_the_file_and_the_old_file_is_kept(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    fill_disk(monkeypatch, "a.*")
    message = rf"^{path} could not be written: .*\. Free space, or choose another folder\.$"
    with pytest.raises(NotWrittenError, match=message) as caught:
        WRITERS[name](path)
    assert caught.value.errno == errno.ENOSPC
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"old"


def test_a_limit_of_file_sizes_is_reported(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(NotWrittenError, match=r"a.nii could not be written: File too large. .* \(ulimit -f\)"):
            write_nifti(tmp_path / "a.nii")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_several_files_is_reported_by_its_final_name(tmp_path, monkeypatch):
    fill_disk(monkeypatch, "a.json")
    message = (
        f"^{tmp_path / 'set'} could not be written: No space left on device. Free space, or choose another folder.$"
    )
    with pytest.raises(NotWrittenError, match=message), new_folder(tmp_path / "set") as folder:
        write_json(folder / "a.json", {})
    assert not list(tmp_path.iterdir())


def test_a_folder_removed_during_writing_is_reported(tmp_path):
    message = r"a.pt could not be written: No such file or directory. Its folder was removed: keep the folder"
    folder = tmp_path / "out"
    with pytest.raises(NotWrittenError, match=message), atomic_path(folder / "a.pt"):
        shutil.rmtree(folder)
    with pytest.raises(NotWrittenError, match=message), atomic_path(folder / "a.pt") as temporary:
        torch.save({}, shutil.rmtree(folder) or temporary)


def test_a_read_only_disk_is_reported(tmp_path):
    message = r"a.txt could not be written: Read-only file system. Make it writable, or choose another folder"
    with pytest.raises(NotWrittenError, match=message), atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(errno.ENOENT, "No such file", "/data/scan.nii.gz"), OSError("odd"), RuntimeError("odd")],
    ids=str,
)
def test_errors_of_other_files_are_not_changed(tmp_path, error):
    with pytest.raises(type(error)) as caught, named_when_not_written(tmp_path / "a.txt"):
        raise error
    assert caught.value is error


def test_full_folders_of_this_process_are_found(tmp_path, monkeypatch):
    roomy, full = writable_folder(tmp_path / "roomy"), writable_folder(tmp_path / "full")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0 if path == full else 2**30))
    assert full_folders() == [full]
    assert roomy.is_dir()


def test_a_full_disk_is_reported_as_not_writable(tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("needs /dev/full")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
    message = r"Output folder .*out cannot be written to \(No space left on device\). Choose another folder, or free"
    with pytest.raises(ValueError, match=message):
        writable_folder(tmp_path / "out")
