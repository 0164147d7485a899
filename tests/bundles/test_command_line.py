"""The real command lines of both bundles, each a process of its own: how a start and an error look."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.bundles.small_runs import SUBJECTS

SEG, CAP = SUBJECTS["seg"], SUBJECTS["cap"]


def lines_of(done, level):
    return [line for line in done.stdout.splitlines() if f" - {level} - " in line]


def run(subject, folder, config, run_id, **options):
    return subject.bundle.command(folder, run_id, subject.bundle.config_files(config), **options)


@pytest.mark.parametrize(
    ("subject", "path", "message"),
    [
        (SEG, {"dataset_dir": "nowhere/2020.10"}, "Data set {} does not exist. Check dataset_dir."),
        (CAP, {"output_dir": "file/1e3"}, "Output folder {} cannot be written to (Not a directory)."),
    ],
    ids=["seg", "cap"],
)
def test_a_wrong_path_is_one_line(subject, path, message, tmp_path):
    """The start repeats neither the command line nor warnings of libraries."""
    (tmp_path / "file").touch()
    given = {"dataset_dir": tmp_path, "output_dir": "out", **{key: tmp_path / end for key, end in path.items()}}
    done = run(subject, tmp_path, "inference.json", "run", **given)
    assert done.returncode == 1
    assert not re.search(r"Traceback|input summary|nvImageCodec|> dataset_dir", done.stdout)
    assert lines_of(done, "WARNING") == []
    (line,) = lines_of(done, "ERROR")
    assert message.format(*(given[key] for key in path)) in line
    assert done.stdout.splitlines()[-1] == line


@pytest.mark.slow
def test_an_error_in_the_middle_of_a_training_is_one_line(tmp_path):
    """Engines, their handlers and the processes that load data pass it on."""
    label = SEG.write_data(tmp_path / "data") / "masks" / "003.png"
    pixels = np.array(Image.open(label))
    pixels[0, 0] = 7
    Image.fromarray(pixels).save(label)
    given = {**SEG.bundle.small, **SEG.training, "cache_rate": 0.0, "num_workers": 1, "dataset_dir": tmp_path / "data"}
    done = run(SEG, tmp_path, "train.yaml", "training", **given, ckpt_dir="models", output_dir="output")
    assert (done.returncode, "Traceback" in done.stdout) == (1, False), done.stdout
    (line,) = lines_of(done, "ERROR")
    assert "Case 003: label has value 7 at 1 pixel." in line


def test_failed_cases_of_an_inference_are_the_last_lines(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"<html>404</html>")
    weights = SEG.bundle.folder / "models" / "model.pt"
    done = run(SEG, tmp_path, "inference.json", "run", dataset_dir=tmp_path, ckpt_path=weights, output_dir="out")
    assert done.returncode == 1
    *_, count, reason = done.stdout.strip().splitlines()
    assert count.endswith("ERROR - 1 of 1 cases failed:")
    assert reason.startswith("  broken: broken.png is truncated or not a PNG file")


@pytest.mark.slow
def test_the_traceback_is_shown_when_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_TRACEBACK", "1")
    done = run(SEG, tmp_path, "inference.json", "run", dataset_dir="/nowhere", output_dir="out")
    assert "Traceback (most recent call last)" in done.stdout
    assert lines_of(done, "ERROR")[0].endswith("Data set /nowhere does not exist. Check dataset_dir.")
