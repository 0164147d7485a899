"""Serve the bundles with MONAI Label for 3D Slicer and OHIF, on this computer only.

    python -m tools.monai_label --studies /path/to/scans [--app label_app] [--port 8000]
        [--diagnosed /path/to/results] [BUNDLE ...]

The program creates `<app>/monaibundle`, MONAI Label's unmodified app with a copy of each bundle, and starts the server.
Training from the viewer overwrites the weights of the copy, never those of the bundle; the next start keeps them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from custom_components.files.atomic import writable_folder
from custom_components.weights.model_card import SETTINGS, network_arguments, read_card
from monai.bundle import ConfigParser

from tools.label_disagreement import RESULTS
from tools.package_bundles import BUNDLES, CARD, FOLDERS, ROOT, WEIGHTS, copy_files, files_below

APP = "monaibundle"
# The server asks for no password and reads any file that a request names, so no other computer may reach it.
HOST = "127.0.0.1"
# Copied next to the app: the server with a guard, since it runs code that a request names, and with one more strategy.
SERVER = ("label_server.py", "label_guard.py", "label_disagreement.py")
# The classifier's label is a class, but MONAI Label trains on masks. Without this file it offers no training.
UNTRAINABLE = {"covid_cap_bundle": "configs/train.yaml"}
# In MONAI Label's copy of the bundle, a training writes weights where MONAI Label looks for them.
TRAINING, OWN_FOLDER, LABELS_FOLDER = "configs/train.yaml", "'/models/trained'", "'/models'"


def prepare_app(folder: Path, bundles: Sequence[Path], python: Path) -> Path:
    """Create the app, or update the bundles in it; existing weights are kept.

    Args:
        folder: parent folder of `monaibundle`.
        bundles: folders of the bundles with weights; only read.
        python: interpreter of the environment of MONAI Label.

    Returns:
        The app.

    Raises:
        ValueError: when a bundle has no weights, or the environment does not exist.
    """
    for bundle in bundles:
        check_bundle(bundle)
    check_environment(python)
    app = writable_folder(folder).resolve() / APP
    if not (app / "main.py").is_file():
        fetch_app(app, python)
    for name in SERVER:
        shutil.copyfile(ROOT / "tools" / name, app / name)
    for bundle in bundles:
        place_bundle(bundle, app / "model" / bundle.name)
    return app


def check_bundle(bundle: Path) -> None:
    """Check that a folder is a bundle with weights.

    Raises:
        ValueError: naming it and what to do.
    """
    if not (bundle / "configs" / "inference.json").is_file():
        raise ValueError(f"{bundle} is not a bundle: it has no configs/inference.json. Expected its folder.")
    if not (bundle / WEIGHTS).is_file():
        name = bundle.name
        others = [other for other in BUNDLES if other != name]
        raise ValueError(
            f"{name} has no weights: {bundle / WEIGHTS} is missing. Train them as described in {name}/docs/README.md, "
            f"or copy your model.pt there. To serve the other bundle alone: "
            f"make label BUNDLES={others[0]} STUDIES=..."
        )


def check_environment(python: Path) -> None:
    """Check that an interpreter exists.

    Raises:
        ValueError: says how to create the environment.
    """
    if not python.is_file():
        raise ValueError(f"{python} does not exist: MONAI Label is not installed. Install it with: make label-setup")


def fetch_app(app: Path, python: Path) -> None:
    """Copy the unmodified app from the installed MONAI Label."""
    command = [python, "-m", "monailabel.main", "apps", "--download", "--name", app.name, "--output", app.parent]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def place_bundle(bundle: Path, target: Path) -> None:
    """Copy a bundle into the app: code and configs are replaced, existing weights are kept.

    Args:
        bundle: folder of the bundle.
        target: `<app>/model/<name>`.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as scratch:
        copy_files(files_of(bundle), Path(scratch))
        _train_into_models(Path(scratch) / TRAINING)
        for name in FOLDERS:
            shutil.rmtree(target / name, ignore_errors=True)
            (Path(scratch) / name).rename(target / name)
    if not (target / WEIGHTS).is_file():
        copy_files({name: bundle / name for name in (WEIGHTS, CARD) if (bundle / name).is_file()}, target)
    _train_from(target / WEIGHTS, target / TRAINING)


def _train_into_models(config: Path) -> None:
    """Let a training write weights where MONAI Label looks for them."""
    if config.is_file():
        text = config.read_text(encoding="utf-8").replace(OWN_FOLDER, LABELS_FOLDER)
        config.write_text(text.replace("replace_weights: false", "replace_weights: true"), encoding="utf-8")


def _train_from(weights: Path, config: Path) -> None:
    """Let a training start from weights, with the network and preprocessing of their card."""
    card = read_card(weights)
    if not card or not config.is_file():
        return
    content = ConfigParser.load_config_file(str(config))
    content["network_def"].update(network_arguments(card))
    content.update({name: value for name, value in card[SETTINGS].items() if name in content})
    ConfigParser.export_config_file(content, str(config), fmt="yaml", sort_keys=False)


