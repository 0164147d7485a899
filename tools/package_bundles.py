"""Verify each bundle and write it as a folder and a zip that work without this repository.

    python tools/package_bundles.py [BUNDLE ...] [--dist dist] [--schema meta_schema.json]

The folder `dist/<name>` has the layout of MONAI's Model Zoo, and `dist/<name>_v<version>.zip` is the same as one file:
LICENSE, configs, docs, custom_components as a folder instead of a link, and the weights, or `large_files.yml` with
their download address. `check_package.py` verifies a copy in a separate process; bundles that fail are not written.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from hashlib import file_digest
from pathlib import Path

import yaml
from custom_components.files.atomic import atomic_path, writable_folder
from custom_components.weights.model_card import all_synthetic, read_card

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ("covid_cap_bundle", "covid_seg_bundle")
FOLDERS = ("configs", "docs", "custom_components")
WEIGHTS, CARD = "models/model.pt", "models/model.json"
PARTS_OF_WEIGHTS = ("models/vbnet.pt", "models/vbnet.json")  # of further networks that a bundle uses
DOWNLOADS = "large_files.yml"
DOWNLOAD_KEYS = {"path", "url", "hash_val", "hash_type"}
NECESSARY = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.json",
    "configs/train.yaml",
    "configs/evaluate.yaml",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
    "custom_components/__init__.py",
)
LARGEST_WEIGHTS_BYTES = 25 * 10**6  # limit of the Model Zoo; larger weights must be listed in large_files.yml
LARGEST_FILE_BYTES = 1024 * 1024  # limit of the Model Zoo for all other files
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # earliest time that a zip can store


def package_bundle(bundle: Path, dist: Path, schema: Path | None = None) -> Path:
    """Package one bundle: collect, copy, verify the copy, then put folder and zip in place.

    Args:
        bundle: folder of the bundle; only read.
        dist: folder that gets `<name>` and `<name>_v<version>.zip`; older ones are replaced.
        schema: MONAI's metadata schema; None downloads the one that the metadata name.

    Returns:
        The packaged folder.

    Raises:
        ValueError: when something is missing, too large, or does not pass the verification.
    """
    check_target(bundle, dist)
    files = packaged_files(bundle)
    version = json.loads(files["configs/metadata.json"].read_text(encoding="utf-8"))["version"]
    dist = writable_folder(dist).resolve()
    with tempfile.TemporaryDirectory(dir=dist, prefix=".partial-") as scratch:
        folder = Path(scratch) / "package" / bundle.name
        copy_files(files, folder)
        verify(folder, bundle / WEIGHTS, Path(scratch), schema)
        write_zip(folder, dist / f"{bundle.name}_v{version}.zip")
        return put_in_place(folder, dist / bundle.name, Path(scratch))


def check_target(bundle: Path, dist: Path) -> None:
    """Reject a target that would overwrite a bundle.

    Raises:
        ValueError: when `dist` is inside the bundle, or contains a bundle of this name instead of a package.
    """
    target = (dist / bundle.name).resolve()
    if target.is_relative_to(bundle.resolve()) or (target / "custom_components").is_symlink():
        raise ValueError(f"{target} would overwrite a bundle. Set --dist to another folder.")


def packaged_files(bundle: Path) -> dict[str, Path]:
    """Files of the package: name in the package -> file here; sorted.

    Links are followed; caches, hidden files and outputs of trainings are excluded.

    Raises:
        ValueError: when a necessary file is missing, or a file is too large for the Model Zoo.
    """
    single = ("LICENSE", WEIGHTS, CARD, *PARTS_OF_WEIGHTS, DOWNLOADS)
    files = {name: bundle / name for name in single if (bundle / name).is_file()}
    for folder in FOLDERS:
        files |= {path.relative_to(bundle).as_posix(): path for path in files_below(bundle / folder)}
    if missing := [name for name in NECESSARY if name not in files]:
        raise ValueError(f"{bundle.name} lacks {', '.join(missing)}. A package needs each of them.")
    if WEIGHTS in downloads_of(bundle):
        files.pop(WEIGHTS, None)
    check_sizes(bundle.name, files)
    return dict(sorted(files.items()))


def files_below(folder: Path) -> Iterator[Path]:
    """Files of a folder and of those in it, links followed, without caches and hidden ones."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(".") or path.name == "__pycache__" or path.suffix == ".pyc":
            continue
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def downloads_of(bundle: Path) -> dict[str, dict[str, str]]:
    """Entries of `large_files.yml` by path; none without that file.

    Raises:
        ValueError: when an entry is incomplete, or its hash differs from that of the local file.
    """
    listed = bundle / DOWNLOADS
    entries = yaml.safe_load(listed.read_text(encoding="utf-8"))["large_files"] if listed.is_file() else []
    for entry in entries:
        if missing := sorted(key for key in DOWNLOAD_KEYS if not entry.get(key)):
            raise ValueError(f"{bundle.name}: an entry of {DOWNLOADS} has no {', '.join(missing)}: {entry}.")
        check_hash(bundle.name, bundle / entry["path"], entry)
    return {entry["path"]: entry for entry in entries}


