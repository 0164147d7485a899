"""Config values set for a whole study: each applies to the configs that have it."""

import copy
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.command_line.typed_words import did_you_mean
from custom_components.command_line.used_entries import normal, used_entries
from monai.bundle import ConfigParser

# Values that the study sets in each run.
OWN = (
    *("bundle_root", "dataset_dir", "ckpt_dir", "ckpt_path", "output_dir", "model_path", "resume"),
    *("uniform_ckpt_path", "size_balanced_ckpt_path", "plain_ckpt_path", "segment_ckpt_path"),
    *("fold", "num_folds", "protocol", "weights", "ratio_thresholds"),
)
# Locations, which do not affect the result.
PLACES = ("cache_dir",)
# Subfolders of a bundle's ``configs``.
OVERLAYS = ("networks", "recipes")


def config_content(config_paths: Sequence[str], overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Merge a config with its overlays and overrides.

    Args:
        config_paths: config files, overlays last.
        overrides: values by config id.

    Returns:
        The unparsed content; references and expressions are not resolved.
    """
    parser = ConfigParser(copy.deepcopy(_loaded(tuple(config_paths))))
    parser.update(dict(overrides or {}))
    content: dict[str, Any] = parser.get()
    return content


def check_overrides(overrides: Mapping[str, Any], configs: Sequence[Sequence[str]]) -> None:
    """Check that each override exists in a config and is not set by the study.

    Args:
        overrides: values by config id.
        configs: files of each config, overlays last.

    Raises:
        ValueError: if an override is not valid; the message names it.
    """
    known = {key for paths in configs for key in _loaded(tuple(paths))}
    for key in overrides:
        if top_entry(key) in OWN:
            raise ValueError(f"overrides sets {key!r}, but the study sets it in each run. Remove it.")
        if top_entry(key) not in known:
            names = sorted(name for paths in configs for name, value in config_content(paths).items() if _plain(value))
            raise ValueError(
                f"overrides sets {key!r}, but no config of the bundle has it."
                f"{did_you_mean(key, names, prefix='')} Some that can be set: "
                f"{', '.join(dict.fromkeys(name for name in names if name not in OWN))}."
            )


def overrides_for(overrides: Mapping[str, Any], config_paths: Sequence[str], verb: str) -> dict[str, Any]:
    """Select the overrides that a run uses; values set by an overlay in a subfolder take precedence.

    Args:
        overrides: values by config id.
        config_paths: config files, overlays last, from ``configs`` and its subfolders.
        verb: config id to run.

    Returns:
        Values by config id, without paths.
    """
    overlays = [path for path in config_paths if Path(path).parent.name in OVERLAYS]
    decided = {normal(key) for path in overlays for key in _entries(path)}
    used = {top_entry(id_) for id_ in used_entries(_loaded(tuple(config_paths)), verb)}
    chosen = {key: value for key, value in overrides.items() if top_entry(key) in used and normal(key) not in decided}
    return {key: value for key, value in chosen.items() if key not in PLACES}


def knobs(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values (numbers and strings) at the top level of a config.

    Example:
        >>> knobs({"epochs": 20, "grid": [46, 96, 96], "network_def": {"_target_": "A"}, "device": "$first()"})
        {'epochs': 20, 'grid': [46, 96, 96]}
    """
    return {key: value for key, value in content.items() if _plain(value)}


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_plain(part) and not isinstance(part, list) for part in value)
    return value is None or (isinstance(value, bool | int | float | str) and str(value)[:1] not in ("$", "@", "%"))


def top_entry(key: str) -> str:
    """The entry that a config id is in."""
    return normal(key).split("::")[0]


def _loaded(config_paths: tuple[str, ...]) -> dict[str, Any]:
    """Merged config files; do not modify."""
    return _loaded_at(config_paths, tuple(map(_time_ns, config_paths)))


def _entries(path: str) -> frozenset[str]:
    """Config ids defined in one file."""
    return _entries_at(path, _time_ns(path))


@functools.lru_cache(maxsize=64)
def _loaded_at(config_paths: tuple[str, ...], times_ns: tuple[int, ...]) -> dict[str, Any]:
    return ConfigParser.load_config_files(list(config_paths))


@functools.lru_cache(maxsize=64)
def _entries_at(path: str, time_ns: int) -> frozenset[str]:
    return frozenset(ConfigParser.load_config_file(path))


def _time_ns(path: str) -> int:
    return Path(path).stat().st_mtime_ns
