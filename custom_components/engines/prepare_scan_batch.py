from typing import Any

import torch
from monai.engines import PrepareBatch


class PrepareScanBatch(PrepareBatch):
    """Prepare a batch for MONAI's trainer: the scans, and the targets of ``AttentionGuidedLoss``.

    Uses ``image`` (B, 1, D, H, W), ``label`` (B,) and, if available, ``infection`` (B, 1, D, H, W).
    """

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Move a batch to the device.

        Args:
            batchdata: the batch.
            device: target device.
            non_blocking: whether to copy asynchronously.
            kwargs: passed to ``Tensor.to``.

        Returns:
            The scans and ``{"label", "infection"}``.
        """
        moved: dict[str, torch.Tensor] = {
            key: batchdata[key].to(device=device, non_blocking=non_blocking, **kwargs)
            for key in ("image", "label", "infection")
            if key in batchdata
        }
        return moved.pop("image"), moved
