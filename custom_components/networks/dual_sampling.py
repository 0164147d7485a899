"""Dual-sampling ensemble: two branches, weighted by the infection size.

X. Ouyang et al., IEEE Transactions on Medical Imaging 39 (2020), Sec. III-E.
"""

import torch
from custom_components.infection_size import CAP_LARGE_ABOVE, COVID_SMALL_BELOW
from custom_components.networks.attention_resnet import AttentionResNet
from torch import nn

# The paper's values: w outside and inside, and the infection ratios that limit the inside.
PAPER_WEIGHTS = (0.35, 0.96)
PAPER_THRESHOLDS = (CAP_LARGE_ABOVE, COVID_SMALL_BELOW)


def branch_weight(
    ratio: torch.Tensor,
    weights: tuple[float, float] = PAPER_WEIGHTS,
    thresholds: tuple[float, float] = PAPER_THRESHOLDS,
) -> torch.Tensor:
    """Weight w of the uniform-sampling branch in Eq. (5).

    Args:
        ratio: infection volume / lung volume, any shape; NaN if unknown.
        weights: w outside and inside the thresholds.
        thresholds: lower and upper threshold, both inside.

    Returns:
        w, same shape; NaN if the ratio is unknown.

    Example:
        >>> (100 * branch_weight(torch.tensor([0.0009, 0.001, 0.030, 0.031]))).round().tolist()
        [35.0, 96.0, 96.0, 35.0]
    """
    outside = (ratio < thresholds[0]) | (ratio > thresholds[1])
    weight = torch.where(outside, torch.full_like(ratio, weights[0]), torch.full_like(ratio, weights[1]))
    return torch.where(torch.isnan(ratio), ratio, weight)


def weight_of_ratio(
    ratio: float, weights: tuple[float, float] = PAPER_WEIGHTS, thresholds: tuple[float, float] = PAPER_THRESHOLDS
) -> float:
    """Weight w of one known ratio: :func:`branch_weight` in float32, as the network compares it.

    Example:
        >>> round(weight_of_ratio(0.01), 2)
        0.96
    """
    return branch_weight(torch.tensor(ratio, dtype=torch.float32), weights, thresholds).item()


