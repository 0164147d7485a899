"""Use a bundle inside another program: its network, and the steps of its ``inference.json``."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import custom_components
import torch
from custom_components.command_line.typed_words import did_you_mean
from custom_components.files.digest import file_digest
from custom_components.handlers.load_weights import OPTION, LoadWeights
from custom_components.reports.scan.findings import Model
from custom_components.weights.model_card import SYNTHETIC_ONLY, TRAINED_ON, all_synthetic, read_card, training_text
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import nn

INFERENCE, METADATA = "configs/inference.json", "configs/metadata.json"
# Entry of the metadata: scores of weights on left-out data, by their hash.
LEFT_OUT_SCORES = "left_out_scores"
PRECISIONS = ("auto", "fp32", "bf16")
# Steps for the lungs and the check of the scan when there is no covid_cap_bundle.
WITHOUT_BUNDLE = {
    "masks": [{"_target_": "custom_components.FallbackLungMaskd"}],
    "check": [{"_target_": "custom_components.CheckScand"}],
}

_logger = logging.getLogger(__name__)


class BundleSteps:
    """The steps of a bundle's ``inference.json``, each a list of transforms.

    Args:
        bundle: folder of the bundle; None provides only lungs by threshold and the check of the scan.
        overrides: config entries to change; entries that the config does not have are ignored.

    Raises:
        ValueError: when the config cannot be read, or is of a version without steps.
    """

    def __init__(self, bundle: Path | None = None, **overrides: Any) -> None:
        self._config = ConfigParser(WITHOUT_BUNDLE if bundle is None else _read_config(bundle))
        given = {**overrides, "bundle_root": str(bundle), "progress": False}
        self._config.update({key: value for key, value in given.items() if key in self._config})

    def get(self, name: str) -> Any:
        """The parsed content of a config entry."""
        return self._config.get_parsed_content(name)

    def apply(self, step: str, item: Mapping[str, Any]) -> dict[str, Any]:
        """Apply a step to a shallow copy of a case."""
        result = dict(item)
        for transform in self.get(step):
            result = transform(result)
        return result


@dataclass(frozen=True)
class BundleNetwork:
    """One network of a bundle with its weights and the bundle's steps.

    Args:
        steps: steps of the bundle.
        network: the network in eval mode.
        model: description of the network for reports.
    """

    steps: BundleSteps
    network: Any
    model: Model

    @classmethod
    def load(
        cls, bundle: Path, weights: Path, name: str, precision: str = "auto", prefix: str = "", option: str = OPTION
    ) -> "BundleNetwork":
        """Create the network of the bundle's ``inference.json`` and load its weights.

        Args:
            bundle: folder of the bundle.
            weights: file with a plain state dict.
            name: purpose of the network, for reports.
            precision: ``auto`` (as in the config), ``fp32`` or ``bf16``.
            prefix: prefix of the config entries ``network`` and ``ckpt_path``; ``segment_`` for VB-Net.
            option: command-line option of the weights, for messages.

        Raises:
            ValueError: when the folder is not a bundle, or the weights are missing, broken or of another network.
        """
        steps = BundleSteps(bundle, **{f"{prefix}ckpt_path": str(weights)}, **precision_settings(precision))
        network = load_network(steps.get(f"{prefix}network"), weights, option)
        return cls(steps, network, describe_model(bundle, weights, name))

    def predict(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Apply the network to a preprocessed case; the output is added as ``pred``."""
        image: MetaTensor = item["image"]
        with torch.no_grad():
            batch = image.as_tensor()[None].to(self.steps.get("device"))
            found = self.steps.get("inferer")(batch, self.network)
        if isinstance(found, Mapping):
            return {**item, "pred": {key: _like(value[0].cpu(), image) for key, value in found.items()}}
        return {**item, "pred": _like(found[0].cpu(), image)}


def _read_config(bundle: Path) -> dict[str, Any]:
    try:
        config = ConfigParser.load_config_file(str(bundle / INFERENCE))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{bundle.name} has no readable {INFERENCE}. Set --bundles_dir to the folder that contains the bundles."
        ) from error
    if "to_network" not in config:
        raise ValueError(
            f"{INFERENCE} of {bundle.name} has no steps (to_network): it is of another version. Set --bundles_dir to "
            "the folder that contains the bundles of this version."
        )
    return config


