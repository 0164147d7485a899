"""What is added to MONAI Label: the guard, and the strategy that serves the most doubtful scan."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tools.label_disagreement import NAME, RESULTS, Disagreement, disagreement

TOOLS = Path(__file__).resolve().parents[2] / "tools"
REPORTS = {
    "agree": {"agreement": {"dice": 0.9}, "consistency": {"mirror_dice": 0.95}},
    "networks": {"agreement": {"dice": 0.3}, "consistency": {"mirror_dice": 0.8}},
    "mirror": {"agreement": {"dice": 0.8}, "consistency": {"mirror_dice": 0.1}},
    "healthy": {"agreement": {"dice": None}, "consistency": {"mirror_dice": None}},
    "old": {"agreement": {"dice": 0.5}},
    "one_network": {"agreement": None, "consistency": {"mirror_dice": 0.6}},
    "broken": None,
}


@pytest.fixture
def results(tmp_path):
    for name, report in REPORTS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text("{" if report is None else json.dumps(report), encoding="utf-8")
    return tmp_path


def test_disagreement_is_one_minus_the_lowest_dice(results):
    found = {name: disagreement(results / name / "report.json") for name in (*REPORTS, "missing")}
    expected = {"agree": 0.1, "networks": 0.7, "mirror": 0.9, "healthy": 0, "old": 0.5, "one_network": 0.4}
    assert found == pytest.approx({**expected, "broken": -1, "missing": -1})


def test_scans_are_served_from_the_most_to_the_least_doubtful_then_those_without_report(results):
    images = ["b_missing", *REPORTS, "a_missing"]
    asked = []

    def unlabelled(tag=None, labels=None):
        asked.append((tag, labels))
        return list(images)

    order, strategy = [], Disagreement(results)
    while chosen := strategy({"label_tag": "final"}, SimpleNamespace(get_unlabeled_images=unlabelled)):
        images.remove(chosen["id"])
        order.append(chosen["id"])
    assert order[:6] == ["mirror", "networks", "old", "one_network", "agree", "healthy"]
    assert order[6:] == ["a_missing", "b_missing", "broken"]
    assert asked[0] == ("final", None)


@pytest.mark.parametrize("given", [True, False])
def test_uvicorn_gets_monai_label_behind_the_guard_with_the_strategy_if_there_are_results(given, results, monkeypatch):
    async def inner(scope, receive, send):
        """Never called."""

    app = SimpleNamespace(_strategies={"random": object()})
    for name, content in {
        "monailabel": {}, "monailabel.app": {"app": inner}, "monailabel.interfaces": {},
        "monailabel.interfaces.utils": {}, "monailabel.interfaces.utils.app": {"app_instance": lambda: app},
    }.items():  # fmt: skip
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(TOOLS))
    for name in ("label_server", "label_guard", "label_disagreement"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv(RESULTS, str(results) if given else "")
    server = importlib.import_module("label_server")
    assert server.app.app is inner
    assert set(app._strategies) == ({"random", NAME} if given else {"random"})
    with pytest.raises(AttributeError):
        _ = server.other
