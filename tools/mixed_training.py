"""Shared parts of the trainings on several data sets: held-out cases, schedule, and a resumable training loop."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from custom_components.data.mixed_draws import MixedDraws
from custom_components.data.seeded_draws import SeededDrawSampler
from custom_components.files.atomic import atomic_path
from custom_components.handlers.model_card_writer import ModelCardWriter
from custom_components.inferers.autocast_inferer import cpu_computes_bfloat16
from monai.data import DataLoader
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

HELD_OUT = ("LUNG1-016", "LUNG1-005", "LCTSC-Test-S1-103", "volume_0000", "volume_0789")
WEIGHT_DECAY, MOST_GRADIENT = 1e-4, 5.0

_logger = logging.getLogger(__name__)


def is_held_out(case_id: str) -> bool:
    """Whether a case belongs to a patient or run in HELD_OUT; parts of a cut run are called volume_0279_1, ...."""
    return any(case_id == name or case_id.startswith(f"{name}_") for name in HELD_OUT)


def listed_cases(folder: Path) -> list[dict[str, Any]]:
    """Cases of a folder's datalist."""
    return json.loads((folder / "datalist.json").read_text(encoding="utf-8"))["cases"]


class WithLungs:
    """Adds the lungs of a case from its label: True where the label has one of ``values``, or of ``lung_values``."""

    def __init__(self, values: Sequence[int] | None = None) -> None:
        self.values = values

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Image, label (uint8) and lungs of one case, with its other entries."""
        label = torch.as_tensor(data["label"]).to(torch.uint8)
        values = data["lung_values"] if self.values is None else self.values
        lung = torch.isin(label, torch.tensor(values, dtype=torch.uint8))
        return {**data, "image": torch.as_tensor(data["image"]).float(), "label": label, "lung": lung}


class WithSets:
    """Replaces label values by sets of classes, from a table or from the case's own ``table``."""

    def __init__(self, table: np.ndarray | None = None) -> None:
        self.table = table

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Image and label sets of one case."""
        table = torch.from_numpy(data["table"] if self.table is None else self.table)
        return {"image": torch.as_tensor(data["image"]).float(), "label": table[data["label"].long()]}


def rate(step: int, steps: int, peak: float, warm_up: int = 100) -> float:
    """Learning rate: linear warm-up, then half a cosine to 0."""
    return peak * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + float(np.cos(np.pi * min(step / steps, 1.0))))


class MixedTraining:
    """AdamW on the partial-label loss, in bf16 where the device computes it, with a moving average of the weights.

    Args:
        folder: gets state.pt, from which the same training resumes, and ema.pt, the averaged weights, with their card.
        network: network to train, on its device.
        loss_function: loss of logits and label sets.
        steps: total number of optimizer steps; the learning rate falls to 0 over them.
        learning_rate: maximum learning rate.
        ema_decay: decay of the moving average of the weights.
        save_seconds: seconds between two writes of state.pt.
        card: writer of the card of the weights.
    """

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        loss_function: nn.Module,
        steps: int,
        learning_rate: float,
        ema_decay: float,
        save_seconds: float,
        card: ModelCardWriter,
    ) -> None:
        self.card = card
        self.folder, self.network, self.loss_function = folder, network, loss_function
        self.steps, self.learning_rate, self.save_seconds = steps, learning_rate, save_seconds
        self.device = next(network.parameters()).device
        self.half = self.device.type != "cpu" or cpu_computes_bfloat16()  # much slower if emulated
        self.averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))
        self.optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
        self.step = self._resume()

    def run(self, draws: MixedDraws, batch_size: int, num_workers: int = 0, seed: int = 0) -> None:
        """Train to the last step, one epoch of ``draws`` at a time.

        Args:
            draws: training samples: images (C, ...) and label sets.
            batch_size: samples per step.
            num_workers: data loading processes.
            seed: random seed of the order.
        """
        sampler = SeededDrawSampler(draws, seed=seed)
        saved = time.monotonic()
        while self.step < self.steps:
            sampler.set_epoch(self.step // (len(draws) // batch_size))
            began, losses = time.monotonic(), []
            for batch in DataLoader(draws, batch_size=batch_size, sampler=sampler, num_workers=num_workers):
                losses.append(self._train(batch))
            seconds = (time.monotonic() - began) / len(losses)
            _logger.info("step %d of %d: loss %.4f, %.2f s a step", self.step, self.steps, np.mean(losses), seconds)
            if time.monotonic() - saved > self.save_seconds and self.step < self.steps:
                self._save()
                saved = time.monotonic()
        self._save()  # also after a training that was killed between its last state and its weights
        _logger.info("Wrote %s", self.folder / "ema.pt")

    def _train(self, batch: Mapping[str, torch.Tensor]) -> float:
        self.optimizer.param_groups[0]["lr"] = rate(self.step, self.steps, self.learning_rate)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits = self.network(batch["image"].to(self.device))
        loss = self.loss_function(logits.float(), batch["label"].to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), MOST_GRADIENT)
        self.optimizer.step()
        self.averaged.update_parameters(self.network)
        self.step += 1
        return float(loss.item())

    def _parts(self) -> dict[str, Any]:
        return {"network": self.network, "averaged": self.averaged, "optimizer": self.optimizer}

    def _resume(self) -> int:
        path = self.folder / "state.pt"
        if not path.is_file():
            return 0
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        _logger.info("Resumes at step %d", state["step"])
        return int(state["step"])

    def _save(self) -> None:
        states = {"step": self.step, **{name: part.state_dict() for name, part in self._parts().items()}}
        for name, content in (("state.pt", states), ("ema.pt", self.averaged.module.state_dict())):
            with atomic_path(self.folder / name) as temporary:
                torch.save(content, temporary)
        self.card.write(self.folder / "ema.pt")
