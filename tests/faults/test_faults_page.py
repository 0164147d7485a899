import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")


def test_each_row_names_its_tests():
    table, tests = PAGE.split("## Tests")
    numbers = {int(number) for number in re.findall(r"^(\d+)\. ", tests, re.MULTILINE)}
    assert {int(number) for number in re.findall(r"\[(\d+)\]", table)} == numbers == set(range(1, len(numbers) + 1))
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) > 15
    assert [row for row in rows if not re.search(r"\[\d+\]", row)] == []


def test_the_tests_it_names_are_there():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    names = re.findall(r"`(test_\w+)`", PAGE)
    assert len(names) > 20
    assert [name for name in names if f"def {name}(" not in sources] == []
