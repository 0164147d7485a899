"""Every command of the READMEs runs as it is written, on tiny phantoms and tiny networks."""

import csv
import importlib
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from custom_components import phantom

ROOT = Path(__file__).resolve().parents[1]
SEG, CAP = "covid_seg_bundle", "covid_cap_bundle"
READMES = (
    *("README.md", f"{SEG}/docs/README.md", f"{CAP}/docs/README.md"),
    *("docs/data.md", "docs/diagnose.md", "docs/public_data.md"),
)
FOLD = {"--num_folds": "4", "--fold": "0"}
SHORT = {"--epochs": "1", "--num_workers": "0"}
NETWORK = {
    SEG: {"--spatial_size": "[32, 32]", "--network_def#features": "[8, 16]"},
    CAP: {
        **{"--grid": "[16, 32, 32]", "--block_inplanes": "[4, 4, 4, 4]", "--layers": "[1, 1, 1, 1]"},
        "--no_max_pool": "true",
    },
}
"""The networks and their grids, tiny; the same for training and what follows."""

SEGMENT = {"spacing_mm": "[7, 7, 12]", "patch_size": "[32, 32, 16]"}
VBNET = {"features": "[4, 8]", "convolutions": "[1]", "bottleneck_from": "8"}
"""Those of VB-Net."""

SCANS = {"--shape": "[56, 56, 24]", "--spacing_mm": "[6.7, 6.7, 11.7]"}
"""Phantoms, small, but not too coarse for the lungs."""

TRAINING = {SEG: {**SHORT, **FOLD, "--draws_per_image": "1"}, CAP: {**SHORT, "--batch_size": "4", "--fold": "0"}}
EVALUATION = {SEG: FOLD, CAP: {"--num_workers": "0", "--fold": "0"}}
CONVERTERS = (
    "convert_cc_ccii",
    "convert_covid19_20",
    "convert_covid20_slices",
    "convert_covid20_volumes",
    "convert_ct_excerpts",
    "convert_jpg",
    "convert_lctsc",
    "convert_medseg",
    "convert_medseg_volumes",
    "convert_mosmed",
    "convert_plethora",
    "convert_spgc_covid",
    "convert_stoic2021",
)
"""Verbs that read published files, which are not here; tests/data and tests/datasets run them on files of that form."""


def commands(readme):
    """Bundle whose folder is the current one, and command, of the fenced blocks' lines that start a program.

    A block that names its language is none of the shell.
    """
    own = next((bundle for bundle in (SEG, CAP) if readme.startswith(bundle)), "")
    blocks = re.findall(r"^```(.*?)\n(.*?)^```$", (ROOT / readme).read_text(encoding="utf-8"), re.S | re.M)
    for block in (block for language, block in blocks if not language):
        bundle = own
        for line in (line.split("  #")[0].strip() for line in block.splitlines()):
            if line.startswith("cd "):
                bundle = line.removeprefix("cd ")
            elif re.match(r"(python|torchrun)\b", line):
                yield bundle, line


def all_commands(word):
    found = dict.fromkeys(pair for readme in READMES for pair in commands(readme) if word in pair[1])
    return sorted(found, key=lambda pair: " training " not in pair[1])  # what is trained first is then applied


def with_options(arguments, options):
    """Arguments with options set, replacing those that stand there with a dashed name."""
    for name, value in options.items():
        if name in arguments:
            arguments[arguments.index(name) + 1] = value
        else:
            arguments += [name, value]
    return arguments


