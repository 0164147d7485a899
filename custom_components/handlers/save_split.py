from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_components.data.split import write_split
from ignite.engine import Engine, Events


class SaveSplit:
    """Ignite handler that writes which cases are trained on and which are left out, beside the checkpoint.

    Args:
        split: what ``split_cases`` returned.
        path: JSON file to write.
    """

    def __init__(self, split: Mapping[str, Any], path: str | Path) -> None:
        self.split, self.path = split, Path(path)

    def attach(self, engine: Engine) -> None:
        """Write when the engine starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Write now."""
        write_split(self.split, self.path)
