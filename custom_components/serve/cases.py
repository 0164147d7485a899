"""The finished cases of an output folder: their rows for the page, their files, their removal."""

import hashlib
import hmac
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from custom_components.diagnosis.case_folder import REPORT, finished_cases
from custom_components.serve.jobs import FOLDER

VIEWER, PAGE, THUMBNAIL = "viewer.html", "report.html", "thumbnail.png"
REMOVED = ".removed-"
# Files that deflate well; NIfTI files and pictures are compressed already.
DEFLATED = (".dcm", ".json", ".html", ".csv")


class Cases:
    """Finished cases, whichever program wrote them.

    In addresses, a case has a random key instead of its name: a keyed hash that changes with each start. Requests are
    looked up among the cases and files that are there, and no part of an address becomes part of a path.

    Args:
        output_dir: output folder of ``diagnose``.
    """

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self._secret = secrets.token_bytes(32)
        self._rows: dict[tuple[str, int], dict[str, Any]] = {}

    def key_of(self, name: str) -> str:
        """Key of a case."""
        return hmac.new(self._secret, name.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:40]

    def folder(self, key: str) -> Path | None:
        """Folder of the case with a key; None if there is none."""
        return next((folder for folder in self._folders() if hmac.compare_digest(self.key_of(folder.name), key)), None)

    def version(self) -> str:
        """A text that changes whenever a case is added, repeated or removed."""
        times = sorted((folder.name, _time_of(folder)) for folder in self._folders())
        return hashlib.sha256(repr(times).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def rows(self) -> list[dict[str, Any]]:
        """A row per case for the page, the newest first; a case whose report cannot be read is left out."""
        stamped = {(folder.name, _time_of(folder)): folder for folder in self._folders()}
        self._rows = {stamp: self._rows.get(stamp) or self._row(folder) for stamp, folder in stamped.items()}
        newest = sorted(self._rows.items(), key=lambda item: item[0][1], reverse=True)
        return [{**row, "time_ms": stamp[1] // 10**6} for stamp, row in newest if row]

    def remove(self, key: str) -> str | None:
        """Remove a case, and its row in the overview of all cases.

        Args:
            key: its key.

        Returns:
            Its name; None if there is none.
        """
        folder = self.folder(key)
        if folder is None:
            return None
        gone = self.output_dir / FOLDER / f"{REMOVED}{secrets.token_hex(8)}"
        folder.rename(gone)  # at once, so that no half of a case is ever listed
        remove_tree(gone)
        self._write_overview()
        return folder.name

    def clean_up(self) -> None:
        """Remove what an interrupted removal has left."""
        for path in (self.output_dir / FOLDER).glob(f"{REMOVED}*"):
            remove_tree(path)

    def _folders(self) -> list[Path]:
        return [folder for folder in finished_cases(self.output_dir) if not folder.name.startswith(".")]

    def _row(self, folder: Path) -> dict[str, Any]:
        from custom_components.reports.queue.overview import COLUMNS  # imports PyTorch, which takes seconds
        from custom_components.reports.queue.rows import case_rows

        found = case_rows([folder], {})
        if not found:
            return {}
        row, digits = found[0], found[0]["digits"]
        return {
            "key": self.key_of(folder.name),
            "name": folder.name.encode("utf-8", "replace").decode(),
            "why": row["why"],
            "numbers": [
                [title, None if row[name] is None else text(row[name], *([digits[name]] if name in digits else []))]
                for name, title, text in COLUMNS
            ],
            "files": [{"path": name, "bytes": (folder / name).stat().st_size} for name in file_names(folder)],
        }

    def _write_overview(self) -> None:
        from custom_components.reports.queue.overview import CSV_NAME, HTML_NAME, write_overview

        if write_overview(self.output_dir, self._folders(), {}) is None:
            for name in (CSV_NAME, HTML_NAME):
                (self.output_dir / name).unlink(missing_ok=True)


def file_names(folder: Path) -> list[str]:
    """Relative paths of the files of a case, without hidden files and links."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]


def zipped(folder: Path) -> Iterator[bytes]:
    """A case as a zip file, piece by piece: neither memory nor disk holds all of it."""
    sink = _Sink()
    with zipfile.ZipFile(cast(Any, sink), "w") as archive:
        for name in file_names(folder):
            method = zipfile.ZIP_DEFLATED if name.endswith(DEFLATED) else zipfile.ZIP_STORED
            entry = zipfile.ZipInfo.from_file(folder / name, f"{folder.name}/{name}")
            entry.compress_type = method
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                while content := source.read(2**20):
                    target.write(content)
                    yield sink.taken()
    yield sink.taken()


class _Sink:
    """A file that can only be written to; what was written is taken out again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, content: bytes) -> int:
        self._parts.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        content, self._parts = b"".join(self._parts), []
        return content


def remove_tree(path: Path) -> None:
    """Remove a folder, or a link to one but not its target."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _time_of(folder: Path) -> int:
    try:
        return (folder / REPORT).stat().st_mtime_ns
    except OSError:  # just removed
        return 0
