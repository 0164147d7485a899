import pytest

from tools import audit
from tools.audit import CLEAN, INSTALL, PINNED, UNKNOWN, VULNERABLE, main, pins

# What stands in for pip-audit prints, by the name of the first package that it is asked about.
STAND_IN = """
import json, sys
words = sys.argv[sys.argv.index("--requirement") + 1]
lines = open(words).read().split()
assert "--no-deps" in sys.argv and "--disable-pip" in sys.argv
if lines[0].startswith("offline"):
    sys.exit("requests.exceptions.ConnectionError: no route to the service")
found = []
for line in lines:
    name, version = line.split("==")
    flaws = [{"id": "PYSEC-2026-1", "fix_versions": ["9.9"]}] if name == "leaky" else []
    found.append({"name": name, "skip_reason": "not on PyPI"} if name == "own" else
                 {"name": name, "version": version, "vulns": flaws})
print(json.dumps({"dependencies": found}))
sys.exit(any(one.get("vulns") for one in found))
"""


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    (tmp_path / "pip_audit.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def call(text: str, *options: str) -> tuple[int, str]:
        file = tmp_path / "pinned.txt"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit) as ended:
            main([str(file), *options])
        return ended.value.code, capsys.readouterr().out

    return call


def test_packages_without_flaws_pass(ask):
    status, said = ask("sound==1.2  # a comment\n\n# more\nother[extra]==3\n")
    assert (status, said) == (CLEAN, "pinned.txt: 0 vulnerabilities of 2 packages that are known\n")


def test_a_vulnerability_is_named_with_the_fixed_version(ask):
    status, said = ask("sound==1.2\nleaky==3.4\n")
    assert status == VULNERABLE
    assert "VULNERABLE leaky 3.4: PYSEC-2026-1, fixed in 9.9" in said


def test_unknown_packages_are_listed(ask):
    status, said = ask("own==1\nsound==2\n")
    assert said.startswith("pinned.txt: 0 vulnerabilities of 1 packages that are known")
    assert "not known: own: not on PyPI" in said
    assert (status, ask("own==1\n", "--strict")[0]) == (CLEAN, UNKNOWN)


@pytest.mark.parametrize(("options", "expected"), [((), CLEAN), (("--strict",), UNKNOWN)])
def test_an_unreachable_service_is_reported(ask, options, expected):
    status, said = ask("offline==1\n", *options)
    assert status == expected
    assert "not known: pip-audit gave no answer: requests.exceptions.ConnectionError: no route" in said


def test_without_pip_audit_it_says_what_to_install(ask, monkeypatch):
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: None)
    assert INSTALL in ask("sound==1\n")[1]


def test_the_files_of_this_repository_are_pinned():
    for name in PINNED:
        lines = list(pins((audit.ROOT / name).read_text(encoding="utf-8")))
        assert len(lines) > 5
        assert all(len(line.split("==")) == 2 and line.split("==")[1] for line in lines), name
