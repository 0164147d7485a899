import pytest
from custom_components import check_switches
from custom_components.command_line.used_entries import used_entries

from tests.bundles.conftest import ROOT, Bundle, as_without_card

# The configs that run something, and the switches of each.
SWITCHES = {
    "covid_seg_bundle": {
        "train.yaml": ("amp", "compile", "resume", "body_crop", "within_lungs", "half_weights"),
        "evaluate.yaml": ("amp", "body_crop", "within_lungs", "score_trained_cases"),
        "inference.json": ("amp", "progress", "body_crop", "within_lungs"),
    },
    "covid_cap_bundle": {
        "train.yaml": ("amp", "resume", "no_max_pool"),
        "evaluate.yaml": ("amp", "no_max_pool", "score_trained_cases"),
        "segment_train.yaml": ("amp", "resume"),
        "segment_evaluate.yaml": ("amp", "score_trained_cases"),
        "inference.json": ("amp", "no_max_pool"),
    },
}
VERBS = {"train": "training", "evaluate": "evaluating", "inference": "run"}
FILES = [(bundle, name) for bundle, files in SWITCHES.items() for name in files]
CASES = [(bundle, name, switch) for bundle, name in FILES for switch in SWITCHES[bundle][name]]


@pytest.mark.parametrize("value", [True, False, 0, 1, None, "true", "True"])
def test_what_means_what_it_says_is_let_pass(value):
    check_switches(amp=value)


@pytest.mark.parametrize("value", ["false", "no", "off", "0", ""])
def test_a_word_that_would_count_as_true_is_refused(value):
    with pytest.raises(ValueError, match=rf"^amp is the word '{value}', which would count as true. Write --amp False"):
        check_switches(resume=True, amp=value)


@pytest.mark.parametrize(("bundle", "name", "switch"), CASES)
def test_a_bundle_refuses_it_before_it_reads_or_writes(tmp_path, bundle, name, switch):
    verb = next(verb for start, verb in VERBS.items() if start in name)
    places = {"dataset_dir": tmp_path / "none", "output_dir": tmp_path / "out"}
    with pytest.raises((ValueError, RuntimeError)) as caught:
        Bundle(ROOT / bundle, {}).run(name, verb, **places, **{switch: "false"})
    assert f"{switch} is the word 'false'" in str(caught.getrepr())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("bundle", "name"), FILES)
def test_every_switch_of_a_config_is_checked(bundle, name):
    parser = Bundle(ROOT / bundle, {}).parser_of(name)
    verb = next(verb for start, verb in VERBS.items() if start in name)
    config = {key: parser[key] for key in parser.get() if key in used_entries(parser.get(), verb)}
    ones = {key for key, value in config.items() if isinstance(as_without_card(value), bool)}
    assert ones - {"is_not_rank0"} == set(SWITCHES[bundle][name])  # that one is set by multi_gpu_train.json
