import hashlib
import os
import zipfile
from pathlib import Path

import pytest
import yaml
from custom_components.weights.model_card import data_facts, write_card

from tests.tools.conftest import SCHEMA, SEG, names_in, needs_schema, run, tiny, write
from tools import package_bundles
from tools.check_package import CHECKS
from tools.package_bundles import (
    BUNDLES,
    CARD,
    DOWNLOADS,
    LARGEST_FILE_BYTES,
    LARGEST_WEIGHTS_BYTES,
    NECESSARY,
    ROOT,
    WEIGHTS,
    copy_files,
    package_bundle,
    packaged_files,
    write_zip,
)

LEFT_BY_WORK = (
    "cache/scan.pt",
    "eval/summary.json",
    "models/uniform/model.pt",
    "models/resume_checkpoint_epoch=1.pt",
    "configs/.train.yaml.swp",
    "custom_components/__pycache__/loss.pyc",
    "custom_components/loss.pyc",
)


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A bundle in form, whose custom_components is a link, as it lies there after work."""
    folder = tmp_path / "repository" / "toy_bundle"
    code = folder.with_name("custom_components")
    code.mkdir(parents=True)
    folder.mkdir()
    (folder / "custom_components").symlink_to("../custom_components")
    for name in (*NECESSARY, "docs/figures/a.png", "custom_components/losses/loss.py", *LEFT_BY_WORK):
        write(folder / name)
    write(folder / "configs/metadata.json", b'{"version": "1.2.3"}\n')
    return folder


@pytest.fixture
def verified(monkeypatch) -> None:
    """Let every package pass."""
    monkeypatch.setattr(package_bundles, "verify", lambda *_: None)


def give_weights(bundle: Path, size: int, **entry: str) -> None:
    """Weights of that many bytes, and what large_files.yml says of them."""
    write(bundle / WEIGHTS, b"w" * size)
    if entry:
        entry = {"path": WEIGHTS, "url": "https://example.org/model.pt", "hash_type": "sha256", **entry}
        write(bundle / DOWNLOADS, yaml.safe_dump({"large_files": [entry]}).encode())


def test_a_package_contains_the_bundle_without_working_files(bundle):
    expected = {*NECESSARY, "docs/figures/a.png", "custom_components/losses/loss.py"}
    assert set(packaged_files(bundle)) == expected
    assert list(packaged_files(bundle)) == sorted(expected)


def test_the_link_becomes_a_folder(bundle, tmp_path):
    copy_files(packaged_files(bundle), tmp_path / "copy")
    assert not any(path.is_symlink() for path in (tmp_path / "copy").rglob("*"))
    assert (tmp_path / "copy/custom_components/losses/loss.py").read_bytes() == b"{}\n"


def test_folder_and_zip_get_their_names_and_the_bundle_stays_as_it_is(bundle, tmp_path, verified):
    before = {path: path.stat().st_mtime_ns for path in bundle.parent.rglob("*")}
    folder = package_bundle(bundle, tmp_path / "dist")
    assert folder == tmp_path / "dist" / "toy_bundle"
    assert {path.name for path in folder.parent.iterdir()} == {"toy_bundle", "toy_bundle_v1.2.3.zip"}
    assert {path: path.stat().st_mtime_ns for path in bundle.parent.rglob("*")} == before


@pytest.mark.parametrize("synthetic", [True, False])
def test_weights_trained_on_phantoms_are_named(bundle, tmp_path, verified, capsys, synthetic):
    write(bundle / WEIGHTS, b"weights")
    (tmp_path / "scan").write_bytes(b"scan")
    write_card(bundle / WEIGHTS, {"trained_on": data_facts([{"image": tmp_path / "scan", "synthetic": synthetic}])})
    package_bundles.main([str(bundle), "--dist", str(tmp_path / "dist")])
    said = (
        "toy_bundle: WARNING: models/model.pt was trained on synthetic CT only: not for patients"
        in capsys.readouterr().out
    )
    assert said is synthetic


def test_a_second_package_replaces_the_first(bundle, tmp_path, verified):
    package_bundle(bundle, tmp_path / "dist")
    (bundle / "docs/figures/a.png").unlink()
    folder = package_bundle(bundle, tmp_path / "dist")
    with zipfile.ZipFile(folder.parent / "toy_bundle_v1.2.3.zip") as archive:
        assert {name.removeprefix("toy_bundle/") for name in archive.namelist()} == names_in(folder)
    assert "docs/figures/a.png" not in names_in(folder)


def test_the_zip_depends_on_contents_alone(tmp_path):
    archives = []
    for number, names in enumerate((("a.txt", "b/c.txt"), ("b/c.txt", "a.txt"))):
        folder = tmp_path / str(number) / "toy_bundle"
        for name in names:
            write(folder / name, name.encode())
            os.utime(folder / name, (1e9 + number, 1e9 + number))
            (folder / name).chmod(0o600 + 0o44 * number)
        archives.append(tmp_path / f"{number}.zip")
        write_zip(folder, archives[-1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        assert archive.namelist() == ["toy_bundle/a.txt", "toy_bundle/b/c.txt"]
        assert archive.read("toy_bundle/b/c.txt") == b"b/c.txt"


def test_a_failure_leaves_only_the_older_package(bundle, tmp_path, verified, monkeypatch):
    folder = package_bundle(bundle, tmp_path / "dist")
    before = {path.name: path.read_bytes() for path in folder.parent.glob("*.zip")}
    write(bundle / "docs/README.md", b"changed\n")

    def fails(*_):
        raise ValueError("no")

    monkeypatch.setattr(package_bundles, "verify", fails)
    with pytest.raises(ValueError, match="no"):
        package_bundle(bundle, tmp_path / "dist")
    assert {path.name: path.read_bytes() for path in folder.parent.glob("*.zip")} == before
    assert (folder / "docs/README.md").read_bytes() == b"{}\n"
    assert {path.name for path in folder.parent.iterdir()} == {"toy_bundle", *before}


@pytest.mark.parametrize("name", ["LICENSE", "configs/inference.json", "custom_components/__init__.py"])
def test_a_file_that_is_missing_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(ValueError, match=f"toy_bundle lacks {name}"):
        packaged_files(bundle)


@pytest.mark.parametrize("dist", [".", "toy_bundle", "toy_bundle/dist"])
def test_a_package_never_overwrites_a_bundle(bundle, dist, verified):
    with pytest.raises(ValueError, match=r"would overwrite a bundle.*--dist"):
        package_bundle(bundle, bundle.parent / dist)
    assert (bundle / "custom_components").is_symlink()
    assert not (bundle / "dist").exists()


def test_a_package_never_overwrites_its_source(bundle, tmp_path, verified):
    """Be it a package itself, without a link."""
    folder = package_bundle(bundle, tmp_path / "dist")
    before = names_in(folder)
    with pytest.raises(ValueError, match="would overwrite a bundle"):
        package_bundle(folder, folder.parent)
    assert names_in(folder) == before


def test_a_figure_above_the_limit_is_refused(bundle):
    write(bundle / "docs/figures/a.png", b"p" * LARGEST_FILE_BYTES)
    assert "docs/figures/a.png" in packaged_files(bundle)
    write(bundle / "docs/figures/a.png", b"p" * (LARGEST_FILE_BYTES + 1))
    with pytest.raises(ValueError, match=r"a\.png has 1,048,577 bytes, .* accepts at most 1,048,576. Make it smaller"):
        packaged_files(bundle)


def test_weights_up_to_the_limit_are_packaged_and_larger_ones_have_to_be_uploaded(bundle):
    give_weights(bundle, LARGEST_WEIGHTS_BYTES)
    assert WEIGHTS in packaged_files(bundle)
    give_weights(bundle, LARGEST_WEIGHTS_BYTES + 1)
    with pytest.raises(ValueError, match=f"{WEIGHTS} has 25,000,001 bytes.*Upload it and name it in {DOWNLOADS}"):
        packaged_files(bundle)


def test_uploaded_weights_are_listed_and_not_packaged(bundle):
    give_weights(bundle, 5, hash_val=hashlib.sha256(b"wwwww").hexdigest())
    files = packaged_files(bundle)
    assert DOWNLOADS in files
    assert WEIGHTS not in files


def test_other_weights_than_the_uploaded_ones_are_reported(bundle):
    give_weights(bundle, 5, hash_val=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(ValueError, match=r"model.pt has sha256 [0-9a-f]{64}, large_files.yml says .* Upload this file"):
        packaged_files(bundle)


def test_a_download_without_url_or_hash_is_refused(bundle):
    give_weights(bundle, 5, url="", hash_val="")
    with pytest.raises(ValueError, match=f"an entry of {DOWNLOADS} has no hash_val, url"):
        packaged_files(bundle)


@pytest.mark.slow
@needs_schema
@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_with_a_tiny_network_is_packaged_by_the_command(name, tmp_path):
    bundle = tiny(name, tmp_path)
    for weights in (WEIGHTS, CARD):  # of the full size
        (bundle / weights).unlink(missing_ok=True)
    command = [str(ROOT / "tools/package_bundles.py"), str(bundle), "--dist", "dist", "--schema", str(SCHEMA)]
    done = run(command, tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{name}: no weights: verified with random ones\n")
    assert [line for line in done.stdout.splitlines() if line.endswith(": ok")] == [
        f"{name}: {check.__name__}: ok" for check in CHECKS
    ]
    assert names_in(tmp_path / "dist" / name) == names_in(bundle)
    assert not (tmp_path / "dist" / name / WEIGHTS).exists()


@pytest.mark.slow
@needs_schema
def test_a_bundle_that_fails_is_not_packaged_and_the_command_says_why(tmp_path):
    bundle = tiny(SEG, tmp_path)
    write(bundle / WEIGHTS, b"no weights")
    command = [str(ROOT / "tools/package_bundles.py"), str(bundle), "--dist", "dist", "--schema", str(SCHEMA)]
    done = run(command, tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert f"{SEG} is not packaged because its checks failed" in done.stderr
    assert f"{SEG}: torchscript: FAILED: UnpicklingError" in done.stderr
    assert f"{SEG}: network: ok" in done.stderr
    assert list((tmp_path / "dist").iterdir()) == []
