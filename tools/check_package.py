"""Check that a packaged bundle works alone and follows the rules of MONAI Bundle and the Model Zoo.

    cd elsewhere && PYTHONPATH=PACKAGE python -P check_package.py PACKAGE [--schema meta_schema.json]

This program imports nothing from the repository. It writes into PACKAGE (random weights if there are none, a
TorchScript export), so use a copy.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ComponentLocator, ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out
from monai.utils.module import locate

NETWORK = "network_def"
WORKFLOWS = {("train.yaml",): "train", ("train.yaml", "evaluate.yaml"): "infer", ("inference.json",): "infer"}
# Tolerance of the exported network's logits, which are computed in another order.
TOLERANCE = 1e-4


class SkippedCheckError(Exception):
    """Something that a check needs is missing."""


class Package:
    """A packaged bundle and its checks; a failed check raises an error.

    Args:
        folder: root of the package.
        schema: MONAI's metadata schema; None downloads the one named in the metadata.
    """

    def __init__(self, folder: Path, schema: Path | None = None) -> None:
        self.folder = folder.resolve()
        self.schema = schema or self.folder / "eval" / "schema.json"
        self.inference = str(self.folder / "configs" / "inference.json")
        self.metadata = str(self.folder / "configs" / "metadata.json")
        self.weights = self.folder / "models" / "model.pt"

    def files(self) -> None:
        """The package contains no link and no cache."""
        stray = [path for path in self.folder.rglob("*") if path.is_symlink() or path.name == "__pycache__"]
        if stray:
            raise ValueError(f"{stray[0].relative_to(self.folder)} is a link or a cache. Copy the file itself.")

    def json_format(self) -> None:
        """JSON files are formatted as by the Model Zoo's formatter."""
        for path in sorted(self.folder.rglob("*.json")):
            text = path.read_text(encoding="utf-8")
            if text != json.dumps(json.loads(text), indent=4) + "\n":
                raise ValueError(f"{path.relative_to(self.folder)} is not what json.dumps(..., indent=4) writes.")

    def targets(self) -> None:
        """Each `_target_` of the configs can be imported, those of custom_components from this folder."""
        for path in self.configs():
            config = ConfigParser.load_config_file(path)
            for target in sorted({node["_target_"] for node in nodes(config) if "_target_" in node}):
                if found(target) is None:
                    raise ValueError(f"configs/{path.name}: _target_ {target} cannot be imported.")
        for name, module in sys.modules.items():
            if name.split(".")[0] == "custom_components" and self.folder not in Path(str(module.__file__)).parents:
                raise ValueError(f"{name} was imported from {module.__file__}, not from the package.")

    def schema_of_metadata(self) -> None:
        """`monai.bundle verify_metadata`; skipped if the schema can neither be read nor downloaded."""
        try:
            verify_metadata(meta_file=self.metadata, filepath=self.schema)
        except OSError as error:  # no network, no such address, a firewall
            raise SkippedCheckError(f"MONAI's schema is not available ({error}). Set --schema to a copy") from error

    def properties(self, configs: Sequence[tuple[str, ...]] = tuple(WORKFLOWS)) -> None:
        """`check_properties()` of training, evaluation and inference, on the synthetic data."""
        for names in configs:
            workflow = ConfigWorkflow(
                config_file=[str(self.folder / "configs" / name) for name in names],
                workflow_type=WORKFLOWS[names],
                logging_file=False,
                bundle_root=str(self.folder),
                dataset_dir="phantom",
            )
            workflow.initialize()
            if missing := workflow.check_properties():
                raise ValueError(f"configs/{names[-1]} has no {', '.join(missing)}, or a wrong one.")

    def network(self) -> None:
        """`monai.bundle verify_net_in_out`."""
        verify_net_in_out(NETWORK, self.metadata, self.inference, device="cpu", bundle_root=str(self.folder))

    def torchscript(self) -> None:
        """`monai.bundle ckpt_export`; the export has the same logits as the network."""
        exported = self.weights.with_name("verified.ts")
        ckpt_export(
            NETWORK, str(exported), str(self.weights), self.metadata, self.inference, bundle_root=str(self.folder)
        )
        network = self.parser().get_parsed_content(NETWORK).eval()
        network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        image = torch.rand(self.input_shape(), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected, logits = network(image), torch.jit.load(exported)(image)
        if not torch.allclose(logits, expected, atol=TOLERANCE, rtol=TOLERANCE):
            raise ValueError(f"TorchScript's logits differ by up to {(logits - expected).abs().max():g}.")

    def configs(self) -> Iterator[Path]:
        """The configs: all JSON and YAML files except the metadata."""
        for path in sorted((self.folder / "configs").rglob("*")):
            if path.suffix in (".json", ".yaml") and path.name != "metadata.json":
                yield path

    def parser(self) -> ConfigParser:
        """inference.json with the metadata; the network is that of the weights' card."""
        parser = ConfigParser()
        parser.read_config(self.inference)
        parser["bundle_root"] = str(self.folder)
        parser.read_meta(self.metadata)
        return parser

    def input_shape(self) -> tuple[int, ...]:
        """Shape of a batch of one; each side is twice the minimum in the metadata."""
        image = self.parser()["_meta_"]["network_data_format"]["inputs"]["image"]
        sides = (2 * int(str(side).removesuffix("*n")) for side in image["spatial_shape"])
        return (1, image["num_channels"], *sides)

    def make_weights(self, seed: int = 0) -> None:
        """Write random weights."""
        torch.manual_seed(seed)
        self.weights.parent.mkdir(exist_ok=True)
        torch.save(self.parser().get_parsed_content(NETWORK).state_dict(), self.weights)


CHECKS = (
    Package.files,
    Package.json_format,
    Package.targets,
    Package.schema_of_metadata,
    Package.properties,
    Package.network,
    Package.torchscript,
)


def nodes(config: Any) -> Iterator[dict[str, Any]]:
    """Every dict of a config."""
    if isinstance(config, dict):
        yield config
    for child in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from nodes(child)


def found(target: str) -> Any:
    """Object named by a `_target_`, as MONAI looks it up; None if there is none or more than one."""
    module = ComponentLocator().get_component_module_name(target)
    return None if isinstance(module, list) else locate(target if module is None else f"{module}.{target}")


def failures(package: Package) -> int:
    """Run all checks, write a line for each, and count those that fail."""
    count = 0
    for check in CHECKS:
        title = f"{package.folder.name}: {check.__name__}"
        try:
            check(package)
            sys.stdout.write(f"{title}: ok\n")
        except SkippedCheckError as reason:
            sys.stdout.write(f"{title}: skipped: {reason}\n")
        except Exception as error:  # MONAI raises many types; the other checks still run
            count += 1
            sys.stdout.write(f"{title}: FAILED: {type(error).__name__}: {error}\n")
    return count


def main() -> None:
    """Check one package."""
    parser = argparse.ArgumentParser(description="Check a packaged bundle.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--schema", type=Path)
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # MONAI's progress messages; failures are raised
    package = Package(given.folder, given.schema)
    if not package.weights.is_file():
        package.make_weights()
        sys.stdout.write(f"{package.folder.name}: no weights: verified with random ones\n")
    sys.exit(1 if failures(package) else 0)


if __name__ == "__main__":
    main()
