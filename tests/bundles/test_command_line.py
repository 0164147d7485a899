"""The real command lines of both bundles, each a process of its own: what is shown of a start and of an error."""

import re

import numpy as np
import pytest
from custom_components.phantom import make_volume, write_dicom, write_slice_dataset
from PIL import Image

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.conftest import TORCHRUN
from tests.bundles.seg.conftest import BUNDLE as SEG

BUNDLES = {"seg": SEG, "cap": CAP}
PLACES = {
    "dataset_dir": ("nowhere/2020.10", "Data set {} does not exist. Check dataset_dir."),
    "output_dir": ("file/1e3", "Output folder {} cannot be written to (Not a directory)."),
    "ckpt_path": ("nowhere/a,b.pt", "No checkpoint at {}. "),
}


def lines_of(done, level):
    return [line for line in done.stdout.splitlines() if f" - {level} - " in line]


@pytest.fixture
def infer(tmp_path):
    """An inference of a small series; what it printed."""
    series = tmp_path / "series"
    write_dicom(make_volume(shape=(40, 36, 8), spacing_mm=(9.0, 9.5, 34.0)), series)
    (tmp_path / "file").touch()

    def call(bundle, **changes):
        files = BUNDLES[bundle].config_files("inference.json")
        given = {"dataset_dir": series, "output_dir": tmp_path / "out", "ckpt_path": tmp_path / "none.pt", **changes}
        return BUNDLES[bundle].command(tmp_path, "run", files, **given)

    return call


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("option", PLACES)
def test_a_wrong_path_is_one_line(bundle, option, infer, tmp_path):
    path, message = PLACES[option]
    done = infer(bundle, **{option: tmp_path / path})
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    (line,) = lines_of(done, "ERROR")
    assert message.format(tmp_path / path) in line
    assert done.stdout.splitlines()[-1] == line


def test_so_is_an_error_in_the_middle_of_a_training(tmp_path):
    """Engines, their handlers and the processes that load data pass it on."""
    data = write_slice_dataset(tmp_path / "data", num_slices=6, size=(40, 36), num_patients=6)
    label = data / "masks" / "003.png"
    pixels = np.asarray(Image.open(label)).copy()
    pixels[0, 0] = 7
    Image.fromarray(pixels).save(label)
    given = {"dataset_dir": data, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    small = {**SEG.small, "num_folds": 2, "cache_rate": 0.0, "num_workers": 1, "draws_per_image": 1}
    done = SEG.command(tmp_path, "training", SEG.config_files("train.yaml"), **given, **small)
    assert (done.returncode, "Traceback" in done.stdout) == (1, False), done.stdout
    (line,) = lines_of(done, "ERROR")
    assert "Case 003: label has value 7 at 1 pixel." in line


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_traceback_is_shown_when_it_is_asked_for(bundle, infer, monkeypatch):
    monkeypatch.setenv("COVID_TRACEBACK", "1")
    done = infer(bundle, dataset_dir="/nowhere")
    assert "Traceback (most recent call last)" in done.stdout
    assert lines_of(done, "ERROR")[0].endswith("Data set /nowhere does not exist. Check dataset_dir.")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_start_does_not_repeat_the_command_line(bundle, infer):
    done = infer(bundle)
    assert not re.search(r"input summary|nvImageCodec|> dataset_dir", done.stdout)
    assert lines_of(done, "WARNING") == []


@pytest.mark.parametrize("bundle", BUNDLES)
def test_two_processes_run_what_was_typed(bundle, tmp_path):
    """They are one group before the command line is looked at, and stay one when it is run again."""
    files = BUNDLES[bundle].config_files("train.yaml", "multi_gpu_train.json")
    given = {"dataset_dir": "/nowhere", "output_dir": "1e3", "ckpt_dir": "a,b", "amp": "false", "device": "cpu"}
    done = BUNDLES[bundle].command(tmp_path, "training", files, TORCHRUN, **given)
    assert {path.name for path in tmp_path.iterdir()} == {"1e3", "a,b"}
    for rank in range(2):
        assert f"Process {rank} of 2: Data set /nowhere does not exist. Check dataset_dir." in done.stdout
    assert "init_process_group" not in done.stdout
