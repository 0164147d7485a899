"""Stands in for ``diagnose``: the same arguments, events and folders, but results copied from a template.

    python standin.py TEMPLATE SOURCE --output_dir OUTPUT --progress [options]

The content of an uploaded file says what happens: ``hang`` (until a signal), ``stubborn`` (the same, and SIGTERM is
ignored), ``fail``, ``crash``.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

STAGES = ("read", "lungs and infection", "lesion classes", "write report", "write viewer")


def tell(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def scans(source: Path) -> dict[str, bytes]:
    """Content by case: each NIfTI file, and each folder with DICOM files."""
    found = {path.name.split(".nii")[0]: path.read_bytes() for path in sorted(source.glob("*.nii*"))}
    for folder in sorted({path.parent for path in source.rglob("*.dcm")}):
        content = b"".join(path.read_bytes() for path in sorted(folder.glob("*.dcm")))
        found[f"1.2.{int(hashlib.sha256(content).hexdigest()[:12], 16)}"] = content
    return found


def main(template: Path, source: Path, output_dir: Path) -> int:
    cases, finished, failed = scans(source), [], {}
    tell(scans=len(cases))
    for number, (case, content) in enumerate(cases.items(), start=1):
        if (output_dir / case / "report.json").is_file():
            finished.append(case)
            continue
        unfinished = output_dir / f"{case}.incomplete"
        unfinished.mkdir(exist_ok=True)
        (unfinished / "incomplete.json").write_text("{}", encoding="utf-8")
        if b"stubborn" in content:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell(case=case, number=number)
        for stage in STAGES:
            tell(stage=stage)
            time.sleep(float(os.environ.get("STANDIN_SECONDS", "0")))
            if b"hang" in content or b"stubborn" in content:
                time.sleep(600)
        if b"crash" in content:
            sys.stderr.write("INFO Case x: lungs\nERROR The disk of the output folder is full.\n")
            return 1
        if b"fail" in content:
            failed[case] = "No plausible lungs were found. Give a chest CT."
            continue
        (unfinished / "incomplete.json").unlink()
        shutil.copytree(template, unfinished, dirs_exist_ok=True)
        report = json.loads((unfinished / "report.json").read_text(encoding="utf-8"))
        (unfinished / "report.json").write_text(json.dumps({**report, "case_id": case}), encoding="utf-8")
        (unfinished / f"{case}_lungs.nii.gz").write_bytes(b"lungs")
        unfinished.replace(output_dir / case)
        finished.append(case)
    tell(finished=finished, failed=failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[sys.argv.index("--output_dir") + 1])))
