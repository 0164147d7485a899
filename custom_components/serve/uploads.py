"""One upload: its files are counted while they arrive, and stored under numbers instead of their names."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from custom_components.dicom.files import is_dicom_file
from custom_components.serve.limits import GB, Limits, RefusedError
from custom_components.serve.names import is_left_out, is_zip, nifti_suffix, safe_parts

NO_SCAN = (
    "There is neither a NIfTI file (.nii, .nii.gz) nor a DICOM file among the {} files. Nothing was kept. Send the "
    "folder of a DICOM study, a zip file of it, or a NIfTI file."
)
LITTLE_SPACE = (
    "The disk of the output folder has {:.1f} GB free, which is too little for this upload and its results ({:g} GB "
    "stay free). Nothing was kept. Free space, or choose another output folder."
)
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Upload:
    """Files of one upload below a folder.

    A DICOM file becomes ``files/<number of its folder>/.../<number>.dcm`` and a NIfTI file
    ``files/scan_<id>_<number>.nii.gz``, so that no name of a patient is stored and no name can lead elsewhere. The name
    of the NIfTI file is that of its case in the results. Files of other kinds are dropped.

    Args:
        folder: folder of the upload; its name is the id of the upload.
        limits: bounds of the upload.

    Attributes:
        files: number of files that were kept.
        left_out: number of those that were dropped.
        bytes: size of all that was kept.
        zips: zip files that are not unpacked yet.
        is_complete: whether all files were sent.
        is_stopped: whether the user cancelled it.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.files = self.left_out = self.bytes = 0
        self.zips: list[Path] = []
        self.is_complete = self.is_stopped = False
        self._count = 0
        self._folders: dict[tuple[str, ...], int] = {}
        self.scans = scans_folder(folder)
        self.scans.mkdir(parents=True, exist_ok=True)

    def check_size(self, size: int) -> None:
        """Check that as many more bytes are allowed and fit on the disk.

        Args:
            size: bytes that are announced or have arrived.

        Raises:
            RefusedError: with status 413 or 507.
        """
        if self.bytes + size > self.limits.upload_bytes:
            raise RefusedError(
                413,
                f"The upload has more than {self.limits.upload_bytes / GB:g} GB. Nothing was kept. Send fewer scans at "
                "a time, or start the program with a larger --max_upload_gb.",
            )
        free = shutil.disk_usage(self.folder).free
        if free - size < self.limits.free_bytes:
            raise RefusedError(507, LITTLE_SPACE.format(free / GB, self.limits.free_bytes / GB))

    def check_count(self, count: int) -> None:
        """Check that a number of files is allowed.

        Raises:
            RefusedError: with status 413.
        """
        if count > self.limits.files:
            raise RefusedError(
                413,
                f"The upload has more than {self.limits.files:,} files. Nothing was kept. Send one study at a time.",
            )

    @contextmanager
    def receive(self, path: str, announced: int = 0, in_zip: bool = False) -> Iterator[Callable[[bytes], None]]:
        """Store one file, if it is a scan; all or nothing of it.

        Args:
            path: relative path as sent.
            announced: its size as announced, in bytes.
            in_zip: whether it comes from a zip file, where another zip file is refused.

        Yields:
            Function that takes the next bytes.

        Raises:
            RefusedError: when its name, the number of files or the size is not allowed, or the disk is full.
        """
        parts = safe_parts(path)
        if in_zip and is_zip(parts[-1]):
            raise RefusedError(422, "The zip file contains another zip file. Nothing was kept. Unpack it first.")
        self._count += 1
        self.check_count(self._count)
        self.check_size(announced)
        target = self._place(parts)
        arriving = target.with_name(f".{target.name}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with arriving.open("wb") as file:

                def write(content: bytes) -> None:
                    if self.is_stopped:
                        raise RefusedError(409, "The upload was cancelled.")
                    self.check_size(len(content))
                    self.bytes += len(content)
                    file.write(content)

                yield write
            self._keep(parts, arriving, target)
        except OSError as error:
            if error.errno in _DISK_IS_FULL:
                raise RefusedError(
                    507, "The disk of the output folder is full. Nothing was kept. Free space."
                ) from error
            raise
        finally:
            arriving.unlink(missing_ok=True)

    def check_any(self) -> None:
        """Check that there is a scan.

        Raises:
            RefusedError: when no file was kept.
        """
        if not self.files:
            raise RefusedError(422, NO_SCAN.format(f"{self.left_out:,}"))

    def _keep(self, parts: tuple[str, ...], arrived: Path, target: Path) -> None:
        name = parts[-1]
        if is_left_out(parts) or not (is_zip(name) or nifti_suffix(name) or _is_dicom(name, arrived)):
            self.left_out += 1
            self.bytes -= arrived.stat().st_size
            return
        arrived.replace(target)
        if is_zip(name):
            self.zips.append(target)
        else:
            self.files += 1

    def _place(self, parts: tuple[str, ...]) -> Path:
        if is_zip(parts[-1]):
            return self.folder / f"{self._count:05d}.zip"
        if suffix := nifti_suffix(parts[-1]):
            return self.scans / f"scan_{self.folder.name[:8]}_{self._count:05d}{suffix}"
        folders = [parts[: depth + 1] for depth in range(len(parts) - 1)]
        numbers = [self._folders.setdefault(folder, len(self._folders) + 1) for folder in folders]
        return self.scans.joinpath(*(f"{number:05d}" for number in numbers), f"{self._count:05d}.dcm")


def scans_folder(folder: Path) -> Path:
    """Folder of the scans of an upload, given the folder of the upload."""
    return folder / "files"


def _is_dicom(name: str, path: Path) -> bool:
    return name.lower().endswith(".dcm") or is_dicom_file(path)
