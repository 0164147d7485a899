"""The command line of ``python -m monai.bundle run``: refused where no config has an option, run as it was typed.

MONAI takes any override, whether or not a config has its name, with the value that Fire makes of it: the folder
``2020.10`` is the number 2020.1, ``true`` a word, ``None`` no override at all. What a config runs begins with
:func:`begin`, before anything is read or written.
"""

import inspect
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_components.command_line.endings import ended_with_a_message
from custom_components.command_line.typed_words import (
    OptionError,
    did_you_mean,
    split_words,
    typed_path,
    typed_text,
    typed_value,
)
from custom_components.datalists.case_files import NO_DATA
from custom_components.engines.root_cause import log_root_cause
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
from monai.utils.module import locate

PROGRAM = ("monai", "bundle", "__main__.py")
# Options of MONAI itself, which no config has; those of `run` first, in its order.
OWN = tuple(
    name
    for function in (run, create_workflow, ConfigWorkflow)
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
)
# Names of files, folders and the like: their values are text, whatever number or list they look like.
TEXT = re.compile(r"(?:^|[_#:])(?:dir|path|root|folder|name|filename|uri)$")
# How what MONAI's config language has to resolve begins: an expression, a reference, a macro.
LANGUAGE = ("$", "@", "%")
NOTHING = "$None"
# An id that no config has: nothing is run of it.
INITIALIZED = "initialized"

_runs_as_typed = False


def begin() -> None:
    """Begin a config: check the command line that it was started by, and run it as it was typed.

    The first item of what a config runs. It lets an uncaught error end the process with its root cause as the last
    line; a process that ``python -m monai.bundle run`` did not start is otherwise left alone.

    Raises:
        SystemExit: with status 2 after a message, where an option cannot be used; with 0 after a run, where Fire had
            read a value in another way than it was typed.
    """
    words = command_words()
    log_root_cause(one_line=words is not None)
    if words is None or _runs_as_typed:
        return
    with ended_with_a_message():
        command = BundleCommand.read(words)
        command.check()
    if repr(command.typed) != repr(command.as_fire_reads()):
        _run(command)


def command_words() -> list[str] | None:
    """What was typed behind ``python -m monai.bundle run``; None in any other process."""
    program, *words = sys.argv or [""]
    if Path(program).parts[-len(PROGRAM) :] != PROGRAM or words[:1] != ["run"]:
        return None
    fire_flags = len(words) - words[::-1].index("--") - 1 if "--" in words else len(words)
    return words[1:fire_flags]


def _run(command: "BundleCommand") -> None:
    """Run it with the values as they were typed; ``initialize`` was run already, and may not be twice."""
    global _runs_as_typed
    _runs_as_typed = True
    try:
        run(**{**command.own, "init_id": INITIALIZED}, **command.typed, **command.tracked_config())
    finally:
        _runs_as_typed = False
    raise SystemExit(0)