def run_module(module, arguments, folder):
    """`python -m module` within this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(sys, "argv", [f"{importlib.import_module(module).__path__[0]}/__main__.py", *arguments])
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
        except SystemExit as ended:
            if ended.code:
                raise


def run_bundle(line, root, bundle, options=None):
    """Run a line that begins with `python -m monai.bundle run`."""
    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "monai.bundle", "run"]
    run_module(
        "monai.bundle", with_options(words[3:], {**small_options(line, root, bundle), **(options or {})}), root / bundle
    )


def small_options(line, root, bundle):
    if "configs/segment_evaluate.yaml" in line and "models/vbnet.pt" in line:  # a small network instead
        return {"--ckpt_path": "models/segment/model.pt"}
    if "models/vbnet.pt" in line:  # the weights that are shipped have their own grid
        return NETWORK[CAP]
    if "configs/segment_" in line:
        options = {f"--{key}": value for key, value in SEGMENT.items()}
        options |= {f"--network_def#{key}": value for key, value in VBNET.items()}
        short = {**SHORT, "--draw_size": "[40, 40, 16]", "--draws_per_scan": "1", "--val_interval": "1"}
        return {**options, **(short if " training " in line else {})}
    if " training " in line:
        return {**NETWORK[bundle], **TRAINING[bundle], "--ckpt_dir": str(root / "others" / str(abs(hash(line))))}
    return {**NETWORK[bundle], **(EVALUATION[bundle] if " evaluating " in line else {})}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Both bundles' folders, a data set and a scan for each, trained checkpoints where the bundles look for them."""
    root = tmp_path_factory.mktemp("readme")
    for bundle in (SEG, CAP):
        shutil.copytree(ROOT / bundle, root / bundle, symlinks=False, ignore=shutil.ignore_patterns("models", "cache"))
    phantom.write_slice_dataset(root / SEG / "data", num_slices=10, size=(40, 40), seed=1, num_patients=5)
    train = "python -m monai.bundle run training --config_file {} --dataset_dir data"
    run_bundle(train.format("configs/train.yaml"), root, SEG, {"--ckpt_dir": "models/trained"})
    for name in ("model.pt", "model.json"):
        shutil.copy(root / SEG / "models/trained" / name, root / SEG / "models")
    make_classifier_data(root / CAP / "data")
    run_module("custom_components", ["build_datalist", "--dataset_dir", "data", "--num_folds", "2"], root / CAP)
    shards = ["write_shards", "data", "shards", "--grid", NETWORK[CAP]["--grid"]]
    run_module("custom_components", shards, root / CAP)
    segment_train = train.format("configs/segment_train.yaml")
    run_bundle(segment_train, root, CAP, {"--ckpt_dir": "models/segment", "--epochs": "4"})
    shutil.copy(ROOT / CAP / "models/vbnet.pt", root / CAP / "models")
    for overlay, name in (
        ("'configs/recipes/size_balanced.yaml'", "size_balanced"),
        ("'configs/networks/plain.yaml'", "plain"),
        ("", "uniform"),
    ):
        line = train.format(f"\"['configs/train.yaml', {overlay}]\"")
        run_bundle(line, root, CAP, {"--ckpt_dir": f"models/{name}"})
    phantom.write_scan_dataset(root / CAP / "three", 8, (56, 56, 24), (6.7, 6.7, 11.7), num_folds=2, num_normals=4)
    line = train.format("\"['configs/train.yaml', 'configs/recipes/three_classes.yaml']\"").replace(" data", " three")
    run_bundle(line, root, CAP, {"--ckpt_dir": "models/three_classes"})
    line = train.format("\"['configs/evaluate.yaml', 'configs/ensemble.yaml']\"").replace("training", "evaluating")
    run_bundle(line, root, CAP)
    return root


def make_classifier_data(folder):
    """Scans with masks and a table of their labels, without datalist; small, but not too coarse for the lungs."""
    phantom.write_scan_dataset(folder, num_scans=8, shape=(56, 56, 24), spacing_mm=(6.7, 6.7, 11.7), num_folds=2)
    cases = json.loads((folder / "datalist.json").read_text(encoding="utf-8"))["cases"]
    (folder / "datalist.json").unlink()
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ("case_id", "patient_id", "label"), extrasaction="ignore")
        table.writeheader()
        table.writerows(cases)


def in_place(line, root, bundle):
    """The line with its placeholders filled in."""
    scan = {SEG: "images/003.png", CAP: "images/covid_000.nii.gz"}.get(bundle, "")
    data = root / bundle / "data"
    places = {"/path/to/scan": data / scan, "/path/to/results": root / bundle / "out"}
    places |= dict.fromkeys((f"/path/to/{name}" for name in ("data", "train", "test", "converted", "both")), data)
    places["/path/to/three"] = root / bundle / "three"
    places["/path/to/shards"] = root / bundle / "shards"
    places["/path/to/first/model.pt"] = root / bundle / "models/segment/model.pt"
    return shlex.join([str(places.get(word, word)) for word in shlex.split(line)])


