import pytest
from custom_components.files.atomic import new_folder


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with new_folder(tmp_path / "set") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "set").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["set", "a.txt"]


def test_nothing_is_left_of_a_failure(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "set"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_taken_and_a_full_one_refused(tmp_path):
    (tmp_path / "set").mkdir()
    with new_folder(tmp_path / "set") as folder:
        (folder / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="exists and is not empty"), new_folder(tmp_path / "set"):
        pass
    assert (tmp_path / "set" / "mine.txt").read_text() == "x"
