"""A bundle as a deployment tool gets it, with a network and a grid as small as in the bundle's own tests."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

CONFIGS = {"inference.json": "json", "train.yaml": "yaml"}
LEFT_OUT = ("__pycache__", "cache", "eval", "models", "output")


def small_bundle(source: Path, target: Path, small: Mapping[str, Any], seed: int = 0) -> Path:
    """Copy a bundle, write the overrides into its configs, since a server takes none, and give it random weights."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name, kind in CONFIGS.items():
        override(target / "configs" / name, kind, small)
    parser = ConfigParser()
    parser.read_config(target / "configs" / "inference.json")
    torch.manual_seed(seed)
    state = parser.get_parsed_content("network_def").state_dict()
    (target / "models").mkdir()
    torch.save(state, target / "models" / "model.pt")
    return target


def override(path: Path, kind: str, changes: Mapping[str, Any]) -> None:
    parser = ConfigParser()
    parser.read_config(path)
    for key, value in changes.items():
        parser[key] = value
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    ConfigParser.export_config_file(config, path, fmt=kind)
