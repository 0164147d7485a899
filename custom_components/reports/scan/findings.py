"""What is known of one scan after `diagnose`, on the CT's own grid: what every report is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
from custom_components.dicom.chest_series import Series

# Of an affine: beyond, lengths and volumes are no numbers any more.
MOST_MM = 1e9


@dataclass(frozen=True)
class Model:
    """A network that was applied.

    Args:
        name: what it is for, such as ``lungs and infection (VB-Net)``.
        version: of its bundle.
        weights: file name of its weights.
        sha256: of that file.
        trained_on: data it was trained on, in words; ``unknown`` where its bundle does not say.
    """

    name: str
    version: str
    weights: str
    sha256: str
    trained_on: str = "unknown"


@dataclass(frozen=True)
class Scores:
    """Probabilities of COVID-19 against CAP (Ouyang et al. 2020, Eq. 5).

    Args:
        p_us: of the branch with uniform sampling.
        p_ss: of the branch with size-balanced sampling.
        p_final: of the ensemble; None when the infection ratio is unknown.
        weight_us: weight of the uniform branch; None likewise.
        threshold: P_final from which a scan is called COVID-19.
    """

    p_us: float
    p_ss: float
    p_final: float | None
    weight_us: float | None
    threshold: float = 0.5


@dataclass(frozen=True)
class ScanFindings:
    """Findings of one scan.

    Args:
        case_id: name of the case in files and reports; not the patient's.
        image_hu: CT, float32 (X, Y, Z).
        affine: (4, 4) voxel index to patient position in RAS mm.
        lungs: 0 background, 1 left, 2 right lung, uint8 (X, Y, Z); infected lung included.
        lung_source: what made the lung mask, in words.
        infection: 0/1, uint8 (X, Y, Z), inside the lungs; None when VB-Net could not segment it.
        infection_source: what made it, in words; None likewise.
        lesions: 0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion, uint8 (X, Y, Z); None when left out.
        lesion_slices: slices that were searched for lesions, as indices of the array along the body's axis.
        attention_us: T(A) in [0, 1], float32 (X, Y, Z), of the branch with uniform sampling; None without weights.
        attention_ss: that of the size-balanced branch; None likewise.
        scores: None without weights of the classifier.
        series: None when the scan is no DICOM series.
        models: networks that were applied.
        seconds: wall-clock time of each stage, in their order.
        not_done: what was left out, and why, in sentences.
        warnings: what is odd about the scan or its masks, and may make the findings wrong, in sentences.
        patient_id: PatientID; None unless the user asked for it.
        scan_sha256: tells the scan from another of the same name; None when unknown.
    """

    case_id: str
    image_hu: np.ndarray
    affine: np.ndarray
    lungs: np.ndarray
    lung_source: str
    infection: np.ndarray | None = None
    infection_source: str | None = None
    lesions: np.ndarray | None = None
    lesion_slices: tuple[int, ...] = ()
    attention_us: np.ndarray | None = None
    attention_ss: np.ndarray | None = None
    scores: Scores | None = None
    series: Series | None = None
    models: tuple[Model, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    not_done: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    patient_id: str | None = None
    scan_sha256: str | None = None

    def __post_init__(self) -> None:
        for name in ("lungs", "infection", "lesions", "attention_us", "attention_ss"):
            array = getattr(self, name)
            if array is not None and array.shape != self.image_hu.shape:
                raise ValueError(
                    f"Case {self.case_id}: {name} has shape {array.shape}, the CT {self.image_hu.shape}. Expected all "
                    "on the CT's own grid: bring it back there first."
                )
        if not np.abs(self.affine).max() < MOST_MM or np.isnan(nib.io_orientation(self.affine)).any():
            raise ValueError(
                f"Case {self.case_id}: the affine is {np.asarray(self.affine).tolist()}. Expected finite numbers and "
                "three axes, voxel index to mm: take that of the CT's file."
            )
