"""The commands of ``python -m custom_components``. Their options are read from source, so help imports nothing."""

import ast
import importlib
import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_components.command_line.typed_words import (
    NOTHING,
    OptionError,
    did_you_mean,
    split_words,
    typed_path,
    typed_value,
)

# Command name -> function, as module path inside this package.
VERBS = {
    "build_datalist": "datasets.datalist.build_datalist",
    "check_datalist": "datasets.datalist.check_datalist",
    "compare": "followup.command.compare",
    "convert_cc_ccii": "datasets.cc_ccii.convert_cc_ccii",
    "convert_covid19_20": "datasets.covid19_20.convert_covid19_20",
    "convert_covid20_slices": "datasets.covid20_slices.convert_covid20_slices",
    "convert_covid20_volumes": "datasets.covid20_volumes.convert_covid20_volumes",
    "convert_covid_ct_md": "datasets.covid_ct_md.convert_covid_ct_md",
    "convert_ct_excerpts": "datasets.ct_excerpts.convert_ct_excerpts",
    "convert_jpg": "datasets.medseg.convert_jpg",
    "convert_lctsc": "datasets.lctsc.convert_lctsc",
    "convert_medseg": "datasets.medseg.convert_medseg",
    "convert_medseg_volumes": "datasets.medseg_volumes.convert_medseg_volumes",
    "convert_mosmed": "datasets.mosmed.convert_mosmed",
    "convert_plethora": "datasets.plethora.convert_plethora",
    "convert_spgc_covid": "datasets.spgc_covid.convert_spgc_covid",
    "convert_stoic2021": "datasets.stoic2021.convert_stoic2021",
    "datasets": "datasets.table.datasets",
    "diagnose": "diagnosis.command.diagnose",
    "diagnosis_table": "reports.score_tables.diagnosis_table",
    "federated": "federated.command.federated",
    "joined_scores": "study.tables.joined_scores.joined_scores",
    "phantom_dicom": "phantom.dicom.write_dicom_series",
    "phantom_scans": "phantom.scan_dataset.write_scan_dataset",
    "phantom_slices": "phantom.dataset.write_slice_dataset",
    "phantom_volumes": "phantom.dataset.write_volume_dataset",
    "score_table": "reports.score_tables.score_table",
    "segment_masks": "masks.command.segment_masks",
    "serve": "serve.command.serve",
    "study": "study.command.study",
    "take_corrections": "masks.corrections.take_corrections",
    "write_shards": "masks.shards.write_shards",
}
# Option type -> Python types, name in messages, placeholder in the help.
EXPECTED = {
    "bool": (bool, "True or False", ""),
    "int": (int, "a whole number", "N"),
    "float": (int | float, "a number", "X"),
    "Sequence[int]": (list | tuple, "a list", "LIST"),
    "Sequence[float]": (list | tuple, "a list", "LIST"),
    "Sequence[str]": (list | tuple | str, "a list", "LIST"),
    "Mapping[str, Any]": (dict, "a mapping", "MAPPING"),
}
TEXT = frozenset(("str", "Path", "None"))
REQUIRED = object()

WIDTH, INDENT = 100, 24