def test_every_command_of_the_readmes_is_among_those_that_run():
    for readme in READMES:
        lines = (ROOT / readme).read_text(encoding="utf-8").splitlines()
        written = {line.split("  #")[0].strip() for line in lines if re.match(r"(python|torchrun)\b.* -m ", line)}
        assert written <= {line for _, line in commands(readme)}


def bundle_commands():
    """All of them; two processes take a minute."""
    pairs = all_commands("monai.bundle")
    return [pytest.param(*pair, marks=pytest.mark.slow if pair[1].startswith("torchrun") else ()) for pair in pairs]


@pytest.mark.parametrize(("bundle", "line"), bundle_commands())
def test_a_bundle_command_of_the_readmes_runs_as_written(bundle, line, root, monkeypatch):
    line = in_place(line, root, bundle)
    if "_export " in line:
        if "onnx_export" in line:
            for name in ("onnx", "onnxscript"):
                pytest.importorskip(name, reason=f"needs {name}: pip install onnx onnxscript")
        run_module("monai.bundle", [*shlex.split(line)[3:], *sum(NETWORK[bundle].items(), ())], root / bundle)
        assert (root / bundle / shlex.split(line)[-1]).is_file()
        return
    if line.startswith("torchrun"):
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        words = with_options(shlex.split(line)[1:], small_options(line, root, bundle))
        command = [sys.executable, "-m", "torch.distributed.run", *words]
        subprocess.run(command, cwd=root / bundle, check=True, timeout=400)
        return
    run_bundle(line, root, bundle)
    if "inference" in line:
        results = {SEG: {"003_seg.nii.gz", "003_lesions.json"}, CAP: {"covid_000_diagnosis.json"}}
        assert {path.name for path in (root / bundle / "out").glob("*/*")} >= results[bundle]


def package_commands():
    """Each command once, in the first bundle that has it: it is the same in the README of both."""
    found = {line: (bundle, line) for bundle, line in reversed(all_commands("custom_components"))}
    pairs = [pair for line, pair in reversed(found.items()) if line.split()[3] not in CONVERTERS]
    masks = [pair for pair in pairs if pair[1].split()[3] == "segment_masks"]  # each takes a minute
    return [pytest.param(*pair, marks=pytest.mark.slow if pair in masks[1:] else ()) for pair in pairs]


@pytest.mark.parametrize(("bundle", "line"), package_commands())
def test_a_command_of_the_package_in_the_readmes_runs_as_written(bundle, line, root, tmp_path, capsys):
    words = shlex.split(line)[3:]
    if words[0] == "convert_covid_ct_md":
        scan = phantom.make_volume(shape=(64, 64, 20), spacing_mm=(5.9, 5.9, 14.0))
        phantom.write_dicom(scan, tmp_path / "COVID-CT-MD/P001")
    elif words[0] == "build_datalist":
        make_classifier_data(tmp_path / "data")
        here = [str(tmp_path / "data") if word == "/path/to/data" else word for word in words]
        words = with_options(here, {"--num_folds": "2"})
    elif words[0] == "check_datalist":
        sets = {"/path/to/data": "data", "covid_ct_md_masks": "data", "three_masks": "three"}
        words = [str(root / CAP / sets[word]) if word in sets else word for word in words]
    elif words[0] == "segment_masks":
        normals = 2 if "--normals" in words else 0
        phantom.write_scan_dataset(
            tmp_path / "data", 4, (56, 56, 24), (6.7, 6.7, 11.7), num_folds=2, num_normals=normals
        )
        words = [words[0], str(tmp_path / "data"), str(tmp_path / "out"), *words[3:]]
        words = with_options(words, {"--infection_by": "vbnet"})
    elif words[0] == "take_corrections":
        volumes = phantom.write_volume_dataset(
            tmp_path / "volumes", num_volumes=2, shape=(48, 48, 20), spacing_mm=(8, 8, 14)
        )
        here = {"/path/to/corrections": "masks", "/path/to/scans": "images"}
        words = [str(volumes / here[word]) if word in here else word for word in words[:3]] + [str(tmp_path / "out")]
    elif words[0] == "write_shards":
        words = with_options([words[0], str(root / CAP / "data"), str(tmp_path / "shards")], {"--grid": "[16, 32, 32]"})
    elif words[0] == "phantom_scans":
        here = [str(tmp_path / "new") if word.startswith("/path/to/") else word for word in words]
        words = with_options(here, {"--num_scans": "4", "--num_folds": "2", **SCANS})
    elif words[0] == "diagnose":
        phantom.write_dicom(phantom.make_volume(shape=(64, 64, 30), spacing_mm=(5.9, 5.9, 9.5)), tmp_path / "study")
        here = {"/path/to/results": str(tmp_path / "out")}
        here |= dict.fromkeys(("/path/to/scan", "/path/to/covid_ct_md"), str(tmp_path / "study"))
        if "--cap_weights" in words:  # of the full size, which nobody has here
            place = words.index("--cap_weights")
            words[place : place + 2] = []
        words = [here.get(word, word) for word in words]
    elif words[0] == "study":  # tests/study runs whole ones
        others = phantom.write_scan_dataset(tmp_path / "test", 4, (56, 56, 24), (6.7, 6.7, 11.7), num_folds=2, seed=77)
        slices = phantom.write_slice_dataset(tmp_path / "slices", num_slices=10, size=(40, 40), num_patients=10)
        here = {
            "/path/to/data": root / bundle / "data",
            "/path/to/train": root / CAP / "data",
            "/path/to/test": others,
            "/path/to/study": tmp_path / "study",
            "covid_ct_md_masks": root / CAP / "data",
            "spgc_masks": others,
            "medseg100": slices,
        }
        words = [*(str(here.get(word, word)) for word in words if word != "--dry_run"), "--dry_run"]
    elif words[0] == "diagnosis_table":
        evaluation = "python -m monai.bundle run evaluating --config_file configs/evaluate.yaml --dataset_dir data"
        run_bundle(evaluation, root, bundle)
    is_table = words[0] == "diagnosis_table"
    run_module("custom_components", words, root / bundle if is_table else tmp_path)
    printed = capsys.readouterr().out
    assert ("| all | uniform |" in printed) == is_table
    assert ("runs, 0 finished" in printed) == (words[0] == "study")
    if words[0] == "diagnose":
        assert {path.name for path in tmp_path.glob("out/*/report.*")} == {"report.html", "report.json"}


