"""Print the table of docs/numerics.md: how far each small network is from itself in float64, by precision.

python -m tests.numerics.precision_table
"""

import sys

import torch

from tests.numerics.networks import NAMES, small
from tests.numerics.precision import EPSILON, epsilons_off, extreme_input


def rows() -> list[str]:
    """Markdown; the error in units of the type's epsilon, and as a share."""
    table = ["| network | output | float32 | bfloat16 | float16 |", "|---|---|---|---|---|"]
    for name in NAMES:
        subject = small(name)
        batch = extreme_input("random", subject.size)
        off = {dtype: epsilons_off(subject.network, batch, dtype) for dtype in EPSILON}
        for key in off[torch.float32]:
            cells = [f"{off[dtype][key]:.0f} ({off[dtype][key] * EPSILON[dtype]:.0e})" for dtype in EPSILON]
            table.append(f"| {name} | {key} | {' | '.join(cells)} |")
    return table


if __name__ == "__main__":
    sys.stdout.write("\n".join(rows()) + "\n")