def files_of(bundle: Path) -> dict[str, Path]:
    """Code, configs and docs of a bundle: name in the copy -> file here; links are followed."""
    files = {path.relative_to(bundle).as_posix(): path for name in FOLDERS for path in files_below(bundle / name)}
    files.pop(UNTRAINABLE.get(bundle.name, ""), None)
    return files


def keeps_other_weights(bundle: Path, app: Path) -> bool:
    """Whether the app's weights differ from those of the bundle: trained in the app, or older."""
    return (bundle / WEIGHTS).read_bytes() != (app / "model" / bundle.name / WEIGHTS).read_bytes()


def check_studies(studies: str) -> str:
    """Check the studies: an existing folder, or the address of a DICOMweb server.

    Raises:
        ValueError: when the folder does not exist; MONAI Label would create an empty one.
    """
    if studies.startswith(("http://", "https://")):
        return studies
    if not Path(studies).is_dir():
        raise ValueError(
            f"STUDIES is {studies!r}. Expected a folder of NIfTI volumes, or the address of a DICOMweb server."
        )
    return str(Path(studies).resolve())


def check_diagnosed(folder: Path | None) -> None:
    """Check that the output folder of `diagnose`, if given, has finished cases.

    Raises:
        ValueError: when it has none.
    """
    if folder is not None and not any(folder.glob("*/report.json")):
        raise ValueError(
            f"DIAGNOSED is {str(folder)!r}, which has no reports. Expected the output folder of diagnose of the same "
            "scans."
        )


def server_command(python: Path, app: Path, names: Sequence[str], studies: str, port: int) -> list[str]:
    """The command line of MONAI Label's server."""
    conf = {"models": ",".join(names), "zoo_source": "local", "sam2": "false"}
    pairs = [word for pair in conf.items() for word in ("--conf", *pair)]
    where = ["--app", str(app), "--studies", studies, "--host", HOST, "--port", str(port)]
    where += ["--uvicorn_app", "label_server:app"]
    return [str(python), "-m", "monailabel.main", "start_server", *where, *pairs]


def guide(command: Sequence[str], port: int, kept: Mapping[str, Path]) -> str:
    """Text for the user: what to open, and which weights are used.

    Args:
        command: command of the server.
        port: port of the server.
        kept: by bundle, weights of the app that differ from the bundle's.
    """
    url = f"http://{HOST}:{port}"
    notes = [
        f"{name}: the app keeps its own weights; to use the bundle's, delete {path}" for name, path in kept.items()
    ]
    lines = [
        f"MONAI Label: {' '.join(command)}",
        f"3D Slicer: module MONAI Label (extension MONAILabel), MONAI Label server: {url}",
        f"OHIF, when the studies are a DICOMweb server: {url}/ohif/",
        *notes,
        "Requests that name code or leave a folder are refused (docs/security.md). There is no password: do not open "
        "the port to other computers.",
        "Research use only. Ctrl-C stops the server.",
    ]
    return "\n".join(lines) + "\n"


def serve(given: argparse.Namespace) -> NoReturn:
    """Prepare the app and become the server: signals then reach it directly.

    Raises:
        ValueError: when the studies, a bundle, its weights or the environment do not exist.
    """
    studies = check_studies(given.studies)
    check_diagnosed(given.diagnosed)
    python = given.python.absolute()  # not resolved, because an environment's interpreter is a link
    bundles = [bundle.resolve() for bundle in given.bundles]
    app = prepare_app(given.app, bundles, python)
    command = server_command(python, app, [bundle.name for bundle in bundles], studies, given.port)
    kept = {b.name: app / "model" / b.name / WEIGHTS for b in bundles if keeps_other_weights(b, app)}
    sys.stdout.write(guide(command, given.port, kept))
    sys.stdout.flush()
    if given.diagnosed:
        os.environ[RESULTS] = str(given.diagnosed.resolve())
    os.chdir(app)
    os.execv(command[0], command)


def check(given: argparse.Namespace) -> None:
    """Check what :func:`serve` needs, except the environment.

    Raises:
        ValueError: when the studies, a bundle or its weights do not exist.
    """
    check_studies(given.studies)
    check_diagnosed(given.diagnosed)
    for bundle in given.bundles:
        check_bundle(bundle.resolve())


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Serve the bundles with MONAI Label.")
    parser.add_argument(
        "bundles", nargs="*", type=Path, default=[ROOT / name for name in BUNDLES], help="folders of the bundles"
    )
    parser.add_argument("--studies", required=True, help="folder of NIfTI volumes, or address of a DICOMweb server")
    parser.add_argument("--app", type=Path, default=ROOT / "label_app", help="folder that gets MONAI Label's app")
    parser.add_argument(
        "--python", type=Path, default=ROOT / ".venv-label" / "bin" / "python", help="MONAI Label's interpreter"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--diagnosed", type=Path, help="output folder of diagnose of the same scans, for the strategy `disagreement`"
    )
    parser.add_argument("--check", action="store_true", help="only check that studies, bundles and weights exist")
    given = parser.parse_args(arguments)
    try:
        (check if given.check else serve)(given)
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
