import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import IterationEvents, Workflow
from monai.utils import CommonKeys
from PIL import Image

from custom_components.data.atomic import atomic_path, writable_folder
from custom_components.data.case_id import case_id, source_path
from custom_components.reports.case_lesions import CaseLesions, describe_lesions
from custom_components.reports.overlay import draw_overlay, slices_to_show

NATIVE = "native"
LUNG = "lung"


class LesionReport:
    """Ignite handler that reports each case of an inference beside its label map.

    Writes ``<output_dir>/<case>/<case>_lesions.json`` (volumes, percent of the lung, slices with lesions),
    ``<case>_overlay_NNN.png`` (NNN is the slice's index in the file) and, for PNG input, ``<case>_seg.png`` in the
    form of the input. The JSON is written last: where it is, the report is complete.

    Of each case it takes ``pred``, the label map (1, X, Y[, Z]) on the grid of the file; ``native``, the CT in HU as
    loaded, with its metadata; and, when they are there, ``lung`` and ``label`` on the same grid. It runs after the
    postprocessing and before the iteration is complete, so that an error counts as the case's own.

    Args:
        output_dir: folder that gets a folder for each case.
        overlay_slices: most slices to draw of a volume, those with most lesion and at least 1 cm apart; 0 for none.
    """

    def __init__(self, output_dir: str | Path, overlay_slices: int = 6) -> None:
        if overlay_slices < 0:
            raise ValueError(f"Expected overlay_slices >= 0, got {overlay_slices}. Set 0 for no overlays.")
        self.output_dir = Path(output_dir)
        self.overlay_slices = overlay_slices
        self._sources: dict[str, str | None] = {}

    def attach(self, engine: Workflow) -> None:
        """Listen to an evaluator.

        Args:
            engine: a MONAI evaluator that decollates its batches.
        """
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._cases_predicted)

    def _started(self, engine: Workflow) -> None:
        writable_folder(self.output_dir)
        self._sources = {}

    def _cases_predicted(self, engine: Workflow) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self._write({**item, **output})

    def _write(self, item: Mapping[str, Any]) -> None:
        native = _required(item, NATIVE)
        name, source = case_id(native), source_path(native)
        self._check_written_once(name, source)
        is_png = source is not None and Path(source).suffix.lower() == ".png"
        case = CaseLesions.from_file_grid(
            name,
            _volume(item, NATIVE).astype(np.float32),
            _volume(item, CommonKeys.PRED),
            np.asarray(native.affine, dtype=np.float64),
            truth=_volume_if_there(item, CommonKeys.LABEL),
            lung=_volume_if_there(item, LUNG),
            has_spacing=not is_png,
        )
        folder = writable_folder(self.output_dir / name)
        files = [self._write_overlay(case, z, folder) for z in self._slices(case)]
        if is_png:
            _write_png(folder / f"{name}_seg.png", Image.fromarray(case.label[..., 0].T.astype(np.uint8)))
        report = {**describe_lesions(case), "overlays": files}
        with atomic_path(folder / f"{name}_lesions.json") as path:
            path.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def _check_written_once(self, name: str, source: str | None) -> None:
        if name in self._sources:
            raise ValueError(
                f"Case {name}: {source} and {self._sources[name]} would be reported under one name. Rename one of them."
            )
        self._sources[name] = source

    def _slices(self, case: CaseLesions) -> list[int]:
        return slices_to_show(case.lesion_pixels, case.spacing_mm[2], self.overlay_slices)

    def _write_overlay(self, case: CaseLesions, z: int, folder: Path) -> str:
        labels = {} if case.truth is None else {"truth": case.truth[..., z]}
        labels["prediction"] = case.label[..., z]
        index, last = case.slice_indices[z], len(case.slice_indices) - 1
        title = f"slice {index} of 0 to {last}" if last else "slice 0"
        picture = draw_overlay(case.image_hu[..., z], labels, title, case.spacing_mm[:2])
        path = folder / f"{case.case_id}_overlay_{index:03d}.png"
        _write_png(path, picture)
        return path.name


def _required(item: Mapping[str, Any], key: str) -> Any:
    if item.get(key) is None:
        raise ValueError(
            f"Case {case_id(item)}: LesionReport finds no {key!r}. Expected 'pred', and 'native', a copy of the CT "
            "made right after loading (CopyItemsd)."
        )
    return item[key]


def _volume(item: Mapping[str, Any], key: str) -> np.ndarray:
    """Array (X, Y, Z) of a tensor (1, X, Y[, Z])."""
    array = np.asarray(torch.as_tensor(_required(item, key)).detach().cpu())
    if array.ndim not in (3, 4) or len(array) != 1:
        raise ValueError(
            f"Case {case_id(item)}: expected {key!r} with one channel, (1, X, Y[, Z]), got {array.shape}. "
            "Turn channels into a label map with AsDiscreted(argmax=True)."
        )
    return array[0] if array.ndim == 4 else array[0][..., None]


def _volume_if_there(item: Mapping[str, Any], key: str) -> np.ndarray | None:
    return None if item.get(key) is None else _volume(item, key)


def _write_png(target: Path, picture: Image.Image) -> None:
    with atomic_path(target) as path:
        picture.save(path, format="PNG")
