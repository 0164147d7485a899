import multiprocessing
import os
import signal

import pytest
from custom_components.diagnosis.queue import run_queue
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.files.atomic import atomic_path, new_folder, remove_left_behind, temporary_beside
from custom_components.phantom.cache import cached_folder


def killed_in(action, *arguments) -> None:
    """Run in another process, which kills itself in the middle."""
    process = multiprocessing.get_context("fork").Process(target=action, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_file(target):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        die()


def half_a_folder(target):
    with new_folder(target) as folder:
        (folder / "a.txt").write_text("half")
        die()


def half_a_case(sources, output_dir):
    def process(source, folder):
        (folder / "whole.nii.gz").write_text("whole")
        half_a_file(folder / "half.nii.gz")

    run_queue(sources, output_dir, process)


def half_a_phantom(name):
    cached_folder(name, lambda draft: ((draft / "a.png").write_text("half"), die()))


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_writer_leaves_a_hidden_file_that_the_next_one_removes(tmp_path):
    killed_in(half_a_file, tmp_path / "model.pt")
    (name,) = names(tmp_path)
    assert name.startswith(".partial-")
    with atomic_path(tmp_path / "model.pt") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["model.pt"]
    assert (tmp_path / "model.pt").read_text() == "whole"


def test_a_killed_writer_of_a_folder_leaves_one_that_the_next_one_removes(tmp_path):
    killed_in(half_a_folder, tmp_path / "set")
    assert len(names(tmp_path)) == 1
    with new_folder(tmp_path / "set") as folder:
        (folder / "b.txt").write_text("whole")
    assert names(tmp_path) == ["set"]
    assert names(tmp_path / "set") == ["b.txt"]


def test_a_killed_queue_keeps_its_files_and_the_next_one_resumes(tmp_path):
    (tmp_path / "b.nii.gz").touch()
    sources, out = [ScanSource(tmp_path / "b.nii.gz")], tmp_path / "out"
    killed_in(half_a_case, sources, out)
    assert names(out) == [".b.lock", "b.incomplete"]
    assert [name[:9] for name in names(out / "b.incomplete")] == [".partial-", "whole.nii"]
    run_queue(sources, out, lambda source, folder: (folder / "report.json").touch())
    assert names(out) == ["b"]
    assert names(out / "b") == ["report.json", "whole.nii.gz"]


def test_a_killed_writer_of_phantoms_leaves_a_hidden_folder_that_the_next_one_removes(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_PHANTOM_CACHE", str(tmp_path))
    killed_in(half_a_phantom, "set")
    assert [name[:9] for name in names(tmp_path)] == [".partial-"]
    cached_folder("set", lambda draft: (draft / "a.png").write_text("whole"))
    assert names(tmp_path) == ["set"]


def test_files_of_a_running_process_are_kept(tmp_path):
    """Its own files, and those of its parent process."""
    with atomic_path(tmp_path / "model.pt") as temporary:
        temporary.write_text("half")
        remove_left_behind(tmp_path)
        parent = temporary.with_name(temporary.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
        parent.write_text("half")
        remove_left_behind(tmp_path)
        assert parent.exists()
        assert temporary.exists()


@pytest.mark.parametrize("name", [".partial-00000000-1-model.pt", ".partial-model.pt", ".partial-1-model.pt", "a.pt"])
def test_files_of_another_machine_or_program_are_kept(tmp_path, name):
    (tmp_path / name).touch()
    remove_left_behind(tmp_path)
    assert names(tmp_path) == [name]


def test_a_writer_removes_only_leftovers_of_its_own_file(tmp_path):
    killed_in(half_a_file, tmp_path / "other.pt")
    temporary_beside(tmp_path / "model.pt")
    assert len(names(tmp_path)) == 1
    remove_left_behind(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with new_folder(tmp_path / "set") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "set").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["set", "a.txt"]


def test_a_failure_leaves_no_files(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "set"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_used_and_a_full_one_rejected(tmp_path):
    (tmp_path / "set").mkdir()
    with new_folder(tmp_path / "set") as folder:
        (folder / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="exists and is not empty"), new_folder(tmp_path / "set"):
        pass
    assert (tmp_path / "set" / "mine.txt").read_text() == "x"
