import pandas as pd
import pytest
from custom_components.study.figures.size_distribution import draw_size_distribution


def test_dotted_lines_are_at_the_borders_of_the_papers_ratio_groups():
    cases = pd.DataFrame({"set": "tv", "label": [1, 0], "ratio": [0.01, 0.02]})
    axes = draw_size_distribution(cases, {"tv": "TV set"}).figure.axes[0]
    dotted = [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([0.5, 3.0])  # percent of the lungs
