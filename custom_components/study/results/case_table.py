"""The ``per_case.csv`` of an evaluation, as a study reads it."""

from pathlib import Path

import pandas as pd
from custom_components.files.report_files import unquoted


def read_case_table(path: Path) -> pd.DataFrame:
    """Read a table as :func:`custom_components.files.report_files.write_csv` wrote it.

    Args:
        path: the file.

    Returns:
        The table, ``case_id`` as text; NaN where a cell is empty, and nowhere else.
    """
    table = pd.read_csv(path, dtype={"case_id": str}, keep_default_na=False, na_values=[""])
    return table.assign(case_id=table["case_id"].map(unquoted, na_action="ignore"))
