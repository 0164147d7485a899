"""``python -m custom_components federated``: wrong input ends with one line before anything runs."""

import importlib.util
from importlib.machinery import ModuleSpec

import pytest
import torch
from custom_components.federated import command

SITES = "{'north': '%s'}"


@pytest.fixture
def with_nvflare(monkeypatch):
    """The check for the package passes, whether or not it is installed."""
    find = importlib.util.find_spec
    spec = ModuleSpec("nvflare", None)
    monkeypatch.setattr(
        command.importlib.util, "find_spec", lambda name, *rest: spec if name == "nvflare" else find(name, *rest)
    )


def test_without_nvflare_one_line_names_the_extra(command_line, caplog, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        command.importlib.util, "find_spec", lambda name, *rest: None if name == "nvflare" else find(name, *rest)
    )
    assert command_line("federated", "covid_seg_bundle", tmp_path / "out") == 1
    assert 'federated needs nvflare. Install: pip install "custom_components[federated]".' in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "sites is missing. Give the data set of each site"),
        (("--sites", "{'north': '/nowhere'}"), "Site north: /nowhere does not exist. Expected its data set."),
        (("--environment", "moon"), "environment is 'moon'. Expected simulation, poc, production, export."),
        (("--environment", "export", "--sites", SITES), "in export each hospital sets its own data. Remove it."),
        (("--environment", "production"), "startup_kit is missing."),
        (("--sites", SITES, "--min_sites", "2"), "min_sites is 2, but there are 1 sites."),
        (("--sites", SITES, "--rounds", "0"), "rounds is 0. Expected a whole number, 1 or more."),
        (("--sites", SITES, "--test_sites", "{'south': '%s'}"), "test_sites has 'south', which is not in sites."),
        (("--sites", SITES, "--privacy", "{'magic': {}}"), "privacy has 'magic'. Expected percentile or svt"),
    ],
)
def test_wrong_options_are_named(options, message, command_line, caplog, with_nvflare, tmp_path):
    words = [word.replace("%s", str(tmp_path)) for word in options]
    assert command_line("federated", "covid_seg_bundle", tmp_path / "out", *words) == 1
    assert message in caplog.text
    assert not (tmp_path / "out").exists()


def test_an_override_that_no_config_has_is_named(command_line, caplog, tmp_path):
    pytest.importorskip("nvflare", reason='needs nvflare: pip install "custom_components[federated]"')
    sites = SITES % tmp_path
    words = ("federated", "covid_seg_bundle", tmp_path / "out", "--sites", sites, "--overrides", "{'epoch': 3}")
    assert command_line(*words) == 1
    assert "overrides sets 'epoch', but no config of the bundle has it. Did you mean epochs?" in caplog.text


def test_a_poisoned_file_of_initial_weights_is_refused_without_running_its_code(command_line, caplog, tmp_path):
    pytest.importorskip("nvflare", reason='needs nvflare: pip install "custom_components[federated]"')
    torch.save({"weight": Poison(tmp_path / "ran")}, tmp_path / "poison.pt")
    words = ("--sites", SITES % tmp_path, "--init_path", tmp_path / "poison.pt")
    assert command_line("federated", "covid_seg_bundle", tmp_path / "out", *words) == 1
    assert "these could run code and are not loaded" in caplog.text
    assert not (tmp_path / "ran").exists()


class Poison:
    """Writes a file when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_an_exported_job_has_the_settings_and_no_code_but_a_launcher(command_line, tmp_path):
    pytest.importorskip("nvflare", reason='needs nvflare: pip install "custom_components[federated]"')
    tiny = "{'network_def#features': [8, 16], 'spatial_size': [32, 32]}"
    words = ("--environment", "export", "--overrides", tiny, "--min_sites", "2", "--rounds", "3")
    assert command_line("federated", "covid_seg_bundle", tmp_path / "out", *words) == 0
    scripts = sorted((tmp_path / "out/job").rglob("*.py"))
    assert {script.name for script in scripts} == {"train_at_site.py"}
    text = scripts[0].read_text(encoding="utf-8")
    assert '"bundle": "covid_seg_bundle"' in text
    assert '"dataset_dir": null' in text
    assert str(tmp_path) not in text
    configs = "".join(file.read_text(encoding="utf-8") for file in (tmp_path / "out/job").rglob("*.json"))
    assert str(tmp_path) not in configs
    assert list((tmp_path / "out/job").rglob("first.pt"))
