"""MONAI Label's application with what `tools/monai_label.py` adds to it: `uvicorn label_server:app`."""

import os
from pathlib import Path

from label_disagreement import NAME, RESULTS, Disagreement
from label_guard import Guard


def __getattr__(name: str) -> Guard:
    """``app``: MONAI Label behind the guard, with the strategy if there are results; made when uvicorn asks for it."""
    if name != "app":
        raise AttributeError(name)
    from monailabel.app import app
    from monailabel.interfaces.utils.app import app_instance

    if os.environ.get(RESULTS):
        app_instance()._strategies[NAME] = Disagreement(Path(os.environ[RESULTS]))
    return Guard(app)
