"""Check the command line of ``python -m monai.bundle run`` against the config, and use values as typed.

MONAI accepts any override, even if no config has this name, with the value that Fire parses: the folder ``2020.10``
becomes the number 2020.1, ``true`` a word, ``None`` no override at all. MONAI cannot express that a config file belongs
on top of another; here ``on_top_of`` in the file does. Every run first calls :func:`begin`, before anything is read or
written.
"""

import atexit
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from custom_components.command_line.endings import ended_with_a_message
from custom_components.command_line.switches import check_switches
from custom_components.command_line.typed_words import (
    OptionError,
    did_you_mean,
    split_words,
    typed_path,
    typed_text,
    typed_value,
)
from custom_components.command_line.used_entries import is_used, used_entries
from custom_components.datalists.case_files import NO_DATA
from custom_components.engines.root_cause import log_root_cause
from custom_components.files.atomic import writable_folder
from custom_components.weights.checkpoints import training_folder
from fire.parser import DefaultParseValue
from monai.bundle import (
    DEFAULT_EXP_MGMT_SETTINGS,
    ConfigComponent,
    ConfigParser,
    ConfigWorkflow,
    create_workflow,
    run,
    update_kwargs,
)
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import merge_kv
from monai.utils import ensure_tuple
from monai.utils.module import locate

PROGRAM = ("monai", "bundle", "__main__.py")
# MONAI's own options, which are in no config; those of `run` first, in its order.
OWN = tuple(
    name
    for function in (run, create_workflow, ConfigWorkflow)
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
)
# Options for files, folders and the like: their values are text even if they look like a number or a list.
TEXT = re.compile(r"(?:^|[_#:])(?:dir|path|root|folder|name|filename|uri)$")
# Folders that a run writes to.
FOLDERS = ("output_dir", "ckpt_dir")
# First characters of MONAI's config language: an expression, a reference, a macro.
LANGUAGE = ("$", "@", "%")
NOTHING = "$None"
# Id of the section that MONAI runs first, and an id that no config has, so that nothing is run.
INITIALIZE, INITIALIZED = "initialize", "initialized"
# Key with which an overlay names its base: the config file, in the same folder, that it belongs on top of.
ON_TOP_OF = "on_top_of"

_logger = logging.getLogger(__name__)
_runs_as_typed = False


def begin(
    switches: Mapping[str, object] | None = None,
    output_dir: str | Path | None = None,
    ckpt_dir: str | Path | None = None,
    resume: bool = False,
    replace_weights: bool = False,
) -> None:
    """Check the command line and the arguments before any work is done; the first step of every config.

    After this call, an uncaught error ends the process with its root cause as the last line. If the process is
    ``python -m monai.bundle run``, its command line is checked. If MONAI parsed values differently than typed, or an
    overlay was given without its ``on_top_of`` file, the command is run again correctly, and then the process ends.

    Args:
        switches: boolean options by name (:func:`check_switches`).
        output_dir: output folder, created and checked (:func:`writable_folder`); removed at the end if still empty.
        ckpt_dir: checkpoint folder of a training, prepared for it (:func:`training_folder`).
        resume: whether the training resumes from the checkpoints in ``ckpt_dir``.
        replace_weights: whether ``ckpt_dir`` may be the bundle's ``models`` with the weights of its inference.

    Raises:
        ValueError: when a switch is a word, or a folder cannot be written into.
        SystemExit: with status 2 after a message when an option is not valid; with 0 after a run that was repeated with
            the values as typed.
    """
    _check_command()
    check_switches(resume=resume, replace_weights=replace_weights, **(switches or {}))
    folders = [Path(folder) for folder in (ckpt_dir, output_dir) if folder is not None]
    atexit.register(_remove_empty, [folder for folder in folders if not folder.exists()])
    if ckpt_dir is not None:
        training_folder(ckpt_dir, resume, replace_weights)
    if output_dir is not None:
        writable_folder(output_dir)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders in which a run that was refused has written nothing."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _check_command() -> None:
    words = command_words()
    log_root_cause(one_line=words is not None)
    if words is None or _runs_as_typed:
        return
    with ended_with_a_message():
        command = BundleCommand.read(words)
        command.check()
    if command.is_run_otherwise():
        _run(command)


