from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.files.atomic import writable_folder
from custom_components.files.report_files import write_png
from custom_components.handlers.case_report import NATIVE, CaseReport
from custom_components.images.case_id import source_path
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES
from custom_components.pictures.overlay import draw_overlay, short_name, slices_to_show
from custom_components.reports.lesions import CaseLesions, describe_lesions
from custom_components.transforms.lungs.fallback_lung_mask import FILE_SOURCE, SOURCE_KEY
from monai.utils import CommonKeys
from PIL import Image

LUNG = "lung"


class LesionReport(CaseReport):
    """Ignite handler that reports each case of an inference beside its label map.

    Writes ``<output_dir>/<case>/<case>_lesions.json`` (volumes, percent of the lung, slices with lesions),
    ``<case>_overlay_NNN.png`` (NNN is the slice's index in the file) and, for PNG input, ``<case>_seg.png`` in the
    form of the input. The JSON is written last: where it is, the report is complete.

    Of each case it takes ``pred``, the label map (1, X, Y[, Z]) on the grid of the file; ``native``, the CT in HU as
    loaded, with its metadata; and, when they are there, ``lung`` and ``label``, stored in any orientation. It
    runs after the postprocessing and before the iteration is complete, so that an error counts as the case's own.

    Args:
        output_dir: folder that gets a folder for each case.
        overlay_slices: most slices to draw of a volume, those with most lesion and at least 1 cm apart; 0 for none.
    """

    def __init__(self, output_dir: str | Path, overlay_slices: int = 6) -> None:
        if overlay_slices < 0:
            raise ValueError(f"Expected overlay_slices >= 0, got {overlay_slices}. Set 0 for no overlays.")
        super().__init__(output_dir)
        self.overlay_slices = overlay_slices

    def write_case(self, item: Mapping[str, Any], name: str, folder: Path) -> None:
        """Write report and overlays of one case.

        Args:
            item: the case's input and output.
            name: its name.
            folder: its folder.

        Raises:
            ValueError: when something is missing or not on the grid of the file.
        """
        native = item[NATIVE]
        source = source_path(native)
        is_png = source is not None and Path(source).suffix.lower() == ".png"
        case = CaseLesions.from_file_grid(
            name,
            self.volume(item, NATIVE).astype(np.float32),
            self.volume(item, CommonKeys.PRED),
            np.asarray(native.affine, dtype=np.float64),
            truth=self.mask_if_there(item, CommonKeys.LABEL),
            lung=self.mask_if_there(item, LUNG),
            has_spacing=not is_png,
        )
        writable_folder(folder)
        files = [self._write_overlay(case, z, folder) for z in self._slices(case)]
        if is_png:
            self._write_png(folder / f"{name}_seg.png", name, Image.fromarray(case.label[..., 0].T.astype(np.uint8)))
        report = describe_lesions(case)
        if report["lung"] is not None:
            report["lung"]["source"] = item.get(SOURCE_KEY, FILE_SOURCE)
        report["overlays"] = [path.name for path in files if path is not None]
        report["notes"] = self.reading_notes(item) + report["notes"]
        self.write_last(folder / f"{name}_lesions.json", name, report)

    def _slices(self, case: CaseLesions) -> list[int]:
        return slices_to_show(case.lesion_pixels, case.spacing_mm[2], self.overlay_slices)

    def _write_overlay(self, case: CaseLesions, z: int, folder: Path) -> Path | None:
        labels = {} if case.truth is None else {"truth": case.truth[..., z]}
        labels["prediction"] = case.label[..., z]
        index, last = case.slice_indices[z], len(case.slice_indices) - 1
        name = short_name(case.case_id)
        title = f"{name}, slice {index} of 0 to {last}" if last else name
        title += _dice_in_words(case)
        picture = draw_overlay(case.image_hu[..., z], labels, title, case.spacing_mm[:2])
        path = folder / f"{case.case_id}_overlay_{index:03d}.png"
        return self._write_png(path, case.case_id, picture)

    def _write_png(self, path: Path, name: str, picture: Image.Image) -> Path | None:
        """Write a picture; None when that failed."""
        with self.or_noted(path, name):
            write_png(path, picture)
            return path
        return None


def _dice_in_words(case: CaseLesions) -> str:
    """Dice of the whole case, of each class that truth or prediction have; nothing without truth."""
    if case.truth is None:
        return ""
    counted = case.truth != IGNORE_LABEL
    said = []
    for value, name in enumerate(LESION_CLASSES, 1):
        true, predicted = (case.truth == value) & counted, (case.label == value) & counted
        if size := true.sum() + predicted.sum():
            said.append(f"{name.replace('_', ' ')} {2 * (true & predicted).sum() / size:.2f}")
    return f"; Dice of the case: {', '.join(said) or 'no lesion'}"
