import pytest
from custom_components.followup.sentences import change_sentence, repeat_bound_ml

ZONES = {side: {"upper": 0.0, "middle": 0.0, "lower": 0.0} for side in ("left", "right")}


def comparison(earlier, later, new=0.0, resolved=0.0, zones=None, has_map=True):
    percent = {"earlier": earlier / 40, "later": later / 40, "difference": (later - earlier) / 40}
    change = {
        "volume_ml": {"persisting": min(earlier, later), "new": new, "resolved": resolved},
        "zones_ml": {"new": zones or ZONES, "resolved": ZONES},
    }
    return {
        "infection_ml": {"total": {"earlier": earlier, "later": later, "difference": later - earlier}},
        "infection_percent": {"total": percent},
        "repeat_bound_ml": repeat_bound_ml(earlier, later),
        "change": change if has_map else None,
    }


def placed(new):
    return {**ZONES, "right": {"upper": new / 4, "middle": 0.0, "lower": 3 * new / 4}}


def test_an_increase_names_volumes_and_place():
    assert change_sentence(comparison(46.0, 80.0, new=40.0, zones=placed(40.0))) == (
        "Infection has increased from 46 to 80 ml (1.1 to 2.0 % of the lungs); 40 ml are new, mainly in the right "
        "lower third."
    )


def test_a_decrease_without_a_place_of_more_than_half_names_none():
    assert change_sentence(comparison(80.0, 46.0, resolved=34.0)).endswith("; 34 ml have resolved.")


@pytest.mark.parametrize("later", [92.0, 100.0, 110.0])
def test_a_change_within_the_bound_is_none(later):
    assert change_sentence(comparison(100.0, later, new=9.0, resolved=9.0)).startswith("No change beyond what the same")


def test_an_equal_volume_at_another_place_is_a_change():
    sentence = change_sentence(comparison(100.0, 100.0, new=60.0, resolved=60.0))
    assert sentence.startswith("The volume of infection has not changed beyond")
    assert sentence.endswith("; 60 ml are new, and 60 ml have resolved.")


@pytest.mark.parametrize(("later", "start"), [(100.0, "The volume of infection has not"), (50.0, "Infection has dec")])
def test_without_a_map_the_place_is_unknown(later, start):
    sentence = change_sentence(comparison(100.0, later, has_map=False))
    assert sentence.startswith(start)
    assert sentence.endswith("Where it changed is unknown: the lungs could not be registered.")
