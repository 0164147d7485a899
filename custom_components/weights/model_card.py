"""Model card: a small JSON with all settings needed to use weights, ``model.json`` for ``model.pt``.

Configs use it for their defaults, so that a network trained with other settings than the paper's can be evaluated,
applied and exported without repeating them. A card contains no case names, only digests of the training cases' files.
"""

import functools
import hashlib
import inspect
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from custom_components.files.atomic import atomic_path
from custom_components.files.digest import file_digest
from custom_components.labels import SYNTHETIC

_logger = logging.getLogger(__name__)

T = TypeVar("T")

SUFFIX = ".json"
NETWORK, SETTINGS, SPLIT, WEIGHTS = "network", "settings", "split", "weights_sha256"
SYSTEM = "system"
# What weights are that were trained on phantoms only.
SYNTHETIC_ONLY = "trained on synthetic CT only; the output has no meaning for a patient"
TRAINED_ON, VALIDATED_ON = "trained_on", "validated_on"
# Number of phantoms where their digests are not known: in a federation they stay at the sites.
SYNTHETIC_CASES = "synthetic_cases"
# Number of first and last bytes of a file in its digest, in addition to its size.
ENDS = 65536
# Key of a case whose files are elsewhere: its digest.
DIGEST = "digest"


def card_path(weights: str | Path) -> Path:
    """Path of the card of weights.

    Example:
        >>> card_path("models/model.pt").as_posix()
        'models/model.json'
    """
    return Path(weights).with_suffix(SUFFIX)


def write_card(weights: str | Path, content: Mapping[str, Any]) -> None:
    """Write the card of existing weights, atomically; it is valid only for exactly these weights.

    Args:
        weights: file of the weights.
        content: ``settings``, ``network`` and other facts.
    """
    full = {WEIGHTS: file_digest(Path(weights)), **content}
    with atomic_path(card_path(weights)) as temporary:
        temporary.write_text(json.dumps(full, indent=4, allow_nan=False) + "\n", encoding="utf-8")


def read_card(weights: str | Path | None) -> dict[str, Any]:
    """Read the card of weights; empty if it is missing, unreadable, or belongs to other weights.

    Args:
        weights: file of the weights.
    """
    weights = str(weights or "")  # the command line may have read the name of a file as a number
    if not weights or not (path := card_path(weights)).is_file() or not Path(weights).is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content[WEIGHTS] == file_digest(Path(weights)):
            return dict(content)
        problem = f"belongs to other weights than {Path(weights).name}"
    except (OSError, ValueError, KeyError, TypeError):
        problem = "cannot be read"
    _warn_of_card(path, problem, path.stat().st_mtime_ns)
    return {}


@functools.cache
def _warn_of_card(path: Path, problem: str, changed_ns: int) -> None:
    """Log once what is wrong with a card, until it changes."""
    _logger.warning("%s %s: it is ignored.", path, problem)


def network_arguments(card: Mapping[str, Any]) -> dict[str, Any]:
    """Network arguments in a card; empty if there are none.

    Example:
        >>> network_arguments({"network": {"_target_": "package.Network", "features": [8, 16]}})
        {'features': [8, 16]}
    """
    return {name: value for name, value in card.get(NETWORK, {}).items() if name != "_target_"}


