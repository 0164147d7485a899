"""Config values set for a whole study: each applies to the configs that have it."""

import copy
import functools
import inspect
import pydoc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.command_line.typed_words import did_you_mean
from custom_components.command_line.used_entries import normal, used_entries
from monai.bundle import ConfigComponent, ConfigParser
from monai.utils import ensure_tuple

# Values that the study sets in each run, or that the configs set themselves.
RESERVED = (
    *("bundle_root", "dataset_dir", "ckpt_dir", "ckpt_path", "output_dir", "model_path", "resume", "system"),
    *("uniform_ckpt_path", "size_balanced_ckpt_path", "plain_ckpt_path", "segment_ckpt_path"),
    *("fold", "num_folds", "protocol", "weights", "ratio_thresholds", "is_not_rank0", "on_top_of", "outputs"),
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
    parser = ConfigParser(copy.deepcopy(_loaded(config_paths)))
    parser.update(dict(overrides or {}))
    content: dict[str, Any] = parser.get()
    return content


def check_overrides(overrides: Mapping[str, Any], configs: Sequence[tuple[Sequence[str], str]]) -> None:
    """Check that each override is a setting of the configs and that at least one of them uses it.

    Args:
        overrides: values by config id.
        configs: for each kind of run, its config files (overlays last) and the config id that it runs.

    Raises:
        ValueError: if an override is not valid; the message names it.
    """
    known = {key for paths, _ in configs for key in _loaded(paths)}
    used = {key for paths, verb in configs for key in _used(overrides, paths, verb)}
    for key in overrides:
        if _top(key) in RESERVED:
            raise ValueError(f"overrides sets {key!r}, which the study or the config itself sets. Remove it.")
        if _top(key) not in known:
            names = sorted({name for paths, _ in configs for name in knobs(_loaded(paths))} - set(RESERVED))
            raise ValueError(
                f"overrides sets {key!r}, but no config of the bundle has it."
                f"{did_you_mean(key, names, prefix='')} Some that can be set: {', '.join(names)}."
            )
        if key not in (*used, *PLACES):
            raise ValueError(f"overrides sets {key!r}, but no run of this study has it. Check the name, or remove it.")


def overrides_for(overrides: Mapping[str, Any], config_paths: Sequence[str], verb: str) -> dict[str, Any]:
    """Select the overrides that a run uses; values set by an overlay in a subfolder take precedence.

    Args:
        overrides: values by config id.
        config_paths: config files, overlays last, from ``configs`` and its subfolders.
        verb: config id to run.

    Returns:
        Values by config id, without locations. An argument of a component, such as ``network_def::features``, is
        selected only if the component of this run has it.
    """
    overlays = [path for path in config_paths if Path(path).parent.name in OVERLAYS]
    decided = {normal(key) for path in overlays for key in _read(ConfigParser.load_config_file, path)}
    return {key: overrides[key] for key in _used(overrides, config_paths, verb) if normal(key) not in decided}


def knobs(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values (numbers and strings) at the top level of a config.

    Example:
        >>> knobs({"epochs": 20, "grid": [46, 96, 96], "network_def": {"_target_": "A"}, "device": "$first()"})
        {'epochs': 20, 'grid': [46, 96, 96]}
    """
    return {key: value for key, value in content.items() if _plain(value)}


def _used(overrides: Mapping[str, Any], config_paths: Sequence[str], verb: str) -> list[str]:
    content = _loaded(config_paths)
    used = {_top(id_) for id_ in used_entries(content, verb)} - set(PLACES)
    return [key for key in overrides if _top(key) in used and _is_argument(content, key)]


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_plain(part) and not isinstance(part, list) for part in value)
    return value is None or (isinstance(value, bool | int | float | str) and str(value)[:1] not in ("$", "@", "%"))


def _is_argument(content: Any, key: str) -> bool:
    """Whether the component that an id belongs to has this argument; True if that cannot be known."""
    *places, name = normal(key).split("::")
    for place in places:
        content = content.get(place) if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or "_target_" not in content or name.startswith("_"):
        return True
    arguments = _arguments(content)
    return not arguments or name in arguments


def _arguments(component: Mapping[str, Any]) -> set[str]:
    """Names of a component's arguments, with those that it passes on to a callable; empty if it takes any."""
    target = component["_target_"]
    function = pydoc.locate(target) or pydoc.locate(str(ConfigComponent({"_target_": target}).resolve_module_name()))
    parameters = inspect.signature(function).parameters.values() if callable(function) else []
    names = {parameter.name for parameter in parameters}
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return names
    callables = [own for own in component.values() if isinstance(own, Mapping) and own.get("_mode_") == "callable"]
    return {name for own in callables for name in (*names, *_arguments(own))}


def _top(key: str) -> str:
    return normal(key).split("::")[0]


def _loaded(config_paths: Sequence[str]) -> dict[str, Any]:
    """Merged config files; do not modify."""
    return _read(ConfigParser.load_config_files, tuple(config_paths))


def _read(load: Callable[..., dict[str, Any]], paths: str | tuple[str, ...]) -> dict[str, Any]:
    return _read_at(load, paths, tuple(Path(path).stat().st_mtime_ns for path in ensure_tuple(paths)))


@functools.lru_cache(maxsize=64)
def _read_at(
    load: Callable[..., dict[str, Any]], paths: str | tuple[str, ...], times_ns: tuple[int, ...]
) -> dict[str, Any]:
    return load(paths)
