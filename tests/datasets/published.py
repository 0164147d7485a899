"""Synthetic chests in the published layouts of the data sets, with their traps."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
from contourpy import contour_generator
from custom_components.phantom import Phantom, make_volume, write_dicom
from custom_components.phantom.dicom import write_dicom_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
GRID = {"shape": (64, 56, 26), "spacing_mm": (5.9, 6.6, 11.5)}
LESIONS = {"ground_glass": 90.0, "consolidation": 60.0, "pleural_effusion": 120.0}


def cases_of(datalist: Path) -> dict[str, dict]:
    """Entries of a datalist by case id."""
    return {case["case_id"]: case for case in json.loads(datalist.read_text(encoding="utf-8"))["cases"]}


def reasons_of(datalist: Path) -> dict[str, str]:
    """Reasons for skipped scans by case id."""
    with (datalist.parent / "left_out.csv").open(encoding="utf-8", newline="") as file:
        return {row["case_id"]: row["reason"] for row in csv.DictReader(file)}


def chest(seed: int) -> Phantom:
    """Voxels run to Left, Posterior, Superior."""
    return make_volume(seed=seed, lesions_ml=LESIONS, **GRID)


def flipped(array: np.ndarray, affine: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The same volume stored in the other direction along an axis, header and all."""
    turned = affine.copy()
    turned[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
    turned[:3, axis] *= -1
    return np.flip(array, axis), turned


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), affine), path)
    return path


def grey(hu: np.ndarray) -> np.ndarray:
    """The window -1250 to 250 HU in 8 bits."""
    return np.rint((np.clip(hu, -1250, 250) + 1250) / 1500 * 255).astype(np.uint8)


def write_covid20(root: Path, phantoms: Mapping[str, Phantom]) -> Path:
    """Zenodo 3757476: coronacases in HU, y to Anterior; radiopaedia in 8 bits, images with a header of another flip."""
    for name, phantom in phantoms.items():
        sides = np.where(np.arange(phantom.lung.shape[0])[:, None, None] < phantom.lung.shape[0] / 2, 2, 1)
        infection, lung = phantom.infection, np.where(phantom.lung > 0, sides, 0).astype(np.uint8)
        masks = {
            "Lung_Mask": lung,
            "Infection_Mask": infection * 0.996,
            "Lung_and_Infection_Mask": np.where(infection > 0, 3, lung).astype(np.uint8),
        }
        if name.startswith("radiopaedia"):
            axes = [1, 2] if name == "radiopaedia_7_85703_0" else [1]
            header = phantom.affine
            for axis in axes:
                _, header = flipped(infection, header, axis)
            image, place = (grey(phantom.image_hu), header), phantom.affine
        else:
            image = flipped(np.rint(phantom.image_hu).astype(np.int16), phantom.affine, 1)
            masks = {folder: flipped(mask, phantom.affine, 1)[0] for folder, mask in masks.items()}
            place = image[1]
        save(root / "COVID-19-CT-Seg_20cases" / f"{name}.nii.gz", *image)
        for folder, mask in masks.items():
            save(root / folder / f"{name}.nii.gz", mask, place)
    junk = root / "__MACOSX" / "Lung_Mask" / "._coronacases_001.nii.gz"
    junk.parent.mkdir(parents=True, exist_ok=True)
    junk.write_bytes(b"\0\5\x16\7")
    return root


def write_medseg(root: Path, phantoms: Mapping[str, Phantom]) -> Path:
    """MedSeg's volumes: masks as floats; the header of a lesion mask is another one than the image's."""
    for name, phantom in phantoms.items():
        save(root / "rp_im" / f"{name}.nii.gz", phantom.image_hu, phantom.affine)
        save(root / "rp_msk" / f"{name}.nii.gz", phantom.label - 1e-5, flipped(phantom.label, phantom.affine, 1)[1])
        save(root / "rp_lung_msk" / f"{name}.nii.gz", whole_lung(phantom), phantom.affine)
    return root


def whole_lung(phantom: Phantom) -> np.ndarray:
    return (phantom.lung | (phantom.label > 0)).astype(np.float32)


def write_ct(root: Path, collection: str, patient: str, phantom: Phantom) -> Path:
    """A CT series as the archive's downloader saves it."""
    folder = root / "manifest-1586193031612" / collection / patient / "09-18-2008-StudyID-NA-69331"
    return write_dicom(phantom, folder / "0.000000-NA-82046", patient_id=patient)


def reviewers(phantom: Phantom) -> tuple[np.ndarray, np.ndarray]:
    """Effusion as two reviewers draw it: with a voxel more along y, and with one more along x."""
    effusion = phantom.label == 3
    return effusion | np.roll(effusion, -1, axis=1), effusion | np.roll(effusion, 1, axis=0)


def write_plethora(root: Path, phantoms: Mapping[str, Phantom]) -> Path:
    """PleThora's masks, stored with y towards Anterior."""
    for patient, phantom in phantoms.items():
        first, second = reviewers(phantom)
        cavity = np.where(whole_lung(phantom) > 0, np.where(np.arange(64)[:, None, None] < 32, 2, 1), 0)
        for name, mask in {
            f"Thoracic_Cavities/{patient}/{patient}_thor_cav_primary_reviewer": cavity.astype(np.uint8),
            f"Effusions/{patient}/{patient}_effusion_first_reviewer": first * 0.996,
            f"Effusions/{patient}/{patient}_effusion_second_reviewer": second * 1.0,
        }.items():
            save(root / f"{name}.nii.gz", *flipped(mask, phantom.affine, 1))
    return root


def contours_of(mask: np.ndarray, affine: np.ndarray) -> list[np.ndarray]:
    """Closed contours half-way between the voxels inside and outside, in patient position (LPS, mm)."""
    found = []
    for k in range(mask.shape[2]):
        for line in contour_generator(z=np.pad(mask[..., k], 1).astype(float)).lines(0.5):
            index = np.column_stack([line[:, 1] - 1, line[:, 0] - 1, np.full(len(line), float(k))])
            found.append((index @ affine[:3, :3].T + affine[:3, 3]) * [-1, -1, 1])
    return found


def write_rtstruct(path: Path, patient: str, structures: Mapping[str, list], frame: str) -> Path:
    """An RTSTRUCT with contours by the names of structures."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = RTSTRUCT
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = generate_uid()
    file.PatientName, file.PatientID, file.Modality = "Secret^Person", patient, "RTSTRUCT"
    file.SeriesInstanceUID = "1.2.3"
    file.StructureSetROISequence, file.ROIContourSequence = Sequence(), Sequence()
    for number, (name, contours) in enumerate(structures.items(), start=1):
        roi, contour = Dataset(), Dataset()
        roi.ROINumber = contour.ReferencedROINumber = number
        roi.ROIName, roi.ReferencedFrameOfReferenceUID = name, frame
        contour.ContourSequence = Sequence()
        for points in contours:
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            item.ContourData = [f"{value:.4f}" for value in np.asarray(points).ravel()]
            contour.ContourSequence.append(item)
        file.StructureSetROISequence.append(roi)
        file.ROIContourSequence.insert(0, contour)  # in another order than the names
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom_file(file, path)
    return path


def lungs_of(phantom: Phantom) -> dict[str, np.ndarray]:
    """Left and right lung, by the names that LCTSC has."""
    left = np.arange(phantom.lung.shape[0])[:, None, None] >= phantom.lung.shape[0] / 2
    return {"Lung_L": (phantom.lung > 0) & left, "Lung_R": (phantom.lung > 0) & ~left}
