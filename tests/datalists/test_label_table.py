import pytest
from custom_components.datalists.label_table import read_label_table


def read(folder, text, encoding="utf-8"):
    (folder / "labels.csv").write_text(text, encoding=encoding)
    problems = []
    return read_label_table(folder / "labels.csv", problems), problems


def test_values_have_their_types_and_other_columns_are_text(tmp_path):
    text = "case_id, label,patient_id,fold,image,age\n012,COVID,p7,3,ct/012.nii.gz,063\n\n13, cap,,0,/x/13.nii,\n"
    table, problems = read(tmp_path, text)
    assert problems == []
    assert table.columns == ("case_id", "label", "patient_id", "fold", "image", "age")
    image = str(tmp_path / "ct" / "012.nii.gz")
    assert table.cases == [
        {"case_id": "012", "label": 1, "patient_id": "p7", "fold": 3, "image": image, "age": "063"},
        {"case_id": "13", "label": 0, "patient_id": "13", "fold": 0, "image": "/x/13.nii", "age": ""},
    ]


def test_a_byte_order_mark_is_not_part_of_a_column_name(tmp_path):
    table, _ = read(tmp_path, "case_id,label\na,cap\n", "utf-8-sig")
    assert table.cases == [{"case_id": "a", "label": 0, "patient_id": "a"}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b,flu,0", r"row 2 of labels.csv \(b\): label is 'flu'. Expected 'covid'"),
        ("b,,0", r"row 2 of labels.csv \(b\): has no 'label'"),
        (",cap,0", r"row 2 of labels.csv \(no case_id\): has no 'case_id'"),
        ("b,cap,", r"has no 'fold'"),
        ("b,cap,first", r"fold is 'first'. Expected a whole number"),
        ("b,cap,-1", r"fold is '-1'"),
        ("b,cap,0,7", r"has 4 values for 3 columns"),
        ("b,cap", r"has 2 values for 3 columns"),
    ],
)
def test_a_wrong_row_is_reported_and_the_others_are_kept(tmp_path, row, message):
    table, problems = read(tmp_path, f"case_id,label,fold\na,covid,1\n{row}\nc,cap,0\n")
    assert [case["case_id"] for case in table.cases] == ["a", "c"]
    assert len(problems) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(problems[0])


def test_a_row_is_named_only_by_its_case_id(tmp_path):
    _, problems = read(tmp_path, "site,case_id,label\nsecret,covid_1,flu\n")
    assert problems[0].startswith("row 1 of labels.csv (covid_1): label is 'flu'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case_id;label\na;cap\n", r"has the columns case_id;label. Expected case_id and label, .* by commas"),
        ("", "has the columns none"),
        ("case_id,label,label\n", "each column once"),
        ("case_id,label,ratio\n", "has the column ratio, which is computed from the masks"),
    ],
)
def test_a_table_with_wrong_columns_is_an_error(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_an_unreadable_table_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read: .*Expected a CSV in UTF-8"):
        read(tmp_path, "case_id,label\nMüller,cap\n", "latin-1")
    with pytest.raises(ValueError, match="cannot be read"):
        read_label_table(tmp_path / "nowhere.csv", [])
