from collections.abc import Sequence

import torch
from custom_components.images.case_id import case_prefix
from custom_components.losses.dice_cross_entropy import SMOOTH
from custom_components.losses.pixel_cross_entropy import _checked_weight
from monai.losses import DiceLoss
from monai.utils import convert_to_tensor
from torch.nn.modules.loss import _Loss


class PartialLabelLoss(_Loss):
    r"""Marginal cross-entropy, and Dice, for labels that name a set of possible classes instead of one.

    $\mathcal{L}_{CE} = -\log \sum_{c \in S_o} p_{o,c}$ with p the softmax of the logits and $S_o$ the classes that the
    label of pixel o allows (G. Shi et al. 2021, "Marginal loss and exclusion loss for partially supervised multi-organ
    segmentation", Eq. 4). A set of one class gives the plain cross-entropy; pixels with the set of all classes have no
    loss and are excluded from the mean. The weight of a pixel is the smallest weight of its classes, so that a more
    specific label never has a lower weight.

    For each of ``dice_sets`` G, the Dice term uses the pixels whose label is inside G or disjoint from G, and compares
    $\sum_{c \in G} p_c$ with the label.

    Args:
        weight: weight of each class in the cross-entropy, shape (C,), not negative; 1 each when None.
        dice_sets: sets of classes with a Dice term, such as ``[[1], [2], [3], [1, 2]]``; default: none.

    Raises:
        ValueError: when a weight is negative or not finite.

    Example:
        >>> logits = torch.zeros(1, 4, 1, 3)  # each class has the probability 1/4
        >>> sets = torch.tensor([0b0001, 0b0110, 0b1111]).reshape(1, 1, 1, 3)
        >>> [round(value, 3) for value in PartialLabelLoss().cross_entropy(logits, sets).flatten().exp().tolist()]
        [4.0, 2.0, 1.0]
    """

    weight: torch.Tensor | None

    def __init__(
        self, weight: list[float] | torch.Tensor | None = None, dice_sets: Sequence[Sequence[int]] = ()
    ) -> None:
        super().__init__()
        self.register_buffer("weight", None if weight is None else _checked_weight(weight))
        self.dice_sets = [sum(1 << index for index in set(classes)) for classes in dice_sets]
        self.dice = DiceLoss(batch=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of a batch.

        Args:
            input: logits, shape (B, C, H, W[, D]).
            target: sets of classes as bits, 1 to 2**C - 1, shape (B, 1, H, W[, D]).

        Returns:
            Scalar, not negative; 0 when every pixel allows all classes.

        Raises:
            ValueError: when shapes or values are wrong.
        """
        logits, sets = self._checked(input, target)
        weights = self._pixel_weights(sets, logits)
        total = weights.sum()
        loss = (self.cross_entropy(logits, sets) * weights).sum() / torch.where(total > 0, total, 1)
        if not self.dice_sets:
            return loss
        probabilities = logits.softmax(dim=1)
        terms = [self._dice(probabilities, sets, group) for group in self.dice_sets]
        return loss + torch.stack(terms).mean()

    def cross_entropy(self, logits: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
        """Unweighted loss of each pixel, -log of the probability of its set; shape (B, 1, ...)."""
        possible = _members(sets, logits.shape[1])
        inside = logits.masked_fill(~possible, -torch.inf).logsumexp(dim=1, keepdim=True)
        return logits.logsumexp(dim=1, keepdim=True) - inside

    def _pixel_weights(self, sets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Smallest weight of the possible classes; 0 if all are possible."""
        classes = logits.shape[1]
        counted = (sets != (1 << classes) - 1).to(logits.dtype)
        if self.weight is None:
            return counted
        weight = self.weight.to(logits).reshape(1, classes, *[1] * (logits.ndim - 2))
        return torch.where(_members(sets, classes), weight, torch.inf).amin(dim=1, keepdim=True) * counted

    def _dice(self, probabilities: torch.Tensor, sets: torch.Tensor, group: int) -> torch.Tensor:
        inside, outside = (sets & ~group) == 0, (sets & group) == 0
        known = (inside | outside).to(probabilities.dtype)
        in_group = [index for index in range(probabilities.shape[1]) if group >> index & 1]
        score = probabilities[:, in_group].sum(dim=1, keepdim=True)
        return self.dice(score * known, inside.to(probabilities.dtype))

    def _checked(self, input: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, sets = convert_to_tensor(input, track_meta=False), convert_to_tensor(target, track_meta=False)
        if logits.ndim < 3 or tuple(sets.shape) != (logits.shape[0], 1, *logits.shape[2:]):
            raise ValueError(
                f"Expected logits (B, C, H, W[, D]) and sets (B, 1, H, W[, D]), got {tuple(logits.shape)} and "
                f"{tuple(sets.shape)}. Give label sets with one channel on the grid of the logits."
            )
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ValueError(f"Expected {logits.shape[1]} weights, one per class, got {len(self.weight)}.")
        sets, most = sets.long(), (1 << logits.shape[1]) - 1
        wrong = (sets < 1) | (sets > most)
        if bool(wrong.any()):
            raise ValueError(
                f"{case_prefix(target)}label set has value {sets[wrong][0].item()} at {int(wrong.sum())} pixels. "
                f"Expected 1 to {most}: bit c for class c. Encode the labels with `label_set_table`."
            )
        return (logits if logits.dtype == torch.float64 else logits.float()), sets


def _members(sets: torch.Tensor, classes: int) -> torch.Tensor:
    """One-hot members (B, C, ...) of sets given as bits (B, 1, ...)."""
    index = torch.arange(classes, device=sets.device).reshape(1, classes, *[1] * (sets.ndim - 2))
    return (sets >> index & 1).bool()
