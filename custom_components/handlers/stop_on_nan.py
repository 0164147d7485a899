import torch
from monai.engines import IterationEvents, Workflow
from monai.utils import CommonKeys


class StopOnNaN:
    """Ignite handler that ends a training with an error as soon as its loss is not finite.

    ``ignite.handlers.TerminateOnNan`` only warns and ends the run as if it were complete. This one raises, and does so
    between the loss and the backward pass, so that the weights are still those of the step before.
    """

    def attach(self, engine: Workflow) -> None:
        """Listen to a MONAI trainer.

        Args:
            engine: a ``monai.engines.SupervisedTrainer``.
        """
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Workflow) -> None:
        """Check the loss of this iteration.

        Args:
            engine: the trainer; its ``state.output["loss"]`` is a tensor.

        Raises:
            RuntimeError: when the loss is NaN or infinite.
        """
        loss = engine.state.output[CommonKeys.LOSS]
        if not bool(torch.isfinite(loss).all()):
            raise RuntimeError(
                f"Loss is {loss.float().mean().item()} in epoch {engine.state.epoch}, iteration "
                f"{engine.state.iteration}. Expected a finite number. Lower the learning rate, or train without mixed "
                "precision (amp: false; bfloat16 instead of float16), from the last checkpoint."
            )
