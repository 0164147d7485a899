"""``diagnose`` in a separate process, which kills itself when it calls a given function."""

import importlib
import os
import signal
import sys
from pathlib import Path

from custom_components.diagnosis.command import diagnose
from custom_components.phantom import Phantom, make_scan
from custom_components.transforms.lungs import segment_lungs

SCAN = ("covid", 0.2, 3, (96, 84, 40), (3.9, 4.4, 7.0))


def planted_masks(phantom: Phantom) -> None:
    """Let VB-Net return the masks of the phantom."""
    from tests.diagnosis.conftest import PlantedMasks

    segment_lungs.segment_lungs_and_infection = PlantedMasks(phantom)  # type: ignore[assignment]


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(study: str, out: str, bundles: str, function: str) -> None:
    """Diagnose a study until the function, ``module:name``, is called."""
    planted_masks(make_scan(*SCAN))
    module, name = function.split(":")
    setattr(importlib.import_module(module), name, die)
    diagnose(study, str(Path(out)), bundles_dir=bundles)


if __name__ == "__main__":
    main(*sys.argv[1:])