# A space that is not a line break.
_GAP = "\N{NO-BREAK SPACE}"
_PACKAGE = Path(__file__).parents[1]
_ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example|Examples):$", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """One argument of a command.

    Args:
        name: name of the function's argument.
        type: annotation in the source.
        text: description from the docstring.
        default: default value; ``REQUIRED`` if there is none.
        many: whether it takes all remaining words.
    """

    name: str
    type: str
    text: str
    default: Any = REQUIRED
    many: bool = False

    @property
    def types(self) -> set[str]:
        """Its allowed types."""
        return {part.strip() for part in self.type.split("|")}

    @property
    def label(self) -> str:
        """Its name in the usage and help; a switch that is on by default is shown with ``False``."""
        if self.default is REQUIRED:
            return f"{self.name.upper()}{' ...' if self.many else ''}"
        kinds = [word for kind, (_, _, word) in EXPECTED.items() if kind in self.types] or ["TEXT"]
        return f"--{self.name} {'False' if self.default is True else kinds[0]}".rstrip()

    @property
    def help(self) -> str:
        """Its description, with its default if that is not empty."""
        nothing = self.default in (REQUIRED, None, "")
        return self.text if nothing else f"{self.text} [default:{_GAP}{self._default}]"

    @property
    def _default(self) -> str:
        return str(list(self.default) if isinstance(self.default, tuple) else self.default).replace(" ", _GAP)

    def value(self, text: str | None) -> Any:
        """Its value.

        Args:
            text: the typed value; None for an option without a value, which switches it on.

        Raises:
            OptionError: when the value does not have the option's type.
        """
        if text is None:
            if "bool" not in self.types:
                raise OptionError(f"--{self.name} needs a value{self._example}.")
            return True
        if self.types <= TEXT:
            return text if text in NOTHING and "None" not in self.types else typed_path(text)
        value = typed_value(text)
        kinds = [EXPECTED[kind] for kind in EXPECTED if kind in self.types]
        fits = any(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for kind, *_ in kinds)
        if kinds and not fits and not (value is None and "None" in self.types):
            raise OptionError(f"{self.name} is {text!r}. Expected {kinds[0][1]}{self._example}.")
        return value

    @property
    def _example(self) -> str:
        quote = '"' if isinstance(self.default, tuple) else ""
        given = not isinstance(self.default, bool) and self.default not in (REQUIRED, None)
        return f", such as --{self.name} {quote}{self._default}{quote}".replace(_GAP, " ") if given else ""


@dataclass(frozen=True)
class Verb:
    """A command as read from its source.

    Args:
        name: name of the command.
        text: description: the docstring before its first section.
        parameters: its arguments in order.
    """

    name: str
    text: str
    parameters: tuple[Parameter, ...]

    @property
    def usage(self) -> str:
        """Usage in one line."""
        words = [parameter.label for parameter in self.parameters if parameter.default is REQUIRED]
        options = ["[options]"] if any(parameter.label.startswith("--") for parameter in self.parameters) else []
        return " ".join([self.name, *words, *options])

    def help(self, program: str) -> str:
        """The text that ``--help`` shows."""
        given = [parameter for parameter in self.parameters if not parameter.label.startswith("--")]
        options = [parameter for parameter in self.parameters if parameter.label.startswith("--")]
        parts = [f"usage: {program} {self.usage}", self.text, _table(given)]
        parts += [f"options:\n{_table(options)}"] if options else []
        return "\n\n".join(parts) + "\n"

    def arguments(self, words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        """Parse the arguments of the command.

        Args:
            words: arguments after the command.

        Returns:
            Positional and keyword arguments of the function.

        Raises:
            OptionError: when an option is unknown, missing or of the wrong type, or an argument is not expected.
        """
        known = {parameter.name: parameter for parameter in self.parameters if not parameter.many}
        places, options = split_words(words, [name for name, parameter in known.items() if "bool" in parameter.types])
        for name in options:
            if name not in known:
                raise OptionError(f"--{name} is not an option of {self.name}.{did_you_mean(name, known)}{self._hint}")
        open_ = [name for name, parameter in known.items() if parameter.default is REQUIRED and name not in options]
        taken = dict(zip(open_, places, strict=False))
        left, many = places[len(taken) :], [parameter for parameter in self.parameters if parameter.many]
        if len(taken) < len(open_):
            raise OptionError(f"{self.name} needs {open_[len(taken)].upper()}.{self._hint}")
        if many and not left:
            raise OptionError(f"{self.name} needs {many[0].name.upper()}.{self._hint}")
        if left and not many:
            for word, after in itertools.pairwise(words):
                switch = known.get(word.lstrip("-").replace("-", "_")) if word.startswith("--") else None
                if after == left[0] and switch is not None and "bool" in switch.types:
                    raise OptionError(f"--{switch.name} is {after!r}. Expected True or False.")
            raise OptionError(f"{left[0]!r} is not expected. Quote values that contain spaces.{self._hint}")
        named = {name: known[name].value(text) for name, text in {**options, **taken}.items()}
        return [many[0].value(text) for text in left], named

    @property
    def _hint(self) -> str:
        return f" Expected: {self.usage}. {self.name} --help shows the options."


def read_verb(name: str) -> Verb:
    """Read a command's arguments from its source.

    Raises:
        OptionError: when there is no such command.
    """
    if name.startswith("-"):
        raise OptionError(f"{name} is not an option.{did_you_mean(name, ('--version', '--help'), prefix='')}")
    if name not in VERBS:
        raise OptionError(f"{name} is not a command.{did_you_mean(name, VERBS, prefix='')} --help lists the commands.")
    module, _, function = VERBS[name].rpartition(".")
    tree = _source(module)
    node = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    text, texts = _documentation(ast.get_docstring(node) or "")
    return Verb(name, text, tuple(_parameters(tree, node.args, texts)))


def call_verb(name: str, words: Sequence[str]) -> Any:
    """Check a command's arguments and call its function.

    Args:
        name: name of the command.
        words: arguments after it.

    Returns:
        The function's result.

    Raises:
        OptionError: when the arguments are wrong, before anything is imported.
    """
    places, named = read_verb(name).arguments(words)
    module, _, function = VERBS[name].rpartition(".")
    return getattr(importlib.import_module(f"{_PACKAGE.name}.{module}"), function)(*places, **named)


def overview(program: str) -> str:
    """The text that ``--help`` without a command shows."""
    lines = {name: read_verb(name).text.splitlines()[0] for name in VERBS}
    listed = "\n".join(f"  {name:<{INDENT}}{line}" for name, line in lines.items())
    more = f"{program} COMMAND --help shows the options of a command. {program} --version shows the version."
    return f"usage: {program} COMMAND ...\n\n{listed}\n\n{more}\n"


def _source(module: str) -> ast.Module:
    return ast.parse((_PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


def _parameters(tree: ast.Module, args: ast.arguments, texts: dict[str, str]) -> Iterable[Parameter]:
    missing: list[Any] = [None] * (len(args.args) - len(args.defaults))
    named = [*zip(args.args, [*missing, *args.defaults], strict=True)]
    named += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    if args.vararg is not None:
        yield _parameter(args.vararg, REQUIRED, texts, many=True)
    for argument, default in named:
        yield _parameter(argument, REQUIRED if default is None else _constant(tree, default), texts)


def _parameter(argument: ast.arg, default: Any, texts: dict[str, str], many: bool = False) -> Parameter:
    kind = "" if argument.annotation is None else ast.unparse(argument.annotation)
    return Parameter(argument.arg, kind, texts[argument.arg], default, many)


def _constant(tree: ast.Module, node: ast.expr) -> Any:
    """Value of a default: a literal, or a constant of this module or of the module it is imported from."""
    if not isinstance(node, ast.Name):
        return ast.literal_eval(node)
    for line in tree.body:
        if isinstance(line, ast.Assign) and any(ast.unparse(target) == node.id for target in line.targets):
            return _constant(tree, line.value)
        if isinstance(line, ast.ImportFrom) and any(alias.name == node.id for alias in line.names):
            return _constant(_source(str(line.module).removeprefix(f"{_PACKAGE.name}.")), node)
    raise LookupError(f"{node.id} is not a constant.")


def _documentation(docstring: str) -> tuple[str, dict[str, str]]:
    """A docstring's text before its sections, and the text of each argument, without markup."""
    plain = re.sub(r":\w+:`(?:[\w.]*\.)?(\w+)`", r"\1", docstring).replace("``", "")
    head, *sections = _SECTION.split(plain)
    named = dict(zip(sections[::2], sections[1::2], strict=True))
    texts = {name: " ".join(text.split()) for name, text in _ARGUMENT.findall(named.get("Args", ""))}
    return head.strip(), texts


def _table(parameters: Sequence[Parameter]) -> str:
    return "\n".join(_row(parameter) for parameter in parameters)


def _row(parameter: Parameter) -> str:
    lines = textwrap.wrap(parameter.help, WIDTH - INDENT - 2, break_long_words=False, break_on_hyphens=False)
    first = f"  {parameter.label:<{INDENT}}"
    apart = [first.rstrip()] if len(first.rstrip()) > INDENT else []
    rows = [" " * (INDENT + 2) + line for line in lines]
    return "\n".join([*apart, *rows] if apart else [first + lines[0], *rows[1:]]).replace(_GAP, " ")
