from pathlib import Path

import pytest
from custom_components.diagnosis.cluster_cost import ScanCost, cost_table
from custom_components.diagnosis.scan_files import MAPS

PAGE = Path(__file__).resolve().parents[2] / "docs/cluster.md"
# As measured in docs/diagnose.md: 512 x 512 x 300, two cores, without lesion classes.
MEASURED = ScanCost(32.4, 2, 512 * 512 * 300, ("lungs", "infection", *MAPS))


def test_core_hours_and_bytes_of_a_scan_are_those_of_the_formula():
    cost = ScanCost(18.0, 4, 1_000_000, ("lungs",), has_objects=False, has_viewer=False)
    assert cost.core_hours == pytest.approx(0.02)
    assert cost.read_bytes == 2_000_000
    assert cost.written_bytes == pytest.approx(1_000_000 + 0.004 * 1_000_000)


def test_the_table_of_the_page_is_the_computed_one():
    assert cost_table(MEASURED, workers=100) in PAGE.read_text(encoding="utf-8")
