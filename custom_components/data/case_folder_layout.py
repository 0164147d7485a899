from pathlib import Path
from typing import Any

from custom_components.data.ct_reader import case_name
from monai.config import PathLike
from monai.data.folder_layout import FolderLayoutBase


class CaseFolderLayout(FolderLayoutBase):
    """Where ``SaveImage`` writes: ``<output_dir>/<case>/<case>_<postfix><extension>``, beside the case's report.

    MONAI's FolderLayout cuts whatever follows the last dot, also of a DICOM folder's name, which often is a UID.

    Args:
        output_dir: folder that gets a folder for each case.
        postfix: what follows the case's name.
        extension: suffix of the file.

    Example:
        >>> CaseFolderLayout("eval", "seg", ".nii.gz").filename("scans/1.2.840").as_posix()
        'eval/1.2.840/1.2.840_seg.nii.gz'
    """

    def __init__(self, output_dir: PathLike, postfix: str, extension: str) -> None:
        self.output_dir = Path(output_dir)
        self.postfix = postfix
        self.extension = extension

    def filename(self, subject: PathLike = "subject", idx: int | None = None, **kwargs: Any) -> Path:
        """Name of the file.

        Args:
            subject: file or folder that the image was loaded from.
            idx: number of a patch, appended to the name.
            kwargs: appended to the name.

        Returns:
            The path; its folder is not made.
        """
        case = case_name(subject)
        index = [] if idx is None else [str(idx)]
        more = [self.postfix, *index, *(f"{key}-{value}" for key, value in kwargs.items())]
        return self.output_dir / case / f"{'_'.join([case, *more])}{self.extension}"
