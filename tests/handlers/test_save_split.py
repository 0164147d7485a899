import json

from custom_components.datalists.split import split_cases
from custom_components.handlers.save_split import SaveSplit
from ignite.engine import Engine

CASES = [{"case_id": str(number), "image": f"/data/{number}.png", "group": ""} for number in range(7)]


def written(split, path, **lists):
    engine = Engine(lambda engine, batch: None)
    SaveSplit(split, path, **lists).attach(engine)
    engine.run([0])
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_split_is_written_at_the_start_of_the_run(tmp_path):
    split = split_cases(CASES, num_folds=3, fold=1, border=1)
    path, seen = tmp_path / "models" / "split.json", []
    engine = Engine(lambda engine, batch: seen.append(json.loads(path.read_text(encoding="utf-8"))))
    SaveSplit(split, path).attach(engine)
    assert not path.exists()
    engine.run([0])
    assert seen == [split]
    assert [len(split[side]) for side in ("training", "validation", "left_out")] == [3, 2, 2]


def test_lists_of_another_program_are_written_instead_of_the_split(tmp_path):
    split = split_cases(CASES, num_folds=3, fold=1, border=1)
    other = [{"image": f"/scans/{name}.nii.gz", "label": f"/labels/{name}.nii.gz"} for name in "ab"]
    same = {side: list(split[side]) for side in ("training", "validation")}
    assert written(split, tmp_path / "same.json", **same) == split
    assert written(split, tmp_path / "split.json", training=other, validation=[]) == {
        "protocol": "lists set from outside", "training": other, "validation": [], "left_out": [],
    }  # fmt: skip
    assert written(split, tmp_path / "one.json", validation=other)["training"] == split["training"]


def test_lists_of_another_program_need_no_split(tmp_path):
    other = [{"image": "/scans/a.nii.gz", "label": "/labels/a.nii.gz"}]
    found = written(split_cases(None), tmp_path / "split.json", training=other, validation=[])
    assert (found["training"], found["validation"]) == (other, [])