def test_the_make_verbs_of_the_readme_exist_and_bare_make_lists_them():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    named = set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8") + listed))
    for verb in named:
        subprocess.run(["make", "-n", verb], cwd=ROOT, capture_output=True, check=True)
    assert {"demo", "test", "check", "bench"} <= named


def test_the_demo_runs_from_phantom_to_report(tmp_path, capsys):
    """The commands of the recipe, on few small scans and for one epoch, within this process."""
    for bundle in (SEG, CAP):
        (tmp_path / bundle).symlink_to(ROOT / bundle)
    small = ["DEMO_SLICES=20", "DEMO_EPOCHS=1", "DEMO_SCANS=16", "DEMO_SCAN_EPOCHS=1"]
    (tmp_path / "none").touch()
    recipe = [
        "make",
        "-n",
        "--no-print-directory",
        "-f",
        str(ROOT / "Makefile"),
        "-o",
        "none",
        "demo",
        "STAMP=none",
        "BIN=bin",
        *small,
    ]
    shown = subprocess.run(recipe, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True).stdout
    lines = [line for line in shown.replace("\\\n", " ").splitlines() if not re.match(r"echo |rm -rf demo$", line)]
    assert len(lines) == 13
    for line in lines:
        python, option, module, verb, *words = shlex.split(line)
        assert (python, option) == ("bin/python", "-m")
        options = {"phantom_scans": SCANS, "phantom_dicom": SCANS}.get(verb, {})
        if "training" in words:
            options = NETWORK[SEG] if SEG in words else {**NETWORK[CAP], "--norm_batches": "2"}
        run_module(module, [verb, *with_options(words, options)], tmp_path)
    printed = capsys.readouterr().out
    assert "| pleural effusion |" in printed
    assert "| all | ensemble |" in printed
    assert (tmp_path / "demo/results/scan/scan_seg.nii.gz").is_file()
    assert list((tmp_path / "demo/eval").glob("*/*_overlay_*.png"))
    assert len(list((tmp_path / "demo/diagnosis").glob("*/*_attention.png"))) == 4


def test_links_of_the_readmes_lead_somewhere():
    for readme in READMES:
        folder = (ROOT / readme).parent
        for target in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / readme).read_text(encoding="utf-8")):
            assert (folder / target.split("#")[0]).exists(), f"{readme} links to {target}"
