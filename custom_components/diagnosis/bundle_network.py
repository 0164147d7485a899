"""A bundle applied within another program: its network, and its transforms less loading and saving."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import custom_components
import torch
from custom_components.files.digest import file_digest
from custom_components.handlers.load_weights import LoadWeights
from custom_components.reports.scan.findings import Model
from custom_components.transforms.attention_levels import AttentionLevelsd
from custom_components.weights.model_card import read_card
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, CopyItemsd, LoadImaged, SaveImaged
from torch import nn

INFERENCE, METADATA = "configs/inference.json", "configs/metadata.json"
PRECISIONS = ("auto", "fp32", "bf16")
# Entry of metadata.json: what weights were trained on, by the SHA-256 of their file.
TRAINED_ON = "trained_on"


@dataclass(frozen=True)
class BundleNetwork:
    """A bundle's network with weights, and what its ``inference.json`` does before and after it.

    Args:
        network: in eval mode, channels last.
        before: the preprocessing, without loading and without copies for reports.
        inferer: the bundle's.
        after: the postprocessing, without saving and without levels for viewers.
        model: what reports tell of it.
        device: where the network is.
    """

    network: Any
    before: Compose
    inferer: Any
    after: Compose
    model: Model
    device: torch.device

    @classmethod
    def load(
        cls, bundle: Path, weights: Path, name: str, precision: str = "auto", spatial_dims: int = 3
    ) -> "BundleNetwork":
        """Make network and transforms as the bundle's ``inference.json`` says, and load the weights.

        Args:
            bundle: its folder.
            weights: plain state dict of its ``network_def``.
            name: what the network is for.
            precision: ``auto`` (bfloat16 where the CPU computes it), ``fp32`` or ``bf16``.
            spatial_dims: of the network.

        Raises:
            ValueError: when the bundle is none, or the weights are missing, broken or of another network.
        """
        given = {"ckpt_path": str(weights), "progress": False}
        parser = bundle_parser(bundle, {**given, **precision_settings(precision)})
        device = torch.device(parser.get_parsed_content("device"))
        network = load_network(parser.get_parsed_content("network_def"), weights, spatial_dims).to(device)
        before, after = (parser.get_parsed_content(key) for key in ("preprocessing", "postprocessing"))
        return cls(
            network=network,
            before=_without(before, LoadImaged, CopyItemsd),  # copies are for reports alone
            inferer=parser.get_parsed_content("inferer"),
            after=_without(after, SaveImaged, AttentionLevelsd),  # levels are for viewers alone
            model=describe_model(bundle, weights, name),
            device=device,
        )

    def prepare(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Bring a loaded case into the form that the network takes."""
        return self.before(dict(item))

    def predict(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Apply the network to a prepared case; its output is under ``pred``."""
        image: MetaTensor = item["image"]
        with torch.no_grad():
            found = self.inferer(image.as_tensor()[None].to(self.device), self.network)
        if isinstance(found, Mapping):
            return {**item, "pred": {key: _like(value[0].cpu(), image) for key, value in found.items()}}
        return {**item, "pred": _like(found[0].cpu(), image)}

    def restore(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Take the output back to the grid of the case."""
        return self.after(dict(item))


def bundle_parser(bundle: Path, overrides: Mapping[str, Any]) -> ConfigParser:
    """The bundle's ``inference.json``; overrides that it has no entry for are passed over.

    Raises:
        ValueError: when it is not there or cannot be read.
    """
    try:
        parser = ConfigParser(ConfigParser.load_config_file(str(bundle / INFERENCE)))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{bundle.name} has no readable {INFERENCE}. Give the folder of the bundles: --bundles_dir"
        ) from error
    parser["bundle_root"] = str(bundle)
    for key, value in overrides.items():
        if key in parser:
            parser[key] = value
    return parser


def precision_settings(precision: str) -> dict[str, Any]:
    """Overrides of a bundle's config that set the precision.

    Args:
        precision: ``auto``, ``fp32`` or ``bf16``.

    Raises:
        ValueError: when it is something else.

    Example:
        >>> precision_settings("fp32")
        {'amp': False}
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}. Expected one of: {', '.join(PRECISIONS)}.")
    return {"auto": {}, "fp32": {"amp": False}, "bf16": {"amp": True, "inferer::enabled": True}}[precision]


def load_network(network: nn.Module, weights: Path, spatial_dims: int) -> nn.Module:
    """Fill a network with weights and set it up for inference, channels last in memory.

    Args:
        network: of the architecture of the weights.
        weights: plain state dict.
        spatial_dims: 2 or 3.

    Returns:
        The network, in eval mode.

    Raises:
        ValueError: when the weights are missing, broken or of another network.
    """
    LoadWeights(weights, network)()
    last: Any = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
    return network.to(memory_format=last).eval()  # type: ignore[call-overload]


def describe_model(bundle: Path, weights: Path, name: str) -> Model:
    """What reports tell of a network: version of its bundle, name and hash of its weights, what these were trained on.

    The last is looked up by the hash under ``trained_on`` of the bundle's ``metadata.json``, so that weights trained
    elsewhere never pass for those that came with the bundle.
    """
    try:
        metadata = json.loads((bundle / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        metadata = {}
    digest = file_digest(weights)
    trained_on = str(metadata.get(TRAINED_ON, {}).get(digest) or _told(read_card(weights)))
    return Model(name, str(metadata.get("version", "unknown")), weights.name, digest, trained_on)


def _told(card: Mapping[str, Any]) -> str:
    """What the card of weights trained elsewhere tells of their training."""
    if not card:
        return "unknown"
    score = card.get("score") or {}
    chosen = f", {score['name']} {score['value']:.3f} in epoch {score['epoch']}" if score.get("value") else ""
    protocol = card.get("split", {}).get("protocol", "no split")
    return f"{card.get('trained_on', {}).get('cases', 0)} cases of the user's own ({protocol}){chosen}"


def find_bundle(name: str, bundles_dir: str | Path | None = None) -> Path | None:
    """Folder of a bundle: in ``bundles_dir``, or beside or around the package, as in a clone and in a packaged bundle.

    Args:
        name: of its folder.
        bundles_dir: folder that holds the bundles.

    Returns:
        Its folder, None when there is none.

    Raises:
        ValueError: when ``bundles_dir`` does not hold it.
    """
    around = Path(custom_components.__file__).resolve().parent.parent
    places = [Path(bundles_dir)] if bundles_dir else [around, around.parent]
    found = next((place / name for place in places if (place / name / INFERENCE).is_file()), None)
    if found is None and bundles_dir:
        raise ValueError(f"No {name} with {INFERENCE} in {bundles_dir}. Give the folder that holds both bundles.")
    return found


def _like(output: torch.Tensor, image: MetaTensor) -> torch.Tensor:
    """A volume gets the metadata of the image, which lead back to the grid of the case; a logit stays as it is."""
    return MetaTensor(output).copy_meta_from(image) if output.ndim == image.ndim else output


def _without(compose: Compose, *kinds: type) -> Compose:
    return Compose([transform for transform in compose.flatten().transforms if not isinstance(transform, kinds)])
