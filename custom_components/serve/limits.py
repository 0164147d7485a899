"""What an upload may be, and how a refusal says so."""

from dataclasses import dataclass

GB = 10**9


@dataclass(frozen=True)
class Limits:
    """Bounds of uploads.

    Args:
        upload_bytes: largest upload, in bytes; also of the content of its zip files.
        files: most files of an upload.
        ratio: largest ratio of the content of a zip file to its size.
        unfinished: most uploads that wait, run or are sent at the same time.
        free_bytes: space of the disk that stays free, in bytes, for results and other programs.
    """

    upload_bytes: int = 4 * GB
    files: int = 20_000
    ratio: int = 100
    unfinished: int = 50
    free_bytes: int = 2 * GB


class RefusedError(ValueError):
    """A request or upload that is refused.

    Args:
        status: HTTP status.
        reason: sentence for the user: what was wrong and what to do. It does not repeat names of files.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