class TrainedWith:
    """Training settings of weights, for use in configs.

    Args:
        weights: file of the weights, or files of networks that are used together.

    Raises:
        ValueError: when weights that are used together were trained with different settings.

    Example:
        >>> TrainedWith("nowhere/model.pt").get("spatial_size", [369, 369])
        [369, 369]
    """

    def __init__(self, weights: str | Path | list[str | Path] | tuple[str | Path, ...] | None) -> None:
        files = list(weights) if isinstance(weights, list | tuple) else [weights]
        self.cards = [read_card(file) for file in files]
        self._check_agree(files)

    def get(self, name: str, default: Any) -> Any:
        """A setting of the training, such as ``spatial_size``.

        Args:
            name: of it.
            default: where no card has it.
        """
        return next((card[SETTINGS][name] for card in self.cards if name in card.get(SETTINGS, {})), default)

    def differences(self, settings: Mapping[str, Any]) -> list[str]:
        """Sentences on settings that differ from those of the training; none on settings that no card has.

        Args:
            settings: settings in use by name.
        """
        return [
            f"{name} is {value}; the weights were trained with {then}."
            for name, value in settings.items()
            if _plain(then := self.get(name, value)) != _plain(value)
        ]

    def notes(self, settings: Mapping[str, Any]) -> list[str]:
        """Sentences for the results: differences of settings, and whether all training cases were phantoms.

        Args:
            settings: settings in use by name.
        """
        synthetic = bool(self.cards) and all(all_synthetic(card) for card in self.cards)
        return [*self.differences(settings), *([f"Weights {SYNTHETIC_ONLY}."] if synthetic else [])]

    def network(self, name: str, default: Any) -> Any:
        """An argument of the network, such as ``features``.

        Args:
            name: of it.
            default: where no card has it.
        """
        return next((card[NETWORK][name] for card in self.cards if name in card.get(NETWORK, {})), default)

    def system(self, default: str) -> str:
        """Name of the system that the weights are of, such as ``plain``.

        Args:
            default: where no card has it.
        """
        return next((str(card[SYSTEM]) for card in self.cards if SYSTEM in card), default)

    def split(self, name: str, default: Any) -> Any:
        """A number of the split of the training, such as ``num_folds``.

        Args:
            name: of it; ``protocol`` is the first word of what a card says of it.
            default: where no card has it, or the training had no folds.
        """
        folds = (card[SPLIT] for card in self.cards if card.get(SPLIT, {}).get("num_folds"))
        value = next((split[name] for split in folds if name in split), default)
        return value.split()[0] if name == "protocol" else value

    def network_arguments(self) -> dict[str, Any]:
        """All arguments of the network that the cards have."""
        return {name: value for card in reversed(self.cards) for name, value in network_arguments(card).items()}

    def trained_on(self) -> set[str]:
        """Digests of the training cases of any of the weights, see :func:`case_digest`."""
        return set().union(*self._digests(TRAINED_ON))

    def validated_on(self) -> set[str]:
        """Digests of the validation cases shared by all of the weights."""
        known = self._digests(VALIDATED_ON)
        return set.intersection(*known) if known else set()

    def synthetic(self) -> set[str]:
        """Digests of the phantoms among the training cases of any of the weights."""
        return set().union(*self._digests(TRAINED_ON, SYNTHETIC))

    def _digests(self, name: str, kind: str = "digests") -> list[set[str]]:
        return [set(card.get(name, {}).get(kind, ())) for card in self.cards]

    def _check_agree(self, files: Sequence[Any]) -> None:
        known = [(file, card) for file, card in zip(files, self.cards, strict=True) if card]
        for file, card in known[1:]:
            first, settings = known[0]
            for name, value in card.get(SETTINGS, {}).items():
                other = settings.get(SETTINGS, {}).get(name, value)
                if value != other:
                    raise ValueError(
                        f"{file} was trained with {name} {value}, {first} with {other}. "
                        "Train both with the same settings to use them together."
                    )


