"""A scan to diagnose: its name, its DICOM series and its voxels."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from custom_components.diagnosis.kept_results import StageClock, volume_digest
from custom_components.dicom.chest_series import ChestSeries, Series, find_chest_series
from custom_components.dicom.volume import series_volume
from custom_components.files.digest import file_digest
from custom_components.images.ct_reader import NIFTI_SUFFIXES, NOTES, CTReader, case_name, warn_once
from monai.data import MetaTensor
from monai.utils import ImageMetaKey

NOT_ALONE = "another scan with the same file name or SeriesInstanceUID has results in the same folder"
EXPECTED = "Expected a NIfTI file (.nii, .nii.gz), the folder of a DICOM study or series, or a folder of these"


@dataclass(frozen=True)
class ScanSource:
    """File or folder of a scan. DICOM headers are read at first use, voxels by ``image``.

    Args:
        path: NIfTI file, or the folder of one DICOM study.
        suffix: end of the case's name if another scan has the same name.
        name: name of the case in a datalist; empty: its SeriesInstanceUID, or the name of the NIfTI file.
        clock: measures the stages of the scan.
    """

    path: Path
    suffix: str = ""
    name: str = ""
    clock: StageClock = field(default_factory=StageClock, compare=False, repr=False)

    @cached_property
    def chest(self) -> ChestSeries | None:
        """The selected series; None for a NIfTI file.

        Raises:
            ValueError: when the folder has no series, or was removed. The message does not contain the folder's name,
                which may be the patient's name.
        """
        if not self.path.is_dir():
            if not self.path.exists() and not is_nifti(self.path):
                raise ValueError("The folder of the scan was removed during the run. Restore it and start again.")
            return None
        with self.clock.stage("find the series"):
            return find_chest_series(self.path)

    @property
    def case_id(self) -> str:
        """The given name; otherwise SeriesInstanceUID, since folders may have the names of patients, or file name."""
        if self.name:
            return self.name + self.suffix
        return (case_name(self.path) if self.chest is None else self.chest.series.uid) + self.suffix

    @cached_property
    def sha256(self) -> str:
        """Hash of the file, or of identifiers and pixels of the series, to distinguish scans of the same name."""
        return file_digest(self.path) if self.chest is None else self.chest.sha256

    @property
    def series(self) -> Series | None:
        """The selected series; None for a NIfTI file."""
        return None if self.chest is None else self.chest.series

    def image(self) -> MetaTensor:
        """Read the CT.

        Returns:
            HU, float32 (1, X, Y, Z) with its RAS affine. Its metadata are the case's name and notes on irregularities
            of the scan (``reading_notes``), without DICOM headers.

        Raises:
            ValueError: naming the case, when there is no readable CT volume.
        """
        if self.chest is None:
            if not is_nifti(self.path):
                raise ValueError(f"Case {self.case_id}: the type of {self.path.name} is not supported. {EXPECTED}.")
            reader = CTReader()
            hu, meta = reader.get_data(reader.read(self.path))
            affine, odd = meta["affine"], meta[NOTES]
        else:
            hu, notes = series_volume(self.chest.volume, self.case_id)
            affine = self.chest.volume.affine
            warn_once(self.case_id, notes)
            odd = "; ".join(notes)
        odd = "; ".join(filter(None, (odd, NOT_ALONE if self.suffix else "")))
        if min(hu.shape) < 2:
            size = " x ".join(map(str, hu.shape))
            raise ValueError(
                f"Case {self.case_id}: the image is {size} voxels. Expected a CT volume of the whole chest."
            )
        meta = {ImageMetaKey.FILENAME_OR_OBJ: self.case_id, NOTES: odd}
        return MetaTensor(torch.from_numpy(hu)[None], affine=torch.from_numpy(np.array(affine, float)), meta=meta)


@dataclass(frozen=True)
class GivenVolume:
    """A CT in memory, used like a :class:`ScanSource`.

    Args:
        hu: CT in HU, (1, X, Y, Z), with its affine (RAS mm).
        case_id: name of the case.
        clock: measures the stages of the scan.
    """

    hu: MetaTensor
    case_id: str
    clock: StageClock = field(default_factory=StageClock, compare=False, repr=False)
    chest: None = None
    series: None = None

    @property
    def sha256(self) -> str:
        """Hash of voxels and affine."""
        return volume_digest(np.asarray(self.hu[0]), self.hu.affine.numpy())

    def image(self) -> MetaTensor:
        """The CT as float32, without its metadata except the case's name.

        Raises:
            ValueError: naming the case, when it is not a volume of finite numbers.
        """
        if self.hu.ndim != 4 or self.hu.shape[0] != 1 or min(self.hu.shape[1:]) < 2:
            raise ValueError(f"Case {self.case_id}: the CT has shape {tuple(self.hu.shape)}. Expected (1, X, Y, Z).")
        if not bool(torch.isfinite(self.hu).all()):
            raise ValueError(f"Case {self.case_id}: the CT has NaN or infinite values. Set them to -1024 (air).")
        meta = {ImageMetaKey.FILENAME_OR_OBJ: self.case_id, NOTES: ""}
        return MetaTensor(self.hu.as_tensor().float(), affine=self.hu.affine, meta=meta)


def is_nifti(path: Path) -> bool:
    """Whether a file has the suffix of a NIfTI file."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)
