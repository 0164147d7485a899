from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.files.atomic import writable_folder
from custom_components.handlers.case_files import NATIVE, CaseFiles
from custom_components.images.case_id import source_path
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES
from custom_components.pictures.figures import draw_slice, lesion_words
from custom_components.pictures.sheet import short_name
from custom_components.pictures.slices import slices_to_show
from custom_components.reports.lesions import CaseLesions, describe_lesions
from custom_components.transforms.lungs.fallback_lung_mask import FILE_SOURCE, SOURCE_KEY
from monai.utils import CommonKeys
from PIL import Image

LUNG = "lung"


class LesionCaseFiles(CaseFiles):
    """Ignite handler that writes a report of the lesions of each case of an inference.

    Writes ``<output_dir>/<case>/<case>_lesions.json`` (volumes, percent of the lung, slices with lesions),
    ``<case>_overlay_NNN.png`` (NNN is the slice's index in the file) and, for PNG input, the label map
    ``<case>_seg.png``. The JSON is written last: if it exists, the report is complete.

    Reads from each case ``pred``, the label map (1, X, Y[, Z]) on the grid of the file; ``native``, the CT in HU as
    loaded, with its metadata; and, if present, ``lung`` and ``label``, stored in any orientation.

    Args:
        output_dir: folder for the folders of the cases.
        overlay_slices: maximum number of slices to draw of a volume: those with most lesion, at least 1 cm apart.
        notes: sentences on the whole run, for the JSON of each case.
    """

    def __init__(self, output_dir: str | Path, overlay_slices: int = 6, notes: Sequence[str] = ()) -> None:
        if overlay_slices < 0:
            raise ValueError(f"Expected overlay_slices >= 0, got {overlay_slices}. Set 0 for no overlays.")
        super().__init__(output_dir, notes)
        self.overlay_slices = overlay_slices

    def write_case(self, item: Mapping[str, Any], name: str, folder: Path) -> None:
        """Write overlays and JSON of one case."""
        native = item[NATIVE]
        is_png = Path(source_path(native) or "").suffix.lower() == ".png"
        case = CaseLesions(
            name,
            self.volume(item, NATIVE).astype(np.float32),
            self.volume(item, CommonKeys.PRED),
            np.asarray(native.affine, dtype=np.float64),
            truth=self.mask_if_there(item, CommonKeys.LABEL),
            lung=self.mask_if_there(item, LUNG),
            has_spacing=not is_png,
        )
        writable_folder(folder)
        shown = slices_to_show(case.lesion_pixels, case.display.spacing_mm[2], self.overlay_slices)
        overlays = {f"{name}_overlay_{case.slice_indices[z]:03d}.png": z for z in shown}
        written = [file for file, z in overlays.items() if self.write_picture(folder / file, name, _overlay(case, z))]
        if is_png:
            self.write_picture(folder / f"{name}_seg.png", name, Image.fromarray(case.label[..., 0].T))
        report = describe_lesions(case)
        if report["lung"] is not None:
            report["lung"]["source"] = item.get(SOURCE_KEY, FILE_SOURCE)
        report["overlays"] = written
        self.write_last(folder / f"{name}_lesions.json", name, item, report)


def _overlay(case: CaseLesions, z: int) -> Image.Image:
    labels = {"truth": case.truth, "prediction": case.label}
    shown = {name: label[..., z] for name, label in labels.items() if label is not None}
    name, last = short_name(case.case_id), len(case.slice_indices) - 1
    title = f"{name}, slice {case.slice_indices[z]} (of 0 to {last})" if last else name
    return draw_slice(case.image_hu[..., z], shown, title + _dice_in_words(case), case.display.spacing_mm[:2])


def _dice_in_words(case: CaseLesions) -> str:
    """Dice of the whole case for each class in truth or prediction; empty without truth."""
    if case.truth is None:
        return ""
    counted = case.truth != IGNORE_LABEL
    scores = []
    for value, name in enumerate(LESION_CLASSES, 1):
        true, predicted = (case.truth == value) & counted, (case.label == value) & counted
        if size := true.sum() + predicted.sum():
            scores.append(f"{lesion_words(name)} {2 * (true & predicted).sum() / size:.2f}")
    return f"; Dice of the case: {', '.join(scores) or 'no lesion'}"
