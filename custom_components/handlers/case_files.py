import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from custom_components._version import NOTICE, __version__
from custom_components.engines.case_evaluator import NOT_WRITTEN, noted_when_unwritten
from custom_components.files.atomic import writable_folder
from custom_components.files.report_files import write_json, write_png
from custom_components.images.case_id import case_id, source_path
from custom_components.images.ct_reader import NOTES
from custom_components.images.geometry import mask_on_image
from custom_components.transforms.checks.implausible_lungs import LUNG_NOTES
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import IterationEvents, Workflow
from PIL import Image

_logger = logging.getLogger(__name__)

# Key of the CT in HU as loaded, with its metadata.
NATIVE = "native"
# File in the folder of an incomplete case: the missing files and the reasons.
INCOMPLETE = "incomplete.json"


class CaseFiles(ABC):
    """Ignite handler that writes the files of each case of an inference to ``<output_dir>/<case>``.

    It runs after the postprocessing and before the iteration is complete, so that an error is attributed to the case.
    Two cases with the same name are an error, since the second would overwrite the first.

    If a file cannot be written, the others still are. The case then counts as failed, and ``incomplete.json`` in its
    folder lists the missing files, until a later run writes all of them.

    Args:
        output_dir: folder for the folders of the cases.
        notes: sentences on the whole run, for the JSON of each case.
    """

    def __init__(self, output_dir: str | Path, notes: Sequence[str] = ()) -> None:
        self.output_dir, self.notes = Path(output_dir), tuple(notes)
        self._sources: dict[str, str | None] = {}
        self._unwritten: dict[str, str] = {}
        self._done = 0

    @abstractmethod
    def write_case(self, item: Mapping[str, Any], name: str, folder: Path) -> None:
        """Write the files of one case.

        Args:
            item: input and output of the case.
            name: name of the case.
            folder: folder of the case, which may not exist yet.

        Raises:
            ValueError: naming the case, when something is missing, not on the grid of the CT, or contradictory.
        """

    def attach(self, engine: Workflow) -> None:
        """Attach to a MONAI evaluator that decollates its batches."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._cases_predicted)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Workflow) -> None:
        writable_folder(self.output_dir)
        self._sources, self._done = {}, 0

    def _cases_predicted(self, engine: Workflow) -> None:
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            item = {**batch, **output}
            native = self.required(item, NATIVE)
            name, source = case_id(native), source_path(native)
            if name in self._sources:
                raise ValueError(
                    f"Case {name}: the results of {source} and {self._sources[name]} would have the same name. Rename "
                    "one of the files."
                )
            self._sources[name] = source
            self._unwritten = dict(item.get(NOT_WRITTEN, {}))
            self.write_case(item, name, self.output_dir / name)
            if self._unwritten:
                output[NOT_WRITTEN] = self._unwritten
                continue
            self._done += 1
            _logger.info("Case %s is finished: %s", name, (self.output_dir / name).absolute())

    def _completed(self, engine: Workflow) -> None:
        done, cases = self._done, engine.state.iteration
        _logger.info("%d of %d cases written, one folder per case: %s", done, cases, self.output_dir.absolute())

    def write_picture(self, path: Path, name: str, picture: Image.Image) -> bool:
        """Write a picture of a case; an error is recorded instead of raised, and False is returned."""
        with noted_when_unwritten(self._unwritten, path.name, name):
            write_png(path, picture)
        return path.name not in self._unwritten

    def write_last(self, target: Path, name: str, item: Mapping[str, Any], report: Mapping[str, Any]) -> None:
        """Write the JSON of a case, and ``incomplete.json`` if files are missing.

        Args:
            target: the JSON file.
            name: name of the case.
            item: input and output of the case.
            report: content of the JSON, ``notes`` last.
        """
        head = {"case_id": name, "notice": NOTICE, "software": {"name": "custom_components", "version": __version__}}
        mark = target.parent / INCOMPLETE
        with noted_when_unwritten(self._unwritten, target.name, name):
            if self._unwritten:
                write_json(mark, {"case_id": name, "failed": self._unwritten})
            write_json(target, {**head, **report, "notes": [*self.notes, *_reading_notes(item), *report["notes"]]})
            if not self._unwritten:
                mark.unlink(missing_ok=True)

    def required(self, item: Mapping[str, Any], key: str) -> Any:
        """The entry of a case under a key.

        Raises:
            ValueError: when it is missing.
        """
        if item.get(key) is None:
            made = "a copy of the CT made right after loading (CopyItemsd)" if key == NATIVE else "the network's output"
            raise ValueError(f"Case {case_id(item)}: {type(self).__name__} finds no {key!r}. Expected {made}.")
        return item[key]

    def volume(self, item: Mapping[str, Any], key: str) -> np.ndarray:
        """Array (X, Y, Z) of the tensor (1, X, Y[, Z]) under a key.

        Raises:
            ValueError: when it is missing or has another shape.
        """
        array = np.asarray(torch.as_tensor(self.required(item, key)).detach().cpu())
        if array.ndim not in (3, 4) or len(array) != 1:
            raise ValueError(
                f"Case {case_id(item)}: expected {key!r} with one channel, (1, X, Y[, Z]), got {array.shape}. "
                "Keep one channel, or turn channels into a label map with AsDiscreted(argmax=True)."
            )
        return array[0] if array.ndim == 4 else array[0][..., None]

    def mask_if_there(self, item: Mapping[str, Any], key: str) -> np.ndarray | None:
        """As :meth:`volume`, with the axes of the CT; None if the mask is missing.

        Raises:
            ValueError: also when the mask is not aligned with the CT.
        """
        if item.get(key) is None:
            return None
        return self.volume({**item, key: mask_on_image(item[key], item[NATIVE], key, case_id(item))}, key)


def _reading_notes(item: Mapping[str, Any]) -> list[str]:
    """Sentences on irregularities of the CT file and on an implausible lung mask."""
    native = item[NATIVE]
    odd = native.meta.get(NOTES) if isinstance(native, MetaTensor) else ""
    sentences = (f"The scan was read, although: {odd}." if odd else "", item.get(LUNG_NOTES))
    return [sentence for sentence in sentences if sentence]