def _plain(value: Any) -> Any:
    """A sequence as a list, as in JSON."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def network_as_trained(network: Callable[..., T], trained: TrainedWith, **arguments: Any) -> T:
    """A network with the arguments that weights were trained with.

    Args:
        network: its class, whose own defaults count where no card has an argument.
        trained: what the weights were trained with.
        arguments: of the network; they win over those of the cards.

    Returns:
        The network, with its first weights.

    Example:
        >>> network_as_trained(lambda features=(32, 64), heads=4: (features, heads), TrainedWith(None), heads=1)
        ((32, 64), 1)
    """
    known = inspect.signature(network).parameters
    of_cards = {name: value for name, value in trained.network_arguments().items() if name in known}
    return network(**{**of_cards, **arguments})


def case_digest(case: Mapping[str, Any], key: str = "image") -> str:
    """Short digest of a case's files: sizes, first and last bytes. Renaming a file does not change it.

    Args:
        case: case of a datalist.
        key: key of its file, folder or files.

    Returns:
        16 hexadecimal digits; of a case whose files are elsewhere, the stored ``digest``.
    """
    if DIGEST in case and key not in case:
        return str(case[DIGEST])
    given = case[key]
    paths = [Path(path) for path in ([given] if isinstance(given, str | os.PathLike) else given)]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.glob("*")))]
    parts = sorted(_ends_digest(file) for file in files if file.is_file())
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def _ends_digest(file: Path) -> str:
    size = file.stat().st_size
    with file.open("rb") as opened:
        beginning = opened.read(ENDS)
        opened.seek(max(size - ENDS, 0))
        return hashlib.sha256(f"{size}:".encode() + beginning + opened.read()).hexdigest()


def data_facts(cases: Iterable[Mapping[str, Any]], before: TrainedWith | None = None) -> dict[str, Any]:
    """Facts on cases for a card: their number, a hash of all, a digest of each, and which of them are phantoms.

    Args:
        cases: cases of a datalist.
        before: training settings of weights whose training cases are added.
    """
    before = before or TrainedWith(None)
    marks = {case_digest(case): case.get(SYNTHETIC) for case in cases}
    return facts_of(before.trained_on() | set(marks), before.synthetic() | {name for name in marks if marks[name]})


def facts_of(digests: Iterable[str], synthetic: Iterable[str] = ()) -> dict[str, Any]:
    """As :func:`data_facts`, from digests of all cases and of the phantoms among them."""
    known, phantoms = sorted(digests), sorted(synthetic)
    facts = {"cases": len(known), "sha256": hashlib.sha256("".join(known).encode()).hexdigest(), "digests": known}
    return {**facts, SYNTHETIC: phantoms} if phantoms else facts


def all_synthetic(card: Mapping[str, Any]) -> bool:
    """Whether all training cases of a card are phantoms.

    Example:
        >>> all_synthetic({"trained_on": {"cases": 2, "synthetic": ["a", "b"]}}), all_synthetic({})
        (True, False)
    """
    cases, phantoms = _numbers_of_cases(card)
    return 0 < cases == phantoms


def training_text(card: Mapping[str, Any]) -> str:
    """Describe the training data, split and score of a card.

    Example:
        >>> card = {"trained_on": {"cases": 2, "synthetic": ["a"]}, "split": {"protocol": "fold 0 of 5"}}
        >>> training_text(card)
        '2 cases of the user, 1 of them synthetic (fold 0 of 5)'
    """
    if not card:
        return "unknown"
    score = card.get("score") or {}
    chosen = f", {score['name']} {score['value']:.3f} in epoch {score['epoch']}" if score.get("value") else ""
    protocol = card.get(SPLIT, {}).get("protocol", "no split")
    cases, phantoms = _numbers_of_cases(card)
    part = f", {phantoms} of them synthetic" if 0 < phantoms < cases else ""
    kind = "synthetic cases" if all_synthetic(card) else f"cases of the user{part}"
    return f"{cases} {kind} ({protocol}){chosen}"


def _numbers_of_cases(card: Mapping[str, Any]) -> tuple[int, int]:
    """Number of training cases, and of phantoms among them."""
    known = card.get(TRAINED_ON, {})
    return known.get("cases", 0), known.get(SYNTHETIC_CASES, len(known.get(SYNTHETIC, ())))


def scored_cases(split: Mapping[str, Any], trained: TrainedWith, score_trained_cases: bool = False) -> dict[str, Any]:
    """Select the cases of an evaluation; training cases of the weights are excluded or cause an error.

    Args:
        split: split from ``split_cases``, ``select_fold`` or ``hold_out_fold``. Without a fold, only the validation
            cases are scored if the weights were trained on this data.
        trained: training settings of the weights.
        score_trained_cases: whether to score all cases; ``protocol`` then begins with the count of training cases.

    Returns:
        ``cases``, and ``protocol``, a text on how they were selected.

    Raises:
        ValueError: when cases of the requested fold, or all cases, were used in training.
    """
    _log_other_split(split, trained)
    cases, known = split["validation"], trained.trained_on()
    digests = [case_digest(case) for case in cases] if known else []
    seen = sum(digest in known for digest in digests)
    if not seen:
        return {"cases": cases, "protocol": split["protocol"]}
    said = f"{seen} of {len(cases)} cases were used in training"
    if score_trained_cases:
        _logger.warning("%s: these are not scores of unseen cases.", said)
        return {"cases": cases, "protocol": f"training data ({said}); {split['protocol']}"}
    validated = trained.validated_on() - known
    held = [case for case, digest in zip(cases, digests, strict=True) if digest in validated]
    if held and split["fold"] is None:
        _logger.warning("%s: only the %d validation cases of the training are scored.", said, len(held))
        return {"cases": held, "protocol": f"validation cases of the training ({len(held)} of {len(cases)})"}
    raise ValueError(
        f"{said}, according to the weights' model.json: their scores would not apply to unseen cases. Set --fold N as "
        "in that training, use other data, or set --score_trained_cases true to score them as training data."
    )


def _log_other_split(split: Mapping[str, Any], trained: TrainedWith) -> None:
    """Log that a fold is not one of the training's; a fold number means nothing in another split."""
    if split["fold"] is None:
        return
    names = [name for name in ("protocol", "num_folds", "seed") if name in split]
    now = {name: split[name].split()[0] if name == "protocol" else split[name] for name in names}
    then = {name: trained.split(name, value) for name, value in now.items()}
    others = [f"{name} {value} instead of {then[name]}" for name, value in now.items() if value != then[name]]
    if others:
        _logger.warning("Fold %s is not that of the training: %s.", split["fold"], ", ".join(others))
