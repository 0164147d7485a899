import csv
import io

import pandas as pd
import pytest
from custom_components.study.tables.table import DASH, Cell, Table, table_frame
from custom_components.study.tables.table_files import escape_latex, table_files

NASTY = 'St. "A" & B_1 | 50 % #2 $x^2~ {a} \\ [b] <script>alert(1)</script>\nnext'


@pytest.fixture
def table():
    columns = pd.MultiIndex.from_tuples(
        [("TV set", "AUC"), ("TV set", "n"), ("Test set", "AUC")], names=["set", "score"]
    )
    cells = [
        [Cell(0.91234567, low=0.8, high=1.0, n=12, undefined=3), 12, Cell(0.934, sd=0.011, n=5)],
        [Cell(n=4), 4, Cell()],
    ]
    index = pd.MultiIndex.from_tuples([("site", NASTY), ("site", "south")], names=["by", "group"])
    frame = pd.DataFrame(cells, index=index, columns=columns, dtype=object)
    return Table("by_site", "Scores by site_1", "A dash & a note.", frame)


def test_the_csv_has_one_line_per_cell_and_one_column_per_number(table):
    lines = list(csv.DictReader(io.StringIO(table_files(table)["by_site.csv"])))
    assert len(lines) == 6
    first, mean, undefined, empty = lines[0], lines[2], lines[3], lines[5]
    numbers = {name: first[name] for name in ("by", "set", "score", "value", "low", "high", "sd", "n", "undefined")}
    assert numbers == {
        **{"by": "site", "set": "TV set", "score": "AUC", "value": "0.912346", "low": "0.8", "high": "1"},
        **{"sd": "", "n": "12", "undefined": "3"},
    }
    assert first["group"] == NASTY
    assert first["text"] == "0.912 (0.800 to 1.000)"
    assert (mean["value"], mean["sd"], mean["low"]) == ("0.934", "0.011", "")
    assert (undefined["value"], undefined["n"], undefined["text"]) == ("", "4", f"{DASH} (n = 4)")
    assert (empty["value"], empty["n"], empty["text"]) == ("", "", "")


def test_a_small_p_keeps_its_number_in_the_csv():
    frame = table_frame({"a": {"p": Cell(2.5e-9, least=0.001)}}, ["pair"])
    assert "a,p,2.5e-09,,,,,0,< 0.001\n" in table_files(Table("t", "", "", frame))["t.csv"]


def test_special_characters_do_not_break_the_markdown_grid(table):
    lines = table_files(table)["by_site.md"].splitlines()
    grid = [line for line in lines if line.startswith("|")]
    assert len(grid) == 4
    assert len({line.replace("\\|", "").count("|") for line in grid}) == 1
    assert "<script" not in "\n".join(lines).replace("\\<", "")
    assert "TV set: AUC" in grid[0]
    assert lines[-1] == "A dash & a note."


def test_latex_escapes_its_own_signs_and_prints_others_as_commands():
    assert escape_latex("&%$#_{}") == r"\&\%\$\#\_\{\}"
    assert escape_latex("< 1 > ± † ~ ^ \\") == (
        r"$<$ 1 $>$ $\pm$ $^{\dagger}$ \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )


def test_the_latex_has_a_cell_for_each_column_in_every_row(table):
    text = table_files(table)["by_site.tex"]
    lines, plain = text.splitlines(), text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    rows = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert [row.replace(r"\&", "").count("&") for row in rows if row.endswith(r" \\")] == [4, 4]
    assert r"\begin{tabular}{llrrr}" in lines
    assert r"\multicolumn{2}{c}{} & \multicolumn{2}{c}{TV set} & Test set \\" in lines
    assert r"by & group & AUC & n & AUC \\" in lines
    assert r"\caption{Scores by site\_1}" in lines


def test_a_leading_bracket_is_not_an_option_of_the_line_break_above():
    frame = table_frame({"[a]": {"n": 1}, "[b]": {"n": 2}}, ["site"])
    rows = [line for line in table_files(Table("t", "", "", frame))["t.tex"].splitlines() if line.endswith(r"\\")]
    assert not any(row.startswith("[") for row in rows)
