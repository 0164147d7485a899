"""A scan that is to be looked at: what it is called, which series it is, and its voxels."""

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

NOT_ALONE = "another scan with its file name or SeriesInstanceUID has results in the same folder"
EXPECTED = "Expected a NIfTI file (.nii, .nii.gz), the folder of a DICOM study or series, or a folder of these"


@dataclass(frozen=True)
class ScanSource:
    """Where a scan is from. DICOM headers are read when first asked for, voxels by ``image``.

    Args:
        path: NIfTI file, or the folder of one DICOM study.
        suffix: makes another name of the case, where another scan has its own.
        clock: measures the stages that the scan goes through.
    """

    path: Path
    suffix: str = ""
    clock: StageClock = field(default_factory=StageClock, compare=False, repr=False)

    @cached_property
    def chest(self) -> ChestSeries | None:
        """The series that is taken; None for a NIfTI file.

        Raises:
            ValueError: when the folder holds none, or is gone. Its name is not told, it may be the patient's.
        """
        if not self.path.is_dir():
            if not self.path.exists() and not _is_nifti(self.path):
                raise ValueError("The folder of the scan was removed meanwhile. Put it back, and start again.")
            return None
        with self.clock.stage("find the series"):
            return find_chest_series(self.path)

    @property
    def case_id(self) -> str:
        """Name of the case: SeriesInstanceUID, since folders may be named after patients, or name of the NIfTI file."""
        return (case_name(self.path) if self.chest is None else self.chest.series.uid) + self.suffix

    @cached_property
    def sha256(self) -> str:
        """Tells the scan from another of the same name: of the file, or of identifiers and pixels of the series."""
        return file_digest(self.path) if self.chest is None else self.chest.sha256

    @property
    def series(self) -> Series | None:
        """The series that is taken; None for a NIfTI file."""
        return None if self.chest is None else self.chest.series

    def image(self) -> MetaTensor:
        """Read the CT.

        Returns:
            HU, float32 (1, X, Y, Z) with its RAS affine; it carries the case's name, what is odd about the scan
            (``reading_notes``), and no DICOM header.

        Raises:
            ValueError: naming the case, when there is no CT volume that can be read.
        """
        if self.chest is None:
            if not _is_nifti(self.path):
                raise ValueError(f"Case {self.case_id}: {self.path.name} is of a kind that is not read. {EXPECTED}.")
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
    """A CT that is in memory already, in the place of a :class:`ScanSource`.

    Args:
        hu: CT in HU, (1, X, Y, Z), with its affine (RAS mm).
        case_id: name of the case.
        clock: measures the stages that the scan goes through.
    """

    hu: MetaTensor
    case_id: str
    clock: StageClock = field(default_factory=StageClock, compare=False, repr=False)
    chest: None = None
    series: None = None

    @property
    def sha256(self) -> str:
        """Tells the volume from others of its name."""
        return volume_digest(np.asarray(self.hu[0]), self.hu.affine.numpy())

    def image(self) -> MetaTensor:
        """The CT as float32, with the case's name and nothing else of its metadata.

        Raises:
            ValueError: naming the case, when it is no volume of finite numbers.
        """
        if self.hu.ndim != 4 or self.hu.shape[0] != 1 or min(self.hu.shape[1:]) < 2:
            raise ValueError(f"Case {self.case_id}: the CT has shape {tuple(self.hu.shape)}. Expected (1, X, Y, Z).")
        if not bool(torch.isfinite(self.hu).all()):
            raise ValueError(f"Case {self.case_id}: the CT has values that are no numbers. Set them to -1024, air.")
        meta = {ImageMetaKey.FILENAME_OR_OBJ: self.case_id, NOTES: ""}
        return MetaTensor(self.hu.as_tensor().float(), affine=self.hu.affine, meta=meta)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)
