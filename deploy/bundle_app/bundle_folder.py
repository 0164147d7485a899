import json
from pathlib import Path
from typing import Any

INFERENCE = "configs/inference.json"
METADATA = "configs/metadata.json"
WEIGHTS = "models/model.pt"
DOWNLOADS = "large_files.yml"


def find_bundle(model_path: str | Path, name: str) -> Path:
    """Find the bundle of an app, with its weights.

    Args:
        model_path: the bundle's folder, or its parent folder, as in a MAP (MONAI Application Package).
        name: `name` in the bundle's metadata.

    Returns:
        The bundle's folder.

    Raises:
        ValueError: when the bundle or its weights are missing.
    """
    path = Path(model_path)
    candidates = [path, *(sorted(path.iterdir()) if path.is_dir() else [])]
    bundles = [folder for folder in candidates if (folder / INFERENCE).is_file() and (folder / METADATA).is_file()]
    found = {folder: str(bundle_metadata(folder).get("name")) for folder in bundles}
    matching = [folder for folder, its_name in found.items() if its_name == name]
    if not matching:
        there = ", ".join(repr(its_name) for its_name in found.values()) or "no bundle"
        raise ValueError(f"Expected the bundle {name!r} in {path}, found {there}. Give its folder: -m /path/to/bundle")
    check_weights(matching[0])
    return matching[0]


def check_weights(bundle: Path) -> None:
    """Check that a bundle has weights.

    Raises:
        ValueError: when it has none; the message says how to download or train them.
    """
    if (bundle / WEIGHTS).is_file():
        return
    if (bundle / DOWNLOADS).is_file():
        remedy = f"Download them: python -m monai.bundle download_large_files --bundle_path {bundle}"
    else:
        remedy = "Train them: the bundle's docs/README.md has the commands, which begin with `python -m monai.bundle`"
    raise ValueError(f"{bundle.name} has no weights, {bundle / WEIGHTS} does not exist. {remedy}")


def bundle_metadata(bundle: Path) -> dict[str, Any]:
    """Content of the bundle's `metadata.json`."""
    return json.loads((bundle / METADATA).read_text(encoding="utf-8"))
