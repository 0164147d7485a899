"""``segment_masks`` in a separate process, which kills itself when it calls a given function."""

import importlib
import sys

from custom_components.masks.command import segment_masks
from custom_components.phantom import make_scan

from tests.diagnosis.killed_diagnosis import SCAN, die, planted_masks


def main(datalist: str, out: str, bundles: str, function: str) -> None:
    """Make masks until the function, ``module:name``, is called."""
    planted_masks(make_scan(*SCAN))
    module, name = function.split(":")
    setattr(importlib.import_module(module), name, die)
    segment_masks(datalist, out, bundles_dir=bundles, infection_by="vbnet", num_folds=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
