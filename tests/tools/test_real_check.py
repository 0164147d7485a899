from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from custom_components.diagnosis.lung_sources import LungMasks
from custom_components.phantom import make_volume
from monai.data import MetaTensor

from tools import real_check as tool

ROOT = Path(__file__).resolve().parents[2]
VBNET = ROOT / "covid_cap_bundle" / "models" / "vbnet.pt"


def scan(truth=None, marked=(), affine=(-2.0, -5.0, 10.0, 1.0), hu=0.0, shape=(6, 5, 4)):
    image = MetaTensor(torch.full((1, *shape), hu), affine=torch.diag(torch.tensor(affine, dtype=torch.float64)))
    return tool.Scan("case", image, truth or {}, np.array(marked, bool))


def mask(shape=(6, 5, 4), **slices):
    made = np.zeros(shape, bool)
    made[tuple(slices.get(axis, slice(None)) for axis in "xyz")] = True
    return made


def test_volumes_are_ml_of_the_scans_own_voxels():
    lungs = mask(x=slice(0, 3))  # 60 voxels of 0.1 ml
    numbers = tool.infection_numbers(scan(), lungs, {"VB-Net": mask(x=slice(2, 4))})
    assert numbers["infection, ml"] == {"VB-Net": pytest.approx(2.0)}  # what lies outside the lungs does not count
    assert numbers["infection, % of the lungs"] == {"VB-Net": pytest.approx(100 / 3)}


def test_infection_is_compared_with_the_truth_where_there_is_one():
    truth = {"infection": mask(x=slice(0, 1))}
    numbers = tool.infection_numbers(scan(truth), mask(), {"VB-Net": mask(x=slice(0, 3))})
    assert numbers["infection, Dice"] == {"VB-Net": pytest.approx(0.5)}
    assert numbers["infection, ml (true: 2)"] == {"VB-Net": pytest.approx(6.0)}


def test_far_lung_is_measured_in_mm_along_each_axis():
    truth = {"lung": mask(z=slice(0, 1))}
    lungs = mask(z=slice(0, 2)) | mask(x=slice(0, 1))  # the second slice lies 10 mm from the first
    numbers = tool.lung_numbers(scan(truth), lungs, "VB-Net")
    assert numbers["lung beyond 6 mm of the true lungs, ml"]["VB-Net"] == pytest.approx((30 + 10) * 0.1)
    assert numbers["lungs, Dice"]["VB-Net"] == pytest.approx(2 * 30 / (30 + 70))


@pytest.mark.parametrize("upwards", [1.0, -1.0])
def test_slices_are_ranked_from_the_head_whichever_way_the_volume_is_stored(upwards):
    head = 3 if upwards > 0 else 0
    one = scan(marked=[True, False, False, False], affine=(-2.0, -5.0, upwards * 10, 1.0))
    assert tool.slice_auc(mask(z=slice(head, head + 1)), one) == 1.0
    assert tool.slice_auc(mask(z=slice(3 - head, 4 - head)), one) < 0.5


def test_scores_of_slices_are_those_counted_by_hand():
    ground_glass = np.zeros((4, 4), int)
    ground_glass[0, 0], ground_glass[1] = 50, [2, 6, 2, 0]
    other = np.zeros((4, 4), int)
    other[0, 0], other[2] = 60, [0, 4, 4, 2]
    numbers = tool.medseg_numbers(np.stack([ground_glass, other]))
    values = {name: column["lesion network"] for name, column in numbers.items()}
    assert values["ground-glass, Dice, mean of 1 slices with it"] == pytest.approx(2 * 6 / (10 + 6))
    assert values["ground-glass, Dice, pooled"] == pytest.approx(2 * 6 / (10 + 10))
    assert values["consolidation, Dice, pooled"] == pytest.approx(2 * 4 / (10 + 6))
    assert values["effusion, Dice, mean of 0 slices with it"] is None
    assert values["any lesion, Dice, mean of 2 slices with one"] == pytest.approx((2 * 8 / (10 + 8) + 1.0) / 2)
    assert values["ground-glass called consolidation, % of its pixels"] == pytest.approx(20)
    assert values["consolidation called ground-glass, % of its pixels"] == pytest.approx(40)


