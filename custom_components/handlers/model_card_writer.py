from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from custom_components._version import __version__
from custom_components.weights.model_card import (
    NETWORK,
    SETTINGS,
    SYSTEM,
    TRAINED_ON,
    VALIDATED_ON,
    TrainedWith,
    data_facts,
    facts_of,
    write_card,
)

# Entries of a split that a card contains; case names are left out.
SPLIT_ENTRIES = ("protocol", "num_folds", "fold", "border", "seed")


class ModelCardWriter:
    """Writes the model card of weights next to them (:mod:`custom_components.weights.model_card`).

    Args:
        settings: settings of preprocessing and network by name.
        network: network whose class and, if it has them, arguments (``definition``) are recorded.
        training: training cases.
        split: split from ``split_cases`` or ``select_fold``; its validation cases are recorded too.
        trained: training settings of the parts of an ensemble, instead of ``training``.
        start: training settings of the initial weights, whose training cases are added.
        system: name of the system, if a bundle has several.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        network: torch.nn.Module,
        training: Sequence[Mapping[str, Any]] = (),
        split: Mapping[str, Any] | None = None,
        trained: TrainedWith | None = None,
        start: TrainedWith | None = None,
        system: str = "",
    ) -> None:
        self.settings, self.network, self.training = dict(settings), network, training
        self.split, self.trained, self.start = split or {}, trained, start
        self.system = system
        self._facts: dict[str, dict[str, Any]] = {}

    def write(self, weights: str | Path, score: Mapping[str, Any] | None = None) -> None:
        """Write the card of weights.

        Args:
            weights: file of the weights.
            score: name, value and epoch of the score by which they were selected.
        """
        kind = type(self.network)
        content = {
            NETWORK: {"_target_": f"{kind.__module__}.{kind.__qualname__}", **getattr(self.network, "definition", {})},
            SETTINGS: self.settings,
            **({SYSTEM: self.system} if self.system else {}),
            "split": {name: self.split[name] for name in SPLIT_ENTRIES if name in self.split},
            **self._cases(),
            "score": score,
            "versions": {"custom_components": __version__, "monai": version("monai"), "torch": torch.__version__},
        }
        write_card(weights, content)

    def _cases(self) -> dict[str, dict[str, Any]]:
        if not self._facts and self.trained is not None:
            trained = facts_of(self.trained.trained_on(), self.trained.synthetic())
            self._facts = {TRAINED_ON: trained, VALIDATED_ON: facts_of(self.trained.validated_on())}
        elif not self._facts:
            trained = data_facts(self.training, self.start)
            self._facts = {TRAINED_ON: trained, VALIDATED_ON: data_facts(self.split.get("validation", ()))}
        return self._facts