def precision_settings(precision: str) -> dict[str, Any]:
    """Overrides of a bundle's config that set the precision.

    Args:
        precision: ``auto``, ``fp32`` or ``bf16``.

    Raises:
        ValueError: when it is not one of these.

    Example:
        >>> precision_settings("fp32")
        {'amp': False}
    """
    if precision not in PRECISIONS:
        near = did_you_mean(str(precision), PRECISIONS, prefix="")
        raise ValueError(f"precision is {precision!r}. Expected one of: {', '.join(PRECISIONS)}.{near}")
    half = {"amp": True, "half_type": "bfloat16", "use_half": True, "segment_amp": True}
    settings: dict[str, dict[str, Any]] = {"auto": {}, "fp32": {"amp": False}, "bf16": half}
    return settings[precision]


def load_network(network: nn.Module, weights: Path, option: str = OPTION) -> nn.Module:
    """Load weights (a plain state dict) into a network and return it in eval mode.

    Raises:
        ValueError: names ``option`` when the weights are missing, broken or of another network.
    """
    LoadWeights(weights, network, option=option)()
    return network.eval()


def describe_model(bundle: Path, weights: Path, name: str) -> Model:
    """Description of a network for reports: version of its bundle, file name, hash, training data and scores.

    Training data and scores are found by the hash of the weights in ``trained_on`` and ``left_out_scores`` of the
    bundle's ``metadata.json``, so that other weights are never reported as those of the bundle.
    """
    try:
        metadata = json.loads((bundle / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        metadata = {}
    digest, card = file_digest(weights), read_card(weights)
    stated = metadata.get(TRAINED_ON, {}).get(digest)
    synthetic = not stated and all_synthetic(card)
    if synthetic:
        _logger.warning("%s: %s", weights.name, SYNTHETIC_ONLY)
    version = str(metadata.get("version", "unknown"))
    scores = metadata.get(LEFT_OUT_SCORES, {}).get(digest, {})
    return Model(name, version, weights.name, digest, str(stated or training_text(card)), synthetic, scores)


def find_bundle(name: str, bundles_dir: str | Path | None = None) -> Path | None:
    """Find a bundle in ``bundles_dir``, or next to the package (as in a clone) or one folder up (in a bundle).

    Returns:
        Folder of the bundle; None if there is none next to the package.

    Raises:
        ValueError: when ``bundles_dir`` does not contain it.
    """
    places = [Path(bundles_dir)] if bundles_dir else _places()
    found = next((place / name for place in places if (place / name / INFERENCE).is_file()), None)
    if found is None and bundles_dir:
        raise ValueError(f"No {name} with {INFERENCE} in {bundles_dir}. Give the folder that contains both bundles.")
    return found


def bundle_folder(name: str, bundles_dir: str | Path | None = None) -> Path:
    """Folder of a bundle, in a clone or after ``pip install``.

    Args:
        name: ``covid_cap_bundle`` or ``covid_seg_bundle``.
        bundles_dir: folder that contains the bundles; None searches next to the package.

    Returns:
        Absolute path of the folder.

    Raises:
        ValueError: when it is not found; names the searched folders.

    Example:
        >>> bundle_folder("covid_seg_bundle").name
        'covid_seg_bundle'
    """
    found = find_bundle(name, bundles_dir)
    if found is None:
        places = " and ".join(map(str, _places()))
        raise ValueError(f"No {name} with {INFERENCE} in {places}. Give bundles_dir, the folder that contains it.")
    return found.resolve()


def _places() -> list[Path]:
    around = Path(custom_components.__file__).resolve().parent.parent
    return [around, around.parent]


def _like(output: torch.Tensor, image: MetaTensor) -> torch.Tensor:
    """A volume with the metadata of the image, which lead back to the grid of the case; a logit is unchanged."""
    return MetaTensor(output).copy_meta_from(image) if output.ndim == image.ndim else output
