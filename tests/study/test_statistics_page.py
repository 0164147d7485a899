import doctest
import re
import subprocess
import sys
from pathlib import Path

import custom_components.study as study
import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs/statistics.md").read_text(encoding="utf-8")

WITHOUT_PANDAS = """
import sys
sys.modules.update(pandas=None, statsmodels=None)
from custom_components.study import bootstrap_interval, delong_test
print(delong_test([1, 0, 1], [0.9, 0.2, 0.8], [0.9, 0.2, 0.8]).p_value)
"""


def test_the_examples_of_the_page_hold():
    examples = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M))
    test = doctest.DocTestParser().get_doctest(examples, {}, "docs/statistics.md", None, 0)
    report = []
    results = doctest.DocTestRunner().run(test, out=report.append)
    assert results.attempted > 15
    assert not results.failed, "".join(report)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'delong_intervall'"):
        _ = study.delong_intervall


def test_delong_needs_neither_pandas_nor_statsmodels():
    done = subprocess.run([sys.executable, "-c", WITHOUT_PANDAS], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "1.0"
