"""What is needed to use weights, as one small JSON beside them: ``model.json`` beside ``model.pt``.

Configs take it as their defaults, so that a network trained with other numbers than the paper's is evaluated, applied
and exported without repeating them. A card names no case: a digest of its files tells whether it was trained on.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.files.atomic import atomic_path
from custom_components.files.digest import file_digest

_logger = logging.getLogger(__name__)

SUFFIX = ".json"
NETWORK, SETTINGS, WEIGHTS = "network", "settings", "weights_sha256"
TRAINED_ON, VALIDATED_ON = "trained_on", "validated_on"
# Bytes of the beginning and of the end of a file that go into its digest, beside its size.
ENDS = 65536


def card_path(weights: str | Path) -> Path:
    """Where the card of weights is.

    Example:
        >>> card_path("models/model.pt").as_posix()
        'models/model.json'
    """
    return Path(weights).with_suffix(SUFFIX)


def write_card(weights: str | Path, content: Mapping[str, Any]) -> None:
    """Write the card of weights that are there, atomically; it is valid for these very weights.

    Args:
        weights: file of the weights.
        content: ``settings``, ``network`` and what else is known.
    """
    full = {WEIGHTS: file_digest(Path(weights)), **content}
    with atomic_path(card_path(weights)) as temporary:
        temporary.write_text(json.dumps(full, indent=4, allow_nan=False) + "\n", encoding="utf-8")


def read_card(weights: str | Path | None) -> dict[str, Any]:
    """The card of weights; empty where there is none, where it cannot be read, or where it belongs to others.

    Args:
        weights: file of the weights.
    """
    if not weights or not (path := card_path(weights)).is_file() or not Path(weights).is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content[WEIGHTS] == file_digest(Path(weights)):
            return dict(content)
        problem = f"is of other weights than {Path(weights).name}"
    except (OSError, ValueError, KeyError, TypeError):
        problem = "cannot be read"
    _logger.warning("%s %s: what it says is not used.", path, problem)
    return {}


def network_arguments(card: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the network that a card names; empty where it names none.

    Example:
        >>> network_arguments({"network": {"_target_": "package.Network", "features": [8, 16]}})
        {'features': [8, 16]}
    """
    return {name: value for name, value in card.get(NETWORK, {}).items() if name != "_target_"}


class TrainedWith:
    """What weights were trained with, for a config's values.

    Args:
        weights: file of the weights, or files whose networks are used together.

    Raises:
        ValueError: when the weights that are used together were trained with other numbers each.

    Example:
        >>> TrainedWith("nowhere/model.pt").get("spatial_size", [369, 369])
        [369, 369]
    """

    def __init__(self, weights: str | Path | Sequence[str | Path] | None) -> None:
        files = [weights] if weights is None or isinstance(weights, str | Path) else list(weights)
        self.cards = [read_card(file) for file in files]
        self._check_agree(files)

    def get(self, name: str, default: Any) -> Any:
        """A number of the training, such as ``spatial_size``.

        Args:
            name: of it.
            default: where no card has it.
        """
        return next((card[SETTINGS][name] for card in self.cards if name in card.get(SETTINGS, {})), default)

    def network(self, name: str, default: Any) -> Any:
        """An argument of the network, such as ``features``.

        Args:
            name: of it.
            default: where no card has it.
        """
        return next((card[NETWORK][name] for card in self.cards if name in card.get(NETWORK, {})), default)

    def trained_on(self) -> set[str]:
        """Digests of the cases that any of the weights were trained on, see :func:`case_digest`."""
        return set().union(*self._digests(TRAINED_ON))

    def validated_on(self) -> set[str]:
        """Digests of the cases that validated the training of all of the weights."""
        known = self._digests(VALIDATED_ON)
        return set.intersection(*known) if known else set()

    def _digests(self, name: str) -> list[set[str]]:
        return [set(card.get(name, {}).get("digests", ())) for card in self.cards]

    def _check_agree(self, files: Sequence[Any]) -> None:
        known = [(file, card) for file, card in zip(files, self.cards, strict=True) if card]
        for file, card in known[1:]:
            first, settings = known[0]
            for name, value in card.get(SETTINGS, {}).items():
                other = settings.get(SETTINGS, {}).get(name, value)
                if value != other:
                    raise ValueError(
                        f"{file} was trained with {name} {value}, {first} with {other}. "
                        "Train both with the same numbers to use them together."
                    )


def case_digest(case: Mapping[str, Any], key: str = "image") -> str:
    """Short digest of the files of a case: of their sizes, first and last bytes. A renamed file keeps it.

    Args:
        case: of a datalist.
        key: of its file, folder or files.

    Returns:
        16 hexadecimal digits.
    """
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


def data_facts(cases: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What a card says of cases: their number, a hash of all, a digest of each."""
    return facts_of({case_digest(case) for case in cases})


def facts_of(digests: Iterable[str]) -> dict[str, Any]:
    """As :func:`data_facts`, of digests."""
    known = sorted(digests)
    return {"cases": len(known), "sha256": hashlib.sha256("".join(known).encode()).hexdigest(), "digests": known}


def scored_cases(split: Mapping[str, Any], trained: TrainedWith, score_trained_cases: bool = False) -> dict[str, Any]:
    """Cases that an evaluation scores; those that the weights were trained on are left out or refused.

    Args:
        split: as ``split_cases``, ``select_fold`` or ``hold_out_fold`` returns it; without a fold, of the data that the
            weights were trained on the cases that validated the training are scored.
        trained: what the weights were trained with.
        score_trained_cases: whether to score all cases; ``protocol`` then begins with how many were trained on.

    Returns:
        ``cases``, and ``protocol``, how they were chosen, in words.

    Raises:
        ValueError: when cases of a fold that was asked for, or all cases, were trained on.
    """
    cases, known = split["validation"], trained.trained_on()
    digests = [case_digest(case) for case in cases] if known else []
    seen = sum(digest in known for digest in digests)
    if not seen:
        return {"cases": cases, "protocol": split["protocol"]}
    said = f"{seen} of {len(cases)} cases were trained on"
    if score_trained_cases:
        _logger.warning("%s: these are no scores of unseen cases.", said)
        return {"cases": cases, "protocol": f"training data ({said}); {split['protocol']}"}
    validated = trained.validated_on() - known
    held = [case for case, digest in zip(cases, digests, strict=True) if digest in validated]
    if held and split["fold"] is None:
        _logger.warning("%s: scored are the %d that validated the training.", said, len(held))
        return {"cases": held, "protocol": f"cases that validated the training ({len(held)} of {len(cases)})"}
    raise ValueError(
        f"{said}, says the model.json beside the weights: their scores would say nothing of unseen cases. Give --fold "
        "N of that training, other data, or --score_trained_cases true to score them as training data."
    )
