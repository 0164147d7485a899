import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_components.infection_size import RATIO_BANDS, SIZE_GROUPS
from custom_components.labels import LESION_CLASSES


def score_table(summary: str | Path) -> str:
    """Scores of an evaluation as a Markdown table.

    Args:
        summary: ``summary.json`` that ``ScoreReport`` wrote.

    Returns:
        One row for each lesion class and one for their mean; a dash where no case has the class.

    Raises:
        ValueError: when the file is missing or no summary.
    """
    path = Path(summary)
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        rows = [_class_row(scores, name) for name in (*LESION_CLASSES, "mean")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no summary.json of an evaluation ({error}). Run `evaluating` first.") from error
    head = ["| class | Dice | precision | accuracy | cases |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"{scores['cases']} cases; split: {scores['protocol'] or 'not stated'}"])


def _class_row(scores: dict, name: str) -> str:
    values = (scores[metric][name] for metric in ("dice", "precision", "accuracy"))
    cells = ["-" if value is None else f"{value:.3f}" for value in values]
    return f"| {name.replace('_', ' ')} | {' | '.join(cells)} | {scores['cases_with_class'].get(name, '')} |"


SCORES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "macro_f1": "macro-F1",
}
GROUPS = {"overall": "all", **{name: name for name in RATIO_BANDS}, **{name: name for name in SIZE_GROUPS}}
HEAD = ["| system | scans | COVID-19 / CAP |", *(f" {name} |" for name in SCORES.values())]


def diagnosis_table(*summaries: str | Path) -> str:
    """Scores of one or several evaluations of COVID-19 against CAP as Markdown, in the form of the paper's Table II.

    Args:
        summaries: ``summary.json`` files that ``ClassificationReport`` wrote; each is named after its folder.

    Returns:
        For all scans, each band of the infection ratio and each size group a row of each evaluation; a dash where a
        score is not defined, such as an AUC of one class. An ensemble's row follows those of its branches.

    Raises:
        ValueError: when there is none, or one is missing or no such summary.
    """
    if not summaries:
        raise ValueError("No summary was given. Name one or several summary.json of `evaluating`.")
    systems = [system for path in summaries for system in _systems(Path(path))]
    head = ["".join(["| infection ratio or size group ", *HEAD]), "|---" * (4 + len(SCORES)) + "|"]
    rows = [
        _system_row(title, name, _group(scores, group)) for group, title in GROUPS.items() for name, scores in systems
    ]
    return "\n".join([*head, *rows])


def _systems(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Branches and verdict of an evaluation, by name."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        branches = {f"{path.parent.name}: {name}": scores for name, scores in summary["branches"].items()}
        systems = {**branches, path.parent.name: summary}
        for scores in systems.values():
            for group in GROUPS:
                _system_row("", "", _group(scores, group))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no summary.json of an evaluation ({error}). Run `evaluating` first.") from error
    return list(systems.items())


def _group(scores: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    if group == "overall":
        return scores["overall"]
    return scores["by_ratio" if group in RATIO_BANDS else "by_size_group"][group]


def _system_row(title: str, name: str, scores: Mapping[str, Any]) -> str:
    values = ["-" if scores[key] is None else f"{scores[key]:.3f}" for key in SCORES]
    return f"| {title} | {name} | {scores['n']} | {scores['n_covid']} / {scores['n_cap']} | {' | '.join(values)} |"
