"""The page docs/numerics.md names the limits that the code and the tests have."""

import re
from pathlib import Path

from tests.numerics.networks import NAMES
from tests.numerics.test_networks import TOLERANCE

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "numerics.md").read_text(encoding="utf-8")


def test_the_page_has_a_row_for_each_network_within_the_tolerance_of_its_tests():
    rows = re.findall(r"^\| ([\w ]+) \| (\w+) \| (\d+) \S+ \| (\d+) \S+ \| (\d+) ", PAGE, re.MULTILINE)
    assert {name for name, *_ in rows} == set(NAMES) == set(TOLERANCE)
    outputs = [(name, int(off)) for name, key, *offs in rows if key != "gradient" for off in offs]
    assert all(off < TOLERANCE[name] for name, off in outputs)