def ensemble_logit(logit_us: torch.Tensor, logit_ss: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Logit of P_final = w P_US + (1 - w) P_SS, Eq. (5), exact even if a probability rounds to 0 or 1.

    Args:
        logit_us: logit of the uniform-sampling branch.
        logit_ss: logit of the size-balanced branch, same shape.
        weight: w in [0, 1], same shape.

    Returns:
        log(P_final / (1 - P_final)), same shape.

    Example:
        >>> a, b, w = torch.tensor(2.0), torch.tensor(-1.0), torch.tensor(0.35)
        >>> p = w * a.sigmoid() + (1 - w) * b.sigmoid()
        >>> torch.allclose(ensemble_logit(a, b, w).sigmoid(), p)
        True
    """
    log_w, log_rest = torch.log(weight), torch.log1p(-weight)
    positive = _log_add_exp(log_w + _log_sigmoid(logit_us), log_rest + _log_sigmoid(logit_ss))
    negative = _log_add_exp(log_w + _log_sigmoid(-logit_us), log_rest + _log_sigmoid(-logit_ss))
    return positive - negative


def _log_add_exp(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """log(exp(a) + exp(b)) without overflow in ONNX, unlike torch.logaddexp and F.logsigmoid."""
    return torch.maximum(first, second) + torch.log1p(torch.exp(-(first - second).abs()))


def _log_sigmoid(logit: torch.Tensor) -> torch.Tensor:
    return -_log_add_exp(torch.zeros_like(logit), -logit)


class DualSamplingNet(nn.Module):
    """Both trained branches and the ratio rule of Eq. (5) in one module. Scriptable.

    ``forward`` takes the infection ratio as a second channel with the same value in every voxel, because deployment
    tools expect one input tensor, or as a separate argument with a one-channel scan. If the ratio is unknown (NaN),
    the logit is NaN.

    Args:
        uniform: branch trained with uniform sampling; the paper's network by default.
        size_balanced: branch trained with size-balanced sampling; likewise.
        weights: w of the uniform branch outside and inside the ratio thresholds, Sec. III-E.
        ratio_thresholds: lower and upper ratio threshold, Sec. III-E.
        decision_threshold: minimum P_final of a COVID-19 classification, Sec. IV-C.

    Raises:
        ValueError: if a weight or threshold is not in [0, 1], the thresholds are not in order, or a branch has three
            classes.

    Example:
        >>> small = {"layers": (1, 1, 1, 1), "block_inplanes": (2, 3, 4, 5)}
        >>> network = DualSamplingNet(AttentionResNet(**small), AttentionResNet(**small)).eval()
        >>> scan, ratio = torch.rand(1, 1, 16, 32, 48), torch.tensor([0.2])
        >>> with_ratio = torch.cat([scan, torch.full_like(scan, 0.2)], dim=1)
        >>> torch.equal(network(with_ratio), network(scan, ratio))
        True
    """

    def __init__(
        self,
        uniform: AttentionResNet | None = None,
        size_balanced: AttentionResNet | None = None,
        weights: tuple[float, float] = PAPER_WEIGHTS,
        ratio_thresholds: tuple[float, float] = PAPER_THRESHOLDS,
        decision_threshold: float = 0.5,
    ) -> None:
        super().__init__()
        _check_fractions(weights=weights, ratio_thresholds=ratio_thresholds, decision_threshold=(decision_threshold,))
        if ratio_thresholds[0] > ratio_thresholds[1]:
            raise ValueError(f"ratio_thresholds are {tuple(ratio_thresholds)}. Expected the lower threshold first.")
        self.uniform = AttentionResNet() if uniform is None else uniform
        self.size_balanced = AttentionResNet() if size_balanced is None else size_balanced
        if any(getattr(branch, "covid_row", 0) for branch in (self.uniform, self.size_balanced)):
            raise ValueError("Expected branches with one logit of COVID-19, got three classes: Eq. (5) is for two.")
        self.definition = getattr(self.uniform, "definition", {})
        self.weights = (float(weights[0]), float(weights[1]))
        self.ratio_thresholds = (float(ratio_thresholds[0]), float(ratio_thresholds[1]))
        self.decision_threshold = float(decision_threshold)

    def forward(self, x: torch.Tensor, ratio: torch.Tensor | None = None) -> torch.Tensor:
        """Logit of P_final.

        Args:
            x: lung-masked CT in [0, 1] and, if ``ratio`` is not given, the ratio: shape (B, 2 or 1, D, H, W).
            ratio: infection volume / lung volume, shape (B,).

        Returns:
            Shape (B, 1).

        Raises:
            ValueError: if the ratio is neither a channel nor an argument.
        """
        scan, known = self.split(x, ratio)
        return self.combine(self.uniform(scan), self.size_balanced(scan), known)

    @torch.jit.export
    def explain(self, x: torch.Tensor, ratio: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Logits and attention of both branches, and the final logit.

        Args:
            x: as for ``forward``.
            ratio: as for ``forward``.

        Returns:
            ``logit``, ``logit_us``, ``logit_ss`` (B, 1); ``attention_us``, ``attention_ss`` in [0, 1], (B, 1, D, H, W).
        """
        scan, known = self.split(x, ratio)
        us, ss = self.uniform.explain(scan), self.size_balanced.explain(scan)
        return {
            "logit": self.combine(us["logit"], ss["logit"], known),
            "logit_us": us["logit"],
            "logit_ss": ss["logit"],
            "attention_us": us["attention"],
            "attention_ss": ss["attention"],
        }

    @torch.jit.export
    def decide(self, x: torch.Tensor, ratio: torch.Tensor | None = None) -> torch.Tensor:
        """Whether P_final reaches the decision threshold: bool, shape (B, 1); False for an unknown ratio."""
        return torch.sigmoid(self.forward(x, ratio)) >= self.decision_threshold

    def combine(self, logit_us: torch.Tensor, logit_ss: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        """Eq. (5) in float32.

        Args:
            logit_us: shape (B, 1).
            logit_ss: shape (B, 1).
            ratio: shape (B,).

        Returns:
            Logit of P_final, shape (B, 1).
        """
        weight = branch_weight(ratio.float().unsqueeze(1), self.weights, self.ratio_thresholds)
        return ensemble_logit(logit_us.float(), logit_ss.float(), weight)

    def split(self, x: torch.Tensor, ratio: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Scan (B, 1, D, H, W) and ratio (B,) of an input in either form."""
        if ratio is not None:
            return x, ratio.to(x.device)
        if x.shape[1] != 2:
            raise ValueError("Expected two channels (scan and infection ratio), or one channel and the argument ratio.")
        return x[:, :1], x[:, 1, 0, 0, 0]


def _check_fractions(**groups: tuple[float, ...]) -> None:
    for name, numbers in groups.items():
        if not all(0 <= number <= 1 for number in numbers):
            raise ValueError(f"{name} is {list(numbers)}. Expected numbers in [0, 1].")
