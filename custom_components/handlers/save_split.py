from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.datalists.split import write_split
from ignite.engine import Engine, Events


class SaveSplit:
    """Ignite handler that writes which cases are trained on and which are left out, beside the checkpoint.

    Args:
        split: what ``split_cases`` returned.
        path: JSON file to write.
        training: the cases that the training's data set was really given; None: those of the split.
        validation: likewise. Where either differs from the split (MONAI Label sets both lists), these are written.
    """

    def __init__(
        self,
        split: Mapping[str, Any],
        path: str | Path,
        training: Sequence[Mapping[str, Any]] | None = None,
        validation: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        given = {"training": training, "validation": validation}
        sides = {side: split[side] if cases is None else list(cases) for side, cases in given.items()}
        own = all(split.get(side) == cases for side, cases in sides.items())
        self.split = split if own else {"protocol": "lists set from outside", **sides, "left_out": []}
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Write when the engine starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Write now."""
        write_split(self.split, self.path)