def command_words(verb: str = "run") -> list[str] | None:
    """Arguments after ``python -m monai.bundle`` and a verb of it; None in any other process."""
    program, *words = sys.argv or [""]
    if Path(program).parts[-len(PROGRAM) :] != PROGRAM or words[:1] != [verb]:
        return None
    fire_flags = len(words) - words[::-1].index("--") - 1 if "--" in words else len(words)
    return words[1:fire_flags]


def _run(command: "BundleCommand") -> None:
    """Run a command with the values as typed; ``initialize`` was already run and must not run twice."""
    global _runs_as_typed
    _runs_as_typed = True
    own = {**command.own, "config_file": command.files}
    if command.is_initialized:
        own["init_id"] = INITIALIZED
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "parsing config_file")  # MONAI has said so before
            run(**own, **command.typed, **command.tracked_config())
    finally:
        _runs_as_typed = False
    raise SystemExit(0)


@dataclass(frozen=True)
class BundleCommand:
    """A command line of ``python -m monai.bundle run``.

    Args:
        own: values of MONAI's own options.
        listed: config files as given.
        files: the same, with their base first.
        texts: texts typed for the options of the config, by their ids.
        typed: the same values in MONAI's config language.
        is_initialized: whether the config files as given have something that MONAI ran before.
        settings: MONAI's own options and all overrides, including those of the ``args_file``.
        content: merged content of the config files; after the check, with the overrides.
    """

    own: Mapping[str, Any]
    listed: list[str]
    files: list[str]
    texts: Mapping[str, str]
    typed: Mapping[str, Any]
    is_initialized: bool
    settings: Mapping[str, Any]
    content: ConfigParser

    @classmethod
    def read(cls, words: list[str]) -> "BundleCommand":
        """Read a command line, its args file and its config files.

        Raises:
            OptionError: when an argument belongs to no option.
        """
        places, given = split_words(words)
        options = {name: "True" if text is None else text for name, text in given.items()}
        if len(places) > 1:
            raise OptionError(
                f"{places[1]!r} belongs to no option. Quote values that contain spaces, such as "
                '--spatial_size "[64, 64]".'
            )
        own = {name: DefaultParseValue(text) for name, text in options.items() if name in OWN}
        own |= dict(zip(OWN, places, strict=False))
        texts = {name: text for name, text in options.items() if name not in OWN}
        settings = update_kwargs(own.get("args_file"), **own)
        listed = [str(file) for file in ensure_tuple(settings["config_file"])]
        contents = with_base(listed)
        content = ConfigParser({})
        for entries in contents.values():
            for name, value in entries.items():
                merge_kv(content, name, value)
        typed = {name: _value(name, text, content) for name, text in texts.items()}
        is_initialized = any(INITIALIZE in contents[file] for file in listed)
        return cls(own, listed, [*contents], texts, typed, is_initialized, {**settings, **typed}, content)

    def check(self) -> None:
        """Check that the config has every option, and that the run has data.

        Raises:
            OptionError: names the option and the most similar one.
        """
        names = [name for name in self.settings if name not in OWN]
        used = self._used_entries()
        for name in sorted(names, key=lambda name: not name.endswith("_target_")):  # decides which arguments exist
            if name not in self._tracking():
                self._check_id(name)
                if name in self.typed:
                    check_value(name, self.typed[name], self.content.get(name))
                self.content[name] = self.settings[name]
        self._check_used(names, used | self._used_entries())  # one option may replace what uses another
        lists = [self.content.get(name) for name in ("train#dataset#data", "dataset#data")]
        if self.content.get("dataset_dir", "") in (None, NOTHING) and not any(
            isinstance(found, list) for found in lists
        ):
            raise OptionError(NO_DATA)
        for old, new in moved(self.listed).items():
            _logger.warning("%s has moved: use %s. The old name will not work in the next version.", old, new)

    def is_run_otherwise(self) -> bool:
        """Whether MONAI parsed other values than typed, or a base config file was not given."""
        return self.files != self.listed or repr(self.typed) != repr(self.as_fire_reads())

    def as_fire_reads(self) -> dict[str, Any]:
        """The options as MONAI received them; Fire reads ``--no_max_pool`` without a value as ``_max_pool``."""
        return {name: DefaultParseValue(text) for name, text in self.texts.items() if not name.startswith("no")}

    def _check_id(self, name: str) -> None:
        found: Any = self.content.get()
        parts = re.split("::|#", name)
        for number, part in enumerate(parts):
            known = _names_in(found, is_last=number == len(parts) - 1)
            if known is not None and part not in known and not (name == part and self._refers_to(name)):
                prefix = "--" + "".join(f"{outer}#" for outer in parts[:number])
                near = did_you_mean(part, known, prefix) or f" It has {', '.join(_plain(found))}."
                raise OptionError(f"--{name} is not in {self._files()}.{near}")
            found = _inside(found, part)

    @property
    def _run_id(self) -> str:
        return str(self.settings.get("run_id") or "run")

    def _used_entries(self) -> set[str]:
        return used_entries(self.content.get(), self._run_id, "finalize") if ON_TOP_OF in self.content else set()

    def _check_used(self, names: Sequence[str], used: set[str]) -> None:
        """Check that an evaluation uses each option: its base config also has options of the training."""
        for name in names if ON_TOP_OF in self.content else ():
            if name not in self._tracking() and not is_used(name, used):
                where = f"`run {self._run_id}` of {self._files()}"
                raise OptionError(f"--{name} has no effect on {where}, only on the training. Leave it out.")

    def _refers_to(self, name: str) -> bool:
        """Whether a config refers to a name that no config defines, such as ``@place`` in an overlay."""
        return name in ReferenceResolver.find_refs_in_config(self.content.get(), id="")

    def tracked_config(self) -> dict[str, str]:
        """Setting that overwrites the config of a tracked run, which MONAI saved with the values that Fire parsed."""
        if not self.own.get("tracking") or "save_execute_config" in self.settings:
            return {}
        kept = Path(str(self.content.get_parsed_content("output_dir"))).glob("config_*.json")
        newest = max(kept, key=lambda path: path.stat().st_mtime_ns, default=None)
        return {} if newest is None else {"save_execute_config": str(newest)}

    def _tracking(self) -> Any:
        """Names that exist only with ``--tracking``."""
        chosen = self.settings.get("tracking") or {}
        known = DEFAULT_EXP_MGMT_SETTINGS.get(chosen) if isinstance(chosen, str) else chosen
        settings: Any = ConfigParser.load_config_files(chosen) if known is None else known
        return {"save_execute_config": True, **settings["configs"]} if settings else {}

    def _files(self) -> str:
        return ", ".join(Path(file).name for file in self.files)


