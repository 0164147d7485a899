"""Estimate how long trainings and evaluations take from the seconds of one training step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A backward pass costs about twice a forward pass, and a scan that is only scored has no backward pass.
FORWARD_SHARE = 1 / 3

HOW_TO_ESTIMATE = (
    "Without --seconds_per_step, the time is known once a run of each kind has finished. `python -m tools.gpu_check "
    "OUTPUT` measures the seconds of a step on a GPU."
)


@dataclass(frozen=True)
class StepTimes:
    """Numbers of a training that decide how long it takes.

    Args:
        seconds_per_step: seconds of one training step, all accumulated batches together.
        batch_size: scans of a batch.
        accumulation_steps: batches of a step.
        epochs: epochs of the training.
        val_interval: epochs between validations.
        norm_batches: batches that recompute the statistics of batch normalisation before each validation.

    Raises:
        ValueError: if a number is not a whole number.

    Example:
        >>> steps = StepTimes(10.0, batch_size=5, accumulation_steps=4, epochs=2, val_interval=2, norm_batches=0)
        >>> steps.training_s(training=40, validation=6), steps.scoring_s(6)
        (41.0, 1.0)
    """

    seconds_per_step: float
    batch_size: int
    accumulation_steps: int
    epochs: int
    val_interval: int
    norm_batches: int

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulation_steps", "epochs", "val_interval", "norm_batches"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}. An estimate needs a whole number: change the override, or "
                    "remove --seconds_per_step."
                )

    @classmethod
    def of(cls, config: Mapping[str, Any], seconds_per_step: float) -> "StepTimes":
        """The numbers of a training's config with its overlays and overrides."""
        names = ("batch_size", "accumulation_steps", "epochs", "val_interval", "norm_batches")
        return cls(seconds_per_step, **{name: config[name] for name in names})

    @property
    def scan_s(self) -> float:
        """Seconds of training on one scan."""
        return self.seconds_per_step / (self.batch_size * self.accumulation_steps)

    def training_s(self, training: int, validation: int) -> float:
        """Seconds of a training.

        Args:
            training: scans of an epoch.
            validation: scans of a validation.
        """
        passes = self.epochs // self.val_interval
        scored = validation + self.norm_batches * self.batch_size
        return self.epochs * training * self.scan_s + passes * self.scoring_s(scored)

    def scoring_s(self, scans: int) -> float:
        """Seconds of a forward pass of scans."""
        return scans * self.scan_s * FORWARD_SHARE

    def words(self) -> str:
        """What the estimates are made from."""
        return (
            "Runs without a finished run of their kind are estimated from --seconds_per_step "
            f"{self.seconds_per_step:g}: {self.scan_s:.3g} s to train on a scan ({self.batch_size} x "
            f"{self.accumulation_steps} scans a step), a third of it to score one (forward pass only). Reading and "
            "preprocessing of the scans, and the start of each run, are not included."
        )
