"""A part of a study's report."""

from collections.abc import Sequence
from dataclasses import dataclass

from custom_components.study.figures.drawing import Drawing
from custom_components.study.tables.table import Table


@dataclass(frozen=True)
class Section:
    """A heading with tables and figures.

    Args:
        key: of links to it.
        title: its heading.
        blocks: tables and figures in order.
    """

    key: str
    title: str
    blocks: Sequence[Table | Drawing]


def filled(sections: Sequence[Section]) -> list[Section]:
    """The sections that have anything to show: tables without rows are left out, then sections without blocks."""
    shown = [
        Section(
            section.key,
            section.title,
            [block for block in section.blocks if not (isinstance(block, Table) and block.frame.empty)],
        )
        for section in sections
    ]
    return [section for section in shown if section.blocks]
