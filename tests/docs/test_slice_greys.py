import runpy

import numpy as np
import pytest
from PIL import Image

from tests.bundles.conftest import ROOT

SCRIPT = runpy.run_path(str(ROOT / "docs" / "slice_greys.py"))


def write_slice(folder, number, shift):
    """A body of 220 with lungs of 60, ground-glass of 110 and, in even slices, consolidation of 190; all shifted."""
    image, mask = np.zeros((96, 96), np.uint8), np.zeros((96, 96), np.uint8)
    image[8:88, 8:88] = 220 + shift
    image[20:70, 20:76] = 60 + shift
    image[30:40, 30:40], mask[30:40, 30:40] = 110 + shift, 1
    if number % 2 == 0:
        image[50:60, 50:60], mask[50:60, 50:60] = 190 + shift, 2
    for kind, pixels in {"images": image, "masks": mask}.items():
        (folder / kind).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{number:03d}.png")


def test_peaks_and_medians_are_listed_with_the_effect_of_a_normalisation(tmp_path, capsys):
    for number, shift in enumerate((-20, 0, 20)):
        write_slice(tmp_path, number, shift)
    SCRIPT["main"](str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == ["000 40 200 90 170", "001 60 220 110 nan", "002 80 240 130 210"]
    assert "consolidation: 190, standard deviation 20" in lines
    raw, relative = (float(part.split()[-1]) for part in lines[-1].split(";"))
    assert raw == pytest.approx(80 / np.sqrt((20**2 + 800 / 3) / 2), abs=0.01)
    assert relative > 1000 * raw or np.isinf(relative)


def test_a_slice_without_lesions_has_no_medians():
    _lungs, soft, *lesions = SCRIPT["greys"](np.full((64, 64), 200, np.uint8), np.zeros((64, 64), np.uint8))
    assert soft == 200
    assert np.isnan(lesions).all()