def check_value(name: str, value: Any, default: Any) -> None:
    """Check that an option has a value of a kind that the config can use.

    Args:
        name: option; ``device`` and output folders are known by name, others by their default.
        value: as typed.
        default: value in the config files.

    Raises:
        OptionError: names the option and what it expects.

    Example:
        >>> check_value("epochs", None, 100)
        Traceback (most recent call last):
        ...
        custom_components.command_line.typed_words.OptionError: --epochs is None. Expected a number, such as 100.
    """
    value = None if value == NOTHING else value
    if isinstance(value, str) and value.startswith(LANGUAGE):
        return
    if isinstance(default, int | float) and not isinstance(default, bool) and name != "seed":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OptionError(f"--{name} is {value!r}. Expected a number, such as {default}.")
    elif name in FOLDERS and value in (None, ""):
        raise OptionError(f"--{name} is {value!r}. Expected a folder, or leave it out.")
    elif name == "device" and not _is_device(value):
        raise OptionError(f"--device is {value!r}. Expected cpu, cuda, or one of several such as cuda:1.")


def _is_device(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return True  # the number of a GPU
    try:
        return isinstance(value, str) and bool(torch.device(value))
    except RuntimeError:
        return False


def with_base(files: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read config files, each once, with the base that they name with ``on_top_of``, unless it is among them.

    Args:
        files: paths, overlays last.

    Returns:
        Content by path, the base first; it is in the folder of the file that names it.
    """
    contents = {file: ConfigParser.load_config_file(file) for file in files}
    bases = {str(Path(file).with_name(own[ON_TOP_OF])) for file, own in contents.items() if ON_TOP_OF in own}
    given = {Path(file).name for file in files}
    below = sorted(base for base in bases if Path(base).name not in given)
    return {**{base: ConfigParser.load_config_file(base) for base in below}, **contents}


def moved(files: Sequence[str]) -> dict[str, str]:
    """New paths of overlays that were given by their names of version 0.9, which had no folders."""
    found = {file: next(Path(file).parent.glob(f"*/{Path(file).name}"), None) for file in files}
    return {old: str(new) for old, new in found.items() if new is not None}


def _value(name: str, text: str, content: ConfigParser) -> Any:
    if _is_language(name, text, content):
        return text
    default = content.get(name)
    if TEXT.search(name):
        return in_language(typed_path(text))
    is_word = isinstance(default, str) and not default.startswith(LANGUAGE) and not text.startswith(("[", "{", "("))
    return in_language(typed_text(text) if is_word else typed_value(text))


def _is_language(name: str, text: str, content: ConfigParser) -> bool:
    """Whether a text is in MONAI's config language. A folder name may look like a reference without being one."""
    if not text.startswith(LANGUAGE) or not TEXT.search(name):
        return text.startswith(LANGUAGE)
    refers = text.startswith("$") or re.split("::|#", text[1:])[0] in content
    return refers and not os.path.lexists(text)


def in_language(value: Any) -> Any:
    r"""Encode a value as a MONAI override so that it arrives unchanged.

    MONAI drops an override that is None, resolves ``$``, ``@`` and ``%``, and replaces ``#`` by ``::``.

    Example:
        >>> in_language("scans"), in_language("a#b"), in_language(None)
        ('scans', "$'a\\x23b'", '$None')
    """
    if value is None:
        return NOTHING
    if not isinstance(value, str) or not (value.startswith(LANGUAGE) or "#" in value):
        return value
    return "$" + ascii(value).replace("#", r"\x23").replace("@", r"\x40")


def _names_in(found: Any, is_last: bool) -> list[str] | None:
    """Names that may follow in an id; None for any."""
    if isinstance(found, list):
        return [str(number) for number in range(-len(found), len(found))]
    if not isinstance(found, dict):
        return []
    if not is_last or not ConfigComponent.is_instantiable(found):
        return list(found)
    parameters = _parameters(found)
    return None if parameters is None else [*found, *ConfigComponent.non_arg_keys, *parameters]


def _plain(found: Any) -> list[str]:
    """Names of plain values (a number, a word, a list), without components."""
    names = [name for name, value in found.items() if not isinstance(value, dict)] if isinstance(found, dict) else []
    return [name for name in names if not name.startswith("_")] or ["no parts"]


def _parameters(component: dict[str, Any]) -> list[str] | None:
    """Argument names of a component; None for any."""
    target = ConfigComponent(component).resolve_module_name()
    found = locate(target) if isinstance(target, str) else None
    try:
        parameters = inspect.signature(found).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):  # not found, which the run reports better, or written in C
        return None
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return None if takes_any else [parameter.name for parameter in parameters]


def _inside(found: Any, part: str) -> Any:
    if isinstance(found, list):
        return found[int(part)]
    return found.get(part) if isinstance(found, dict) else None