@dataclass(frozen=True)
class BundleCommand:
    """A command line of ``python -m monai.bundle run``.

    Args:
        own: values of MONAI's own options.
        texts: what was typed for the options of the config, by their ids.
        typed: the same in MONAI's config language, so that it arrives as it was typed.
        settings: MONAI's own options and all overrides, those of the ``args_file`` among them.
        content: of the config files, put together; once checked, with the overrides.
    """

    own: Mapping[str, Any]
    texts: Mapping[str, str]
    typed: Mapping[str, Any]
    settings: Mapping[str, Any]
    content: ConfigParser

    @classmethod
    def read(cls, words: list[str]) -> "BundleCommand":
        """Read a command line, its args file and its config files.

        Raises:
            OptionError: when a word belongs to no option.
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
        content = ConfigParser(ConfigParser.load_config_files(settings["config_file"]))
        typed = {name: _value(name, text, content) for name, text in texts.items()}
        return cls(own, texts, typed, {**settings, **typed}, content)

    def check(self) -> None:
        """Refuse what no config has, and a run without data.

        Raises:
            OptionError: naming the option and what is nearest to it.
        """
        names = [name for name in self.settings if name not in OWN]
        for name in sorted(names, key=lambda name: not name.endswith("_target_")):  # decides what its neighbours may be
            if name not in self._tracking():
                self._check_id(name)
                self.content[name] = self.settings[name]
        lists = [self.content.get(name) for name in ("train#dataset#data", "dataset#data")]
        if self.content.get("dataset_dir", "") in (None, NOTHING) and not any(
            isinstance(found, list) for found in lists
        ):
            raise OptionError(NO_DATA)

    def as_fire_reads(self) -> dict[str, Any]:
        """The same as MONAI got them; Fire takes an option like ``--no_max_pool``, without value, for ``_max_pool``."""
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

    def _refers_to(self, name: str) -> bool:
        """Whether a config needs what no config has, such as an overlay's ``@place`` that is to be given with it."""
        return name in ReferenceResolver.find_refs_in_config(self.content.get(), id="")

    def tracked_config(self) -> dict[str, str]:
        """File in which MONAI has kept a tracked run's config as Fire reads it, for the config of the run itself."""
        if not self.own.get("tracking") or "save_execute_config" in self.settings:
            return {}
        kept = Path(str(self.content.get_parsed_content("output_dir"))).glob("config_*.json")
        newest = max(kept, key=lambda path: path.stat().st_mtime_ns, default=None)
        return {} if newest is None else {"save_execute_config": str(newest)}

    def _tracking(self) -> Any:
        """What only ``--tracking`` has names for."""
        chosen = self.settings.get("tracking") or {}
        known = DEFAULT_EXP_MGMT_SETTINGS.get(chosen) if isinstance(chosen, str) else chosen
        settings: Any = ConfigParser.load_config_files(chosen) if known is None else known
        return {"save_execute_config": True, **settings["configs"]} if settings else {}

    def _files(self) -> str:
        files = self.settings["config_file"]
        return ", ".join(Path(file).name for file in ([files] if isinstance(files, str) else files))


def _value(name: str, text: str, content: ConfigParser) -> Any:
    if _is_language(name, text, content):
        return text
    default = content.get(name)
    if TEXT.search(name):
        return in_language(typed_path(text))
    is_word = isinstance(default, str) and not default.startswith(LANGUAGE) and not text.startswith(("[", "{", "("))
    return in_language(typed_text(text) if is_word else typed_value(text))


def _is_language(name: str, text: str, content: ConfigParser) -> bool:
    """Whether MONAI has to resolve a text; a folder may be named as what does not refer to anything."""
    if not text.startswith(LANGUAGE) or not TEXT.search(name):
        return text.startswith(LANGUAGE)
    refers = text.startswith("$") or re.split("::|#", text[1:])[0] in content
    return refers and not os.path.lexists(text)


def in_language(value: Any) -> Any:
    r"""A value as an override of MONAI that arrives as it is.

    MONAI drops an override that is None, takes ``$``, ``@`` and ``%`` for its language, and ``#`` for ``::``.

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
    """Parts that an id may have next; None for any."""
    if isinstance(found, list):
        return [str(number) for number in range(-len(found), len(found))]
    if not isinstance(found, dict):
        return []
    if not is_last or not ConfigComponent.is_instantiable(found):
        return list(found)
    parameters = _parameters(found)
    return None if parameters is None else [*found, *ConfigComponent.non_arg_keys, *parameters]


def _plain(found: Any) -> list[str]:
    """Names of what is set in one word or list, such as a number; of no component."""
    names = [name for name, value in found.items() if not isinstance(value, dict)] if isinstance(found, dict) else []
    return [name for name in names if not name.startswith("_")] or ["no parts"]


def _parameters(component: dict[str, Any]) -> list[str] | None:
    """Names of the arguments that a component can be given; None for any."""
    target = ConfigComponent(component).resolve_module_name()
    found = locate(target) if isinstance(target, str) else None
    try:
        parameters = inspect.signature(found).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):  # not found, which the run says better, or written in C
        return None
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return None if takes_any else [parameter.name for parameter in parameters]


def _inside(found: Any, part: str) -> Any:
    if isinstance(found, list):
        return found[int(part)]
    return found.get(part) if isinstance(found, dict) else None
