import json
from pathlib import Path

from custom_components.data.lesion_classes import LESION_CLASSES


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
        rows = [_row(scores, name) for name in (*LESION_CLASSES, "mean")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no summary.json of an evaluation ({error}). Run `evaluating` first.") from error
    head = ["| class | Dice | precision | accuracy | cases |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"{scores['cases']} cases; split: {scores['protocol'] or 'not stated'}"])


def _row(scores: dict, name: str) -> str:
    values = (scores[metric][name] for metric in ("dice", "precision", "accuracy"))
    cells = ["-" if value is None else f"{value:.3f}" for value in values]
    return f"| {name.replace('_', ' ')} | {' | '.join(cells)} | {scores['cases_with_class'].get(name, '')} |"