def check_hash(name: str, path: Path, entry: Mapping[str, str]) -> None:
    """Compare a local file with its entry in `large_files.yml`.

    Raises:
        ValueError: when the hashes differ.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        found = file_digest(file, entry["hash_type"]).hexdigest()
    if found != entry["hash_val"]:
        raise ValueError(
            f"{name}: {entry['path']} has {entry['hash_type']} {found}, {DOWNLOADS} says {entry['hash_val']}. "
            "Upload this file and correct its url and hash_val, or remove it here."
        )


def check_sizes(name: str, files: Mapping[str, Path]) -> None:
    """Reject files that are too large for the Model Zoo.

    Raises:
        ValueError: naming the file, its size and the limit.
    """
    for target, path in files.items():
        is_weights = target in (WEIGHTS, *PARTS_OF_WEIGHTS)
        size, limit = path.stat().st_size, LARGEST_WEIGHTS_BYTES if is_weights else LARGEST_FILE_BYTES
        remedy = f"Upload it and name it in {DOWNLOADS}" if is_weights else "Make it smaller"
        if size > limit:
            raise ValueError(f"{name}: {target} has {size:,} bytes, the Model Zoo accepts at most {limit:,}. {remedy}.")


def copy_files(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files into a new folder; links are replaced by their files."""
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def verify(folder: Path, weights: Path, scratch: Path, schema: Path | None) -> None:
    """Run `check_package.py` on a copy, with only this copy on the Python path and another working directory.

    Raises:
        ValueError: when a check fails, with the output of the checks.
    """
    copy, elsewhere = scratch / "verified" / folder.name, scratch / "elsewhere"
    shutil.copytree(folder, copy)
    elsewhere.mkdir()
    if weights.is_file():
        (copy / WEIGHTS).parent.mkdir(exist_ok=True)
        shutil.copyfile(weights, copy / WEIGHTS)
    command = [sys.executable, "-P", str(ROOT / "tools" / "check_package.py"), str(copy)]
    command += ["--schema", str(schema.resolve())] if schema else []
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        said = done.stdout if "FAILED" in done.stdout else done.stdout + done.stderr
        raise ValueError(f"{folder.name} is not packaged because its checks failed:\n{said}")
    sys.stdout.write(done.stdout)


def write_zip(folder: Path, path: Path) -> None:
    """Write the folder as a zip whose bytes depend only on the names and contents of the files."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if not file.is_file():
                continue
            entry = zipfile.ZipInfo(file.relative_to(folder.parent).as_posix(), ZIP_TIME)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            archive.writestr(entry, file.read_bytes())


def synthetic_weights(folder: Path) -> list[str]:
    """Weights of a package whose model card lists phantoms only."""
    return [name for name in (WEIGHTS, *PARTS_OF_WEIGHTS) if all_synthetic(read_card(folder / name))]


def put_in_place(folder: Path, target: Path, scratch: Path) -> Path:
    """Move the finished folder to its target, replacing an older one."""
    if target.exists():
        target.rename(scratch / "replaced")
    return folder.rename(target)


def main(arguments: list[str] | None = None) -> None:
    """Package the named bundles, or both."""
    parser = argparse.ArgumentParser(description="Package the bundles and verify the packages.")
    parser.add_argument(
        "bundles", nargs="*", type=Path, default=[ROOT / name for name in BUNDLES], help="their folders"
    )
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="folder to write to")
    parser.add_argument(
        "--schema",
        type=Path,
        default=os.environ.get("MONAI_META_SCHEMA"),
        help="copy of MONAI's metadata schema (or MONAI_META_SCHEMA); else it is downloaded",
    )
    given = parser.parse_args(arguments)
    for bundle in given.bundles:
        try:
            folder = package_bundle(bundle.resolve(), given.dist, given.schema)
        except ValueError as error:
            parser.exit(1, f"{error}\n")
        sys.stdout.write(f"{folder.name}: wrote {folder} and its zip\n")
        for weights in synthetic_weights(folder):
            sys.stdout.write(f"{folder.name}: WARNING: {weights} was trained on synthetic CT only: not for patients\n")


if __name__ == "__main__":
    main()