def test_a_number_is_measured_once_for_each_file_of_weights(tmp_path):
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(b"a")
    second.write_bytes(b"b")
    item = tool.Item("vbnet", "lung_ct", "case", lambda: None)
    made = []

    def make():
        made.append(1)
        return {"infection, ml": {"VB-Net": float(len(made))}}

    def ask(weights):
        return tool.kept(tmp_path, item, tool.Networks(weights, first), make)["infection, ml"]["VB-Net"]

    assert [ask(first), ask(first), ask(second), ask(first)] == [1.0, 1.0, 2.0, 1.0]


def test_words_choose_by_part_set_and_name():
    item = tool.Item("vbnet", "lung_ct", "case", lambda: None)
    assert all(item.is_asked_for(words) for words in ([], ["vbnet", "lesions", "lung_ct"], ["case"]))
    assert not any(item.is_asked_for(words) for words in (["vbnet", "effusion_ct"], ["threshold"], ["another"]))


def test_missing_data_are_skipped_and_listed(tmp_path, capsys):
    tool.real_check(data=str(tmp_path), cache=str(tmp_path / "cache"))
    said = capsys.readouterr().out
    for data_set in (*tool.SETS, "medseg100"):
        assert f"Left out: {data_set}" in said


@pytest.mark.parametrize("part", ["vbnet", "threshold"])
def test_a_phantom_stored_in_steps_of_8_hu_is_measured_end_to_end(tmp_path, capsys, part):
    write_excerpt(tmp_path)
    places = {"data": str(tmp_path), "cache": str(tmp_path / "cache"), "output": str(tmp_path / "table.md")}
    tool.real_check(segment_weights=str(VBNET), only=part, **places)
    lines = map(_cells, (tmp_path / "table.md").read_text().splitlines()[2:])
    rows = {cells[1]: [float(cell) for cell in cells[2:] if cell] for cells in lines}
    assert "| lung_ct/LCTSC-Test-S1-103 (held out) |" in capsys.readouterr().out
    assert rows["lungs, Dice"][0] > 0.9
    assert rows["lung outside the body, ml"][0] < 1


def _cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def write_excerpt(folder):
    """A phantom as the excerpts of LCTSC are, lungs coded 1 and 2."""
    phantom = make_volume(seed=1, shape=(100, 84, 50), spacing_mm=(4.0, 4.2, 6.0), lesions_ml={})
    codes = np.clip(np.rint((phantom.image_hu + 1350) / 8), 0, 255).astype(np.uint8)
    lung = (phantom.lung > 0).astype(np.uint8)
    lung[50:] *= 2
    (folder / "lung_ct").mkdir()
    arrays = {"ct": codes.transpose(2, 1, 0), "lung": lung.transpose(2, 1, 0), "spacing_mm": [6.0, 4.2, 4.0]}
    np.savez(folder / "lung_ct" / "LCTSC-Test-S1-103.npz", **arrays)


def test_lungs_of_two_sources_are_cut_and_joined(monkeypatch):
    network, threshold = mask(x=slice(0, 4)), mask(x=slice(2, 6))
    found = {False: threshold, True: network}
    infection = mask(x=slice(1, 3))

    def find_lungs(image, steps=None):
        return LungMasks(found[steps is not None].astype(np.uint8), "test", infection.astype(np.uint8))

    networks = tool.Networks(Path("vbnet.pt"), Path("model.pt"))
    networks.segmenter = SimpleNamespace(steps=object())
    monkeypatch.setattr(tool, "find_lungs", find_lungs)
    one = scan({"lung": threshold})

    numbers = tool.measure(tool.Item("lungs", "lung_ct", "case", lambda: one), networks)

    assert numbers["lungs, Dice"]["both agree"] == pytest.approx(2 * 40 / (40 + 80))
    assert numbers["lungs, ml"] == {"both agree": pytest.approx(4.0), "either": pytest.approx(12.0)}
    assert numbers["infection, ml"] == {tool.INSIDE: pytest.approx(2.0)}


def test_a_case_without_numbers_gives_the_reason():
    def broken():
        raise ValueError("Case c: no lungs")

    networks = tool.Networks(Path("vbnet.pt"), Path("model.pt"))
    found = tool.measure(tool.Item("threshold", "lung_ct", "c", broken), networks)
    assert found == {"not measured: Case c: no lungs": {}}
