import torch
from monai.utils import convert_to_tensor
from torch.nn.modules.loss import _Loss

# A smaller sum of attention and mask counts as empty, so that 1 / sum is finite. T(A) is at least 4e-18.
EMPTY = 1e-30


class NormalizedMSELoss(_Loss):
    r"""Attention loss: squared error divided by the sum of attention and mask (Ouyang et al. 2020, Eq. 3).

    $L_{ex} = \frac{\sum_{ijk} (T(A_{ijk}) - M_{ijk})^2}{\sum_{ijk} T(A_{ijk}) + \sum_{ijk} M_{ijk}}$ over the voxels
    of one scan, averaged over the selected scans: in the paper the COVID-19 scans of a batch. If none is selected, loss
    and gradient are 0. A scan whose attention and mask are both empty has loss 0.

    The sums cover 9 million voxels and would overflow in half precision: they use at least float32.

    Example:
        >>> mask = torch.zeros(1, 1, 2, 3, 4)
        >>> mask[..., :2] = 1
        >>> NormalizedMSELoss()(mask, mask).item(), NormalizedMSELoss()(1 - mask, mask).item()
        (0.0, 1.0)
    """

    def forward(
        self, attention: torch.Tensor, mask: torch.Tensor, selected: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Loss of a batch.

        Args:
            attention: T(A) in [0, 1], shape (B, 1, D, H, W).
            mask: infection mask M, 0 or 1, any dtype, same shape.
            selected: nonzero for the selected scans, shape (B,); None selects all.

        Returns:
            Scalar, 0 to 1 for an attention in [0, 1].

        Raises:
            ValueError: when the shapes do not match.
        """
        _check_shapes(attention, mask, selected)
        attention, mask = convert_to_tensor(attention, track_meta=False), convert_to_tensor(mask, track_meta=False)
        exact = torch.float64 if attention.dtype == torch.float64 else torch.float32
        attention, mask = attention.to(exact), mask.to(exact)
        axes = tuple(range(1, attention.ndim))
        error = (attention - mask).square().sum(dim=axes)
        total = attention.sum(dim=axes) + mask.sum(dim=axes)
        losses = error / torch.where(total > EMPTY, total, torch.ones_like(total))
        if selected is None:
            return losses.mean()
        chosen = (selected != 0).to(losses)
        return (losses * chosen).sum() / chosen.sum().clamp(min=1)


def _check_shapes(attention: torch.Tensor, mask: torch.Tensor, selected: torch.Tensor | None) -> None:
    if attention.shape != mask.shape or attention.ndim != 5:
        raise ValueError(
            f"Expected attention and mask of one shape (B, 1, D, H, W), got {tuple(attention.shape)} and "
            f"{tuple(mask.shape)}. Upsample the attention to the input's size and bring the mask to the same grid."
        )
    if selected is not None and tuple(selected.shape) != (attention.shape[0],):
        raise ValueError(
            f"Expected one number per scan in `selected`, shape ({attention.shape[0]},), got {tuple(selected.shape)}."
        )
