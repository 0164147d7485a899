from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.datalists.split import write_split
from ignite.engine import Engine, Events


class SaveSplit:
    """Ignite handler that writes the training, validation and left-out cases to a JSON file.

    Args:
        split: split from ``split_cases``.
        path: JSON file to write.
        training: cases that are actually used for training, if another program sets them, such as MONAI Label; None:
            those of the split.
        validation: cases that are actually used for validation; None: those of the split.
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
