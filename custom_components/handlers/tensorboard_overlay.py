from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from custom_components.handlers.case_files import NATIVE
from custom_components.handlers.score_table import label_map
from custom_components.labels import IGNORE_LABEL
from custom_components.pictures.figures import LESIONS
from custom_components.pictures.slices import window_to_grey
from ignite.engine import Events
from monai.engines import Workflow
from monai.utils import CommonKeys


class TensorBoardOverlay:
    """Ignite handler that shows image | truth | prediction of the first cases of an epoch in TensorBoard.

    Args:
        summary_writer: a ``torch.utils.tensorboard.SummaryWriter``.
        interval: number of epochs between two displays.
        num_images: number of cases per epoch.
        global_epoch_transform: returns the step to show; for an evaluator, the trainer's epoch.
    """

    def __init__(
        self,
        summary_writer: Any,
        interval: int = 1,
        num_images: int = 3,
        global_epoch_transform: Callable[[int], int] = lambda epoch: epoch,
    ) -> None:
        self.summary_writer, self.interval, self.num_images = summary_writer, interval, num_images
        self.global_epoch_transform = global_epoch_transform
        self._shown = 0

    def attach(self, engine: Workflow) -> None:
        """Attach to a MONAI evaluator that decollates its batches; its images are (1, X, Y[, Z]) in [0, 1]."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._case_completed)

    def _started(self, engine: Workflow) -> None:
        self._shown = 0

    def _case_completed(self, engine: Workflow) -> None:
        epoch = self.global_epoch_transform(engine.state.epoch)
        if epoch % self.interval:
            return
        pairs = list(zip(engine.state.batch, engine.state.output, strict=True))
        for item, output in pairs[: self.num_images - self._shown]:
            self.summary_writer.add_image(f"overlay/{self._shown}", panels_rgb({**item, **output}), epoch)
            self._shown += 1


def panels_rgb(output: Mapping[str, Any]) -> np.ndarray:
    """Image, truth and prediction side by side; for a volume, the slice with most true lesion.

    Args:
        output: ``label`` and ``pred``, each (1, X, Y[, Z]), label maps or one-hot, and on the same grid ``native`` in
            HU or, if there is none, ``image`` in [0, 1].

    Returns:
        RGB in [0, 1], shape (3, Y, 3 X).
    """
    native, image = output.get(NATIVE), output[CommonKeys.IMAGE]
    grey = np.clip(label_map(image[:1]), 0, 1) if native is None else window_to_grey(label_map(native[:1]))
    truth, predicted = label_map(output[CommonKeys.LABEL]), label_map(output[CommonKeys.PRED])
    if grey.ndim == 3:
        lesion = (truth > 0) & (truth != IGNORE_LABEL)
        z = int(lesion.sum(axis=(0, 1)).argmax())
        grey, truth, predicted = grey[..., z], truth[..., z], predicted[..., z]
    layers = (np.zeros_like(truth), truth, predicted)
    panels = [LESIONS[0](grey.T, layer.T) for layer in layers]
    return np.moveaxis(np.concatenate(panels, axis=1), -1, 0)
