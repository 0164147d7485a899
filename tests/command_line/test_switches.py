import pytest
from custom_components import check_switches
from custom_components.command_line.used_entries import used_entries

from tests.bundles.conftest import ROOT, Bundle, as_without_card

CONFIGS = {
    "covid_seg_bundle": ("train.yaml", "evaluate.yaml", "inference.json"),
    "covid_cap_bundle": (
        "train.yaml",
        "evaluate.yaml",
        "segment_train.yaml",
        "segment_evaluate.yaml",
        "inference.json",
    ),
}
VERBS = {"train": "training", "evaluate": "evaluating", "inference": "run"}


def verb_of(name):
    return next(verb for start, verb in VERBS.items() if start in name)


def switches_of(bundle, name):
    """Boolean entries that the config uses, except one that is set by multi_gpu_train.json."""
    parser = Bundle(ROOT / bundle, {}).parser_of(name)
    used = used_entries(parser.get(), verb_of(name))
    values = {key: as_without_card(parser[key]) for key in parser.get() if key in used}
    return sorted(key for key, value in values.items() if isinstance(value, bool) and key != "is_not_rank0")


CASES = [(bundle, name, one) for bundle in CONFIGS for name in CONFIGS[bundle] for one in switches_of(bundle, name)]


@pytest.mark.parametrize("value", [True, False, 0, 1, None, "true", "True"])
def test_an_unambiguous_value_is_accepted(value):
    check_switches(amp=value)


@pytest.mark.parametrize("value", ["false", "no", "off", "0", ""])
def test_a_word_that_would_count_as_true_is_rejected(value):
    with pytest.raises(ValueError, match=rf"^amp is the word '{value}', which would count as true. Write --amp False"):
        check_switches(resume=True, amp=value)


@pytest.mark.parametrize(("bundle", "name", "switch"), CASES)
def test_every_switch_of_a_config_is_checked_before_anything_is_read_or_written(tmp_path, bundle, name, switch):
    places = {"dataset_dir": tmp_path / "none", "output_dir": tmp_path / "out"}
    with pytest.raises((ValueError, RuntimeError)) as caught:
        Bundle(ROOT / bundle, {}).run(name, verb_of(name), **places, **{switch: "false"})
    assert f"{switch} is the word 'false'" in str(caught.getrepr())
    assert not (tmp_path / "out").exists()


def test_the_configs_have_switches():
    assert {(name, switch) for _, name, switch in CASES} >= {("train.yaml", "resume"), ("inference.json", "amp")}
