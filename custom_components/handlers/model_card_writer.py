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
    case_digest,
    data_facts,
    facts_of,
    write_card,
)

# Of a split, what a card tells: how the cases were divided, and none of them.
OF_SPLIT = ("protocol", "num_folds", "fold", "border", "seed")


class ModelCardWriter:
    """Writes beside weights what is needed to use them (:mod:`custom_components.weights.model_card`).

    Args:
        settings: numbers of the training by name: of the preprocessing, of the network.
        network: its class is recorded, and its arguments where it keeps them as ``definition``.
        training: cases that are trained on.
        split: as ``split_cases`` or ``select_fold`` returns it; its validation cases are recorded too.
        trained: what the parts of a joint network were trained with; in place of ``training``.
        system: name of what is trained, where a bundle has several systems.
        start: what the weights that the training starts from were trained with: their cases were trained on too.
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
            weights: their file.
            score: name, value and epoch of the score they were chosen by.
        """
        kind = type(self.network)
        content = {
            NETWORK: {"_target_": f"{kind.__module__}.{kind.__qualname__}", **getattr(self.network, "definition", {})},
            SETTINGS: self.settings,
            **({SYSTEM: self.system} if self.system else {}),
            "split": {name: self.split[name] for name in OF_SPLIT if name in self.split},
            **self._cases(),
            "score": score,
            "versions": {"custom_components": __version__, "monai": version("monai"), "torch": torch.__version__},
        }
        write_card(weights, content)

    def _cases(self) -> dict[str, dict[str, Any]]:
        if not self._facts and self.trained is not None:
            trained, validated = self.trained.trained_on(), self.trained.validated_on()
            self._facts = {TRAINED_ON: facts_of(trained), VALIDATED_ON: facts_of(validated)}
        elif not self._facts:
            before = set() if self.start is None else self.start.trained_on()
            trained = {case_digest(case) for case in self.training} | before
            self._facts = {TRAINED_ON: facts_of(trained), VALIDATED_ON: data_facts(self.split.get("validation", ()))}
        return self._facts
