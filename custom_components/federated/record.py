"""The server's files of a federation: best and newest weights, the model card, rounds and scores."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from custom_components._version import __version__
from custom_components.files.atomic import atomic_path, writable_folder
from custom_components.weights.model_card import SPLIT, SYNTHETIC_CASES, TRAINED_ON, VALIDATED_ON, write_card

BEST, NEWEST, ROUNDS = "model.pt", "newest.pt", "rounds.json"


@dataclass
class FederationRecord:
    """State of a federation after each round, from which a killed server resumes.

    Args:
        folder: folder of its files.
        rounds: completed rounds: pooled score of the model that the round began with, sites, and those left out.
        sites: counts of each site that took part.
        best: name, value and round of the best score so far.
        scores: scores of the best model at each site.
        card: network and settings of the model.
        problem: why the last run ended early; empty if it did not.
    """

    folder: str
    rounds: list[dict[str, Any]] = field(default_factory=list)
    sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def read(cls, folder: str | Path) -> "FederationRecord":
        """Read the record of a folder; a new one if there is none.

        Raises:
            ValueError: when the file cannot be read.
        """
        path = writable_folder(folder) / ROUNDS
        if not path.is_file():
            return cls(str(folder))
        try:
            return cls(str(folder), **json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}). Remove it to start a new federation.") from error

    def begin(self, card: Mapping[str, Any]) -> None:
        """Begin or resume with a network and settings.

        Raises:
            ValueError: when the folder has a federation with others.
        """
        if self.rounds and self.card != dict(card):
            other = [name for name in card if self.card.get(name) != card[name]]
            raise ValueError(
                f"{self.folder} has a federation with other {' and '.join(other)}. Repeat its options to resume it, or "
                "use another folder."
            )
        self.card, self.problem = dict(card), ""
        self.write()

    @property
    def group_counts(self) -> dict[str, int] | None:
        """Scans of each size group at all sites; None if a site has no infection ratios."""
        groups = [site["groups"] for site in self.sites.values()]
        if not groups or any(one is None for one in groups):
            return None
        names = max(groups, key=len)
        return {name: sum(one.get(name, 0) for one in groups) for name in names}

    def is_better(self, score: float) -> bool:
        """Whether a score is the best so far; without any defined score the newest model counts as best."""
        known = self.best.get("value")
        return known is None or (not math.isnan(score) and score > known)

    def keep_best(self, weights: Mapping[str, Any], score: Mapping[str, Any]) -> None:
        """Write ``model.pt`` and ``model.json``.

        Args:
            weights: weights by name.
            score: name, value (NaN if undefined) and round of their score.
        """
        value = float(score["value"])
        self.best = {**score, "value": None if math.isnan(value) else value}
        self._save(BEST, weights)
        write_card(Path(self.folder) / BEST, {**self.card, **self._facts()})

    def keep_newest(self, weights: Mapping[str, Any], **facts: Any) -> None:
        """Write ``newest.pt`` and, after it, ``rounds.json`` with one round more."""
        self._save(NEWEST, weights)
        self.rounds.append(facts)
        self.write()

    def weights(self, name: str) -> dict[str, np.ndarray]:
        """Weights of one of the two files."""
        state = torch.load(Path(self.folder) / name, map_location="cpu", weights_only=True)
        return {key: value.numpy() for key, value in state.items()}

    def write(self) -> None:
        """Write ``rounds.json``."""
        content = {name: value for name, value in asdict(self).items() if name != "folder"}
        with atomic_path(Path(self.folder) / ROUNDS) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _save(self, name: str, weights: Mapping[str, Any]) -> None:
        tensors = {key: torch.tensor(np.array(value)) for key, value in weights.items()}
        with atomic_path(Path(self.folder) / name) as temporary:
            torch.save(tensors, temporary)

    def _facts(self) -> dict[str, Any]:
        took_part = {name for one in self.rounds for name in one["sites"]}
        sites = [self.sites[name] for name in sorted(took_part)]
        total = {name: sum(site[name] for site in sites) for name in ("training", "validation", "synthetic")}
        return {
            SPLIT: {"protocol": f"federated over {len(sites)} sites, a validation fold at each"},
            TRAINED_ON: {"cases": total["training"], "digests": [], SYNTHETIC_CASES: total["synthetic"]},
            VALIDATED_ON: {"cases": total["validation"], "digests": []},
            "score": {"name": self.best["name"], "value": self.best["value"], "epoch": self.best["round"]},
            "versions": {"custom_components": __version__, "monai": version("monai"), "torch": torch.__version__},
        }
