"""Unpack the zip files of an upload: checked before, and counted while unpacking, because their headers may lie."""

import io
import stat
import zipfile
import zlib
from functools import partial

from custom_components.serve.limits import GB, Limits, RefusedError
from custom_components.serve.names import safe_parts
from custom_components.serve.uploads import Upload

CHUNK = 2**20
# Largest list of content that is read: more than 20,000 files with long names need.
MOST_LIST_BYTES = 32 * 2**20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1
DAMAGED = "The zip file is damaged or not a zip file. Nothing was kept. Make it again, or send the folder itself."
BOMB = (
    "The zip file would unpack to {}. Nothing was kept. A zip file of CT scans has at most {:g} GB of content, and at "
    "most {} times its own size."
)


def unpack_zips(upload: Upload) -> None:
    """Unpack and remove the zip files of an upload; their files count like files that were sent.

    Args:
        upload: the upload.

    Raises:
        RefusedError: when a zip file is damaged, encrypted, too large, contains links, other zip files or names that
            are not allowed.
    """
    for path in upload.zips:
        size = path.stat().st_size
        upload.bytes -= size
        try:
            with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
                for entry in checked_entries(archive.infolist(), size, upload.limits):
                    _unpack(archive, entry, upload)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError) as error:
            raise RefusedError(422, DAMAGED) from error
        path.unlink()
    upload.zips.clear()


def checked_entries(entries: list[zipfile.ZipInfo], zip_bytes: int, limits: Limits) -> list[zipfile.ZipInfo]:
    """Files of a zip file, once all its entries are checked by their headers.

    Args:
        entries: entries as listed.
        zip_bytes: size of the zip file.
        limits: bounds of an upload.

    Returns:
        The entries that are files.

    Raises:
        RefusedError: as :func:`unpack_zips`.
    """
    if len(entries) > limits.files:
        raise RefusedError(
            413, f"The zip file has more than {limits.files:,} entries. Nothing was kept. Send one study."
        )
    content = sum(entry.file_size for entry in entries)
    if content > limits.upload_bytes or content > limits.ratio * zip_bytes:
        raise RefusedError(413, BOMB.format(f"{content / GB:.3g} GB", limits.upload_bytes / GB, limits.ratio))
    for entry in entries:
        safe_parts(entry.orig_filename.removesuffix("/"))
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RefusedError(
                422, "The zip file contains a link or a device. Nothing was kept. Make it without links."
            )
        if entry.flag_bits & ENCRYPTED:
            raise RefusedError(422, "The zip file has a password. Nothing was kept. Make it again without one.")
        if entry.compress_type not in METHODS:
            raise RefusedError(422, "The zip file uses an unusual compression. Nothing was kept. Make an ordinary one.")
    return [entry for entry in entries if not entry.is_dir()]


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, upload: Upload) -> None:
    with archive.open(entry) as source, upload.receive(entry.orig_filename, in_zip=True) as write:
        for content in iter(partial(source.read, CHUNK), b""):
            write(content)


class _Bounded(io.FileIO):
    """A file of which a single read is bounded: ``zipfile`` reads the list of content at once, however long it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes.

        Raises:
            RefusedError: when more are asked for than any list of content has.
        """
        if size is not None and size > MOST_LIST_BYTES:
            raise RefusedError(413, "The zip file has too many entries. Nothing was kept. Send one study.")
        return super().read(size) or b""
