from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from custom_components.images.case_id import batch_case_ids
from custom_components.weights.not_finite import not_finite, some_names
from monai.engines import IterationEvents, Workflow
from monai.utils import CommonKeys

# Smallest scale of fp16 gradients. It starts at 65536 and is halved with each step that overflows and is skipped, so it
# is reached after 26 of them. Gradients that still overflow are above 6e7.
SMALLEST_SCALE = 2.0**-10


class StopOnNaN:
    """Ignite handler that ends a training with an error as soon as a number in it is not finite.

    ``ignite.handlers.TerminateOnNan`` only warns and ends the run as if it were complete. This handler raises an error.
    It checks the loss before the backward pass, the gradients before the optimizer's step, and weights and running
    statistics after the step. So weights with NaN are never validated or saved, and earlier checkpoints are kept.

    With fp16, the gradient scaler handles gradients that overflow: it skips the step and halves its scale. The training
    ends when the scale is below ``SMALLEST_SCALE``, because every further step would be skipped.

    Raises:
        RuntimeError: names the value, the epoch and the cases.
    """

    def attach(self, engine: Workflow) -> None:
        """Attach to a ``monai.engines.SupervisedTrainer``."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self.check_loss)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.check_gradients)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.check_weights)

    def check_loss(self, engine: Workflow) -> None:
        """End the run when the loss of this iteration, the tensor ``state.output["loss"]``, is NaN or infinite."""
        loss = engine.state.output[CommonKeys.LOSS].detach()
        if not bool(torch.isfinite(loss).all()):
            _stop(engine, f"Loss is {loss.float().mean().item()}")

    def check_gradients(self, engine: Any) -> None:
        """End the run when a gradient or its square is NaN or infinite; not with a gradient scaler."""
        if _gradient_scale(engine) is not None:
            return
        gradients = {name: weight.grad for name, weight in engine.network.named_parameters() if weight.grad is not None}
        if found := not_finite(gradients):
            loss = engine.state.output[CommonKeys.LOSS].detach().float().mean().item()
            _stop(engine, f"Loss is {loss:g}, but the gradient is not finite in {some_names(found)}")

    def check_weights(self, engine: Any) -> None:
        """End the run when a weight or running statistic is NaN or infinite, or all further steps would be skipped."""
        scale = _gradient_scale(engine)
        if scale is not None and scale < SMALLEST_SCALE:
            _stop(engine, f"Gradients overflow in half precision even if scaled by {scale:.1g}, and steps are skipped,")
        if found := not_finite(engine.network.state_dict()):
            _stop(engine, f"Weights or running statistics are not finite in {some_names(found)}")


def _gradient_scale(engine: Any) -> float | None:
    scaler = getattr(engine, "scaler", None)
    return scaler.get_scale() if scaler is not None and scaler.is_enabled() else None


def _stop(engine: Any, what: str) -> NoReturn:
    rate = engine.optimizer.param_groups[0]["lr"]
    batch = engine.state.batch  # a list of cases after MONAI has decollated it
    parts = [part for part in (batch if isinstance(batch, list) else [batch]) if isinstance(part, Mapping)]
    cases = ", ".join(dict.fromkeys(name for part in parts for name in batch_case_ids(part))) or "unknown"
    raise RuntimeError(
        f"{what} in epoch {engine.state.epoch}, iteration {engine.state.iteration} (learning rate {rate:g}; cases: "
        f"{cases}). Expected finite numbers. Earlier checkpoints are kept. Check these cases; then train again with a "
        "lower --learning_rate, or resume from the last checkpoint in full precision: --amp False --resume true."
    )
