"""Check the command line of ``python -m monai.bundle ckpt_export`` and ``onnx_export``.

MONAI loads ``ckpt_file`` into a network that the config builds from the card of ``ckpt_path``, another option.
"""

import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from custom_components.command_line.bundle_command import command_words
from custom_components.command_line.endings import ended_with_a_message
from custom_components.command_line.typed_words import OptionError, split_words
from monai.bundle import ckpt_export, onnx_export, update_kwargs

# Their own options, in order.
OWN = {verb.__name__: list(inspect.signature(verb).parameters) for verb in (ckpt_export, onnx_export)}
ONNX = ("onnx", "onnxscript")


def check_export(ckpt_path: str | Path) -> None:
    """Check an export before its network is built; any other process is left alone.

    Args:
        ckpt_path: weights whose card the network is built from.

    Raises:
        SystemExit: with status 2 after a message, when other weights are to be exported, or ONNX is not installed.
    """
    for verb in OWN:
        if (words := command_words(verb)) is not None:
            with ended_with_a_message():
                _check(verb, words, Path(ckpt_path))


def _check(verb: str, words: list[str], ckpt_path: Path) -> None:
    missing = [name for name in ONNX if verb == onnx_export.__name__ and find_spec(name) is None]
    if missing:
        raise OptionError(
            f"{verb} needs {' and '.join(missing)}. Install what is missing: pip install {' '.join(missing)}"
        )
    places, options = split_words(words)
    given: dict[str, Any] = {**dict(zip(OWN[verb], places, strict=False)), **options}
    file = update_kwargs(**{"args": given.pop("args_file", None), **given}).get("ckpt_file")
    if file is not None and Path(str(file)).resolve() != ckpt_path.resolve():
        raise OptionError(
            f"ckpt_file is {file}, but the network is built as {ckpt_path} needs it. Give its own weights too: "
            f"--ckpt_path {file}"
        )
