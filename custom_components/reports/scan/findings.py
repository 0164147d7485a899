"""Findings of one scan from `diagnose` on the CT's grid: input of all reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from custom_components.dicom.chest_series import Series

# Limit of affine values: above it, lengths and volumes overflow.
MOST_MM = 1e9


@dataclass(frozen=True)
class Model:
    """A network that was applied.

    Args:
        name: purpose, such as ``lungs and infection (VB-Net)``.
        version: version of its bundle.
        weights: file name of its weights.
        sha256: hash of that file.
        trained_on: description of the training data; ``unknown`` if the bundle does not state it.
        synthetic: whether all training data are phantoms.
        left_out: scores on data without the training's, by structure: ``dice`` (values), ``on`` (the data) and, for
            infection, ``false_percent`` of the lungs in a CT without infection; empty if the bundle states none.
    """

    name: str
    version: str
    weights: str
    sha256: str
    trained_on: str = "unknown"
    synthetic: bool = False
    left_out: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """Probabilities of COVID-19 against CAP (Ouyang et al. 2020, Eq. 5).

    Args:
        p_us: probability of the branch with uniform sampling.
        p_ss: probability of the branch with size-balanced sampling.
        p_final: probability of the ensemble; None if the infection ratio is unknown.
        weight_us: weight of the uniform branch; None if the infection ratio is unknown.
        threshold: minimum P_final of a COVID-19 classification.
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
        lung_source: origin of the lung mask, in words.
        infection: 0/1, uint8 (X, Y, Z), inside the lungs; None if VB-Net could not segment it.
        infection_source: origin of the infection mask, in words; None without one.
        lesions: 0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion, uint8 (X, Y, Z); None if skipped.
        lesion_slices: slices that were searched for lesions, as indices of the array along the body's axis.
        attention_us: T(A) in [0, 1], float32 (X, Y, Z), of the branch with uniform sampling; None without weights.
        attention_ss: attention of the size-balanced branch; None without weights.
        scores: probabilities; None without weights of the classifier.
        series: DICOM series; None if the scan is not a DICOM series.
        models: networks that were applied.
        seconds: wall-clock time of each stage, in order.
        not_done: skipped steps with reasons, in sentences.
        warnings: problems of the scan or masks that may make the findings wrong, in sentences.
        patient_id: PatientID; None unless the user requested it.
        scan_sha256: hash that identifies the scan; None if unknown.
        vbnet_infection: the infection that VB-Net alone marked, 0/1, uint8 (X, Y, Z); None without VB-Net.
        mirror_slices: number of slices that the lesion network also segmented as mirror images.
        mirror_dice: Dice of its infection in the lungs between these slices and their mirror images; None if unknown.
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
    vbnet_infection: np.ndarray | None = None
    mirror_slices: int = 0
    mirror_dice: float | None = None

    def __post_init__(self) -> None:
        for name in ("lungs", "infection", "vbnet_infection", "lesions", "attention_us", "attention_ss"):
            array = getattr(self, name)
            if array is not None and array.shape != self.image_hu.shape:
                raise ValueError(
                    f"Case {self.case_id}: {name} has shape {array.shape}, the CT {self.image_hu.shape}. Expected all "
                    "on the CT's grid: map it back to that grid first."
                )
        if not np.abs(self.affine).max() < MOST_MM or np.isnan(nib.io_orientation(self.affine)).any():
            raise ValueError(
                f"Case {self.case_id}: the affine is {np.asarray(self.affine).tolist()}. Expected finite numbers and "
                "three axes, voxel index to mm: use the affine of the CT file."
            )
