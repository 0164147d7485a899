import json
import shutil
from pathlib import Path

import pytest
from custom_components.weights.model_card import (
    TrainedWith,
    all_synthetic,
    card_path,
    case_digest,
    data_facts,
    network_as_trained,
    read_card,
    scored_cases,
    training_text,
    write_card,
)

CONTENT = {"settings": {"grid": [24, 56, 48], "window_hu": [-1350, 150]}, "network": {"features": [8, 16]}}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "run" / "model.pt"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    write_card(path, CONTENT)
    return path


def scan(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return {"case_id": name, "image": str(folder / name)}


def test_a_card_is_a_json_next_to_its_weights(weights):
    assert card_path(weights) == weights.with_name("model.json")
    assert json.loads(card_path(weights).read_text(encoding="utf-8"))["settings"] == CONTENT["settings"]


def test_settings_of_the_card_replace_the_default(weights):
    trained = TrainedWith(weights)
    assert trained.get("grid", [138, 256, 256]) == [24, 56, 48]
    assert trained.network("features", [32]) == [8, 16]
    assert trained.get("max_scale", 0.5) == 0.5
    assert trained.network("encoder", "resnext") == "resnext"
    assert trained.system("uniform") == "uniform"
    write_card(weights, {**CONTENT, "system": "plain"})
    assert TrainedWith(weights).system("uniform") == "plain"


@pytest.mark.parametrize("place", [None, "", "nowhere/model.pt"])
def test_without_a_card_all_settings_are_the_default(place):
    trained = TrainedWith(place)
    assert (trained.get("grid", 1), trained.network("features", 2), trained.trained_on()) == (1, 2, set())


OTHER = '{"weights_sha256": "0"}'


@pytest.mark.parametrize("text", [OTHER, "", "{", "[]", "{}", "null", '{"settings": {}}'])
def test_a_broken_card_or_one_of_other_weights_is_ignored_with_a_warning(weights, caplog, text):
    card_path(weights).write_text(text, encoding="utf-8")
    assert read_card(weights) == {}
    problem = "belongs to other weights than model.pt" if text == OTHER else "cannot be read"
    assert f"model.json {problem}: it is ignored." in caplog.text


def test_networks_trained_with_different_settings_are_an_error(weights, tmp_path):
    other = tmp_path / "other.pt"
    other.write_bytes(b"more weights")
    write_card(other, {"settings": {**CONTENT["settings"], "grid": [32, 64, 64]}})
    with pytest.raises(
        ValueError, match=r"other.pt was trained with grid \[32, 64, 64\], .*model.pt with \[24, 56, 48\]"
    ):
        TrainedWith([weights, other])
    assert TrainedWith([tmp_path / "none.pt", other]).get("grid", None) == [32, 64, 64]


def test_a_case_is_identified_by_its_bytes_under_any_name(tmp_path):
    one = scan(tmp_path / "a", "one.nii.gz", b"1" * 200_000)
    again = scan(tmp_path / "b", "renamed.nii.gz", b"1" * 200_000)
    shorter = scan(tmp_path / "b", "shorter.nii.gz", b"1" * 199_999)
    other = scan(tmp_path / "b", "other.nii.gz", b"1" * 199_999 + b"2")
    assert case_digest(one) == case_digest(again)
    assert len({case_digest(case) for case in (one, shorter, other)}) == 3


def test_a_series_is_identified_by_its_slices_in_any_order(tmp_path):
    for name, content in {"1.dcm": b"first", "2.dcm": b"second"}.items():
        scan(tmp_path / "series", name, content)
    for name, content in {"z.dcm": b"first", "a.dcm": b"second"}.items():
        scan(tmp_path / "copy", name, content)
    series, copy = ({"image": tmp_path / name} for name in ("series", "copy"))
    files = {"image": [tmp_path / "series" / name for name in ("2.dcm", "1.dcm")]}
    assert case_digest(series) == case_digest(copy) == case_digest(files)
    (tmp_path / "copy" / "a.dcm").write_bytes(b"another")
    assert case_digest(series) != case_digest(copy)


def test_a_card_contains_no_case_names(tmp_path):
    facts = data_facts([scan(tmp_path / "a", "Mueller_1956.nii.gz", b"1"), scan(tmp_path / "a", "b.nii.gz", b"2")])
    assert facts["cases"] == len(facts["digests"]) == 2
    assert "Mueller" not in json.dumps(facts)


@pytest.fixture
def cases(tmp_path):
    return [scan(tmp_path / "data", f"{number}.nii.gz", str(number).encode()) for number in range(5)]


def test_phantoms_are_counted_over_further_trainings_and_ensembles(cases, weights, tmp_path):
    phantoms = [{**case, "synthetic": True} for case in cases[:2]]
    write_card(weights, {**CONTENT, "trained_on": data_facts(phantoms)})
    assert all_synthetic(read_card(weights))
    assert training_text(read_card(weights)) == "2 synthetic cases (no split)"
    start = TrainedWith(weights)
    assert start.synthetic() == {case_digest(case) for case in phantoms} == start.trained_on()
    assert all_synthetic({"trained_on": data_facts([], start)})
    further = tmp_path / "further.pt"
    score = {"name": "AUC", "value": 0.5, "epoch": 3}
    further.write_bytes(b"further")
    write_card(further, {"trained_on": data_facts(cases[1:3], start), "score": score})
    assert not all_synthetic(read_card(further))
    words = "3 cases of the user, 2 of them synthetic (no split), AUC 0.500 in epoch 3"
    assert training_text(read_card(further)) == words
    together = TrainedWith([weights, further])
    assert (together.trained_on(), together.synthetic()) == (
        {case_digest(case) for case in cases[:3]},
        start.synthetic(),
    )


def test_without_phantoms_a_card_says_nothing_about_them(cases):
    assert set(data_facts(cases)) == {"cases", "sha256", "digests"}
    assert not all_synthetic({"trained_on": data_facts(cases)})
    assert not all_synthetic({"trained_on": data_facts([])})
    assert training_text({}) == "unknown"


@pytest.fixture
def trained(weights, cases):
    write_card(weights, {**CONTENT, "trained_on": data_facts(cases[:2]), "validated_on": data_facts(cases[2:4])})
    return TrainedWith(weights)


def split_of(cases, fold=None):
    return {"validation": cases, "fold": fold, "protocol": "all cases" if fold is None else f"fold {fold}"}


def test_unseen_cases_or_the_validation_cases_of_the_training_are_scored(cases, trained, caplog):
    assert scored_cases(split_of(cases[2:], fold=1), trained) == {"cases": cases[2:], "protocol": "fold 1"}
    scored = scored_cases(split_of(cases), trained)
    assert scored == {"cases": cases[2:4], "protocol": "validation cases of the training (2 of 5)"}
    assert "2 of 5 cases were used in training: only the 2 validation cases of the training are scored." in caplog.text


@pytest.mark.parametrize(("chosen", "fold"), [(slice(4), 0), (slice(2), None)])
def test_training_cases_are_an_error(cases, trained, tmp_path, chosen, fold):
    moved = shutil.copytree(tmp_path / "data", tmp_path / "moved")
    copies = [{"image": str(moved / Path(case["image"]).name)} for case in cases[chosen]]
    with pytest.raises(
        ValueError, match=rf"^2 of {len(copies)} cases were used in training, .* --score_trained_cases true"
    ):
        scored_cases(split_of(copies, fold), trained)


def test_scores_of_training_cases_are_reported_as_such(cases, trained, caplog):
    scored = scored_cases(split_of(cases), trained, score_trained_cases=True)
    assert scored == {"cases": cases, "protocol": "training data (2 of 5 cases were used in training); all cases"}
    assert "these are not scores of unseen cases" in caplog.text


def test_two_trainings_together_score_their_common_validation_cases(cases, weights, trained, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "model.pt"
    other.write_bytes(b"others")
    facts = {"trained_on": data_facts(cases[3:]), "validated_on": data_facts(cases[1:3])}
    write_card(other, {**CONTENT, **facts})
    both = TrainedWith([weights, other])
    assert scored_cases(split_of(cases), both)["cases"] == cases[2:3]


def test_the_split_of_the_card_replaces_the_default(weights):
    write_card(weights, {"split": {"protocol": "group (contiguous blocks)", "num_folds": 5, "fold": 0, "seed": 3}})
    trained = TrainedWith(weights)
    assert [trained.split(name, 10) for name in ("num_folds", "seed", "border")] == [5, 3, 10]
    assert trained.split("protocol", "paper") == "group"
    write_card(weights, {"split": {"protocol": "all cases (no split)", "num_folds": None}})
    assert TrainedWith(weights).split("protocol", "paper") == "paper"


@pytest.mark.parametrize(("num_folds", "warnings"), [(5, 0), (10, 1)])
def test_a_fold_of_another_split_is_logged(weights, cases, caplog, num_folds, warnings):
    write_card(weights, {"split": {"protocol": "group (contiguous blocks)", "num_folds": 5, "fold": 0, "seed": 0}})
    split = {**split_of(cases, 0), "protocol": "group", "num_folds": num_folds, "seed": 0}
    scored_cases(split, TrainedWith(weights))
    messages = [record.message for record in caplog.records]
    assert messages == ["Fold 0 is not that of the training: num_folds 10 instead of 5."] * warnings


def test_a_network_gets_the_known_arguments_of_the_card_and_the_given_ones(tmp_path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    write_card(weights, {"network": {"_target_": "package.Network", "features": [8, 16], "heads": 4, "unknown": 1}})

    def network(features=(1,), heads=1, rounds=2):
        return features, heads, rounds

    made = network_as_trained(network, TrainedWith(weights), heads=7)
    assert made == ([8, 16], 7, 2)


def test_the_notes_of_results_say_what_differs_and_whether_all_training_cases_were_phantoms(weights):
    assert TrainedWith(weights).notes({"grid": [24, 56, 48]}) == []
    write_card(weights, {**CONTENT, "trained_on": {"cases": 1, "synthetic": ["a"]}})
    assert TrainedWith(weights).notes({"grid": [1, 2, 3]}) == [
        "grid is [1, 2, 3]; the weights were trained with [24, 56, 48].",
        "Weights trained on synthetic CT only; the output has no meaning for a patient.",
    ]
    write_card(weights, {**CONTENT, "trained_on": {"cases": 2, "synthetic": ["a"]}})
    assert TrainedWith(weights).notes({}) == []
