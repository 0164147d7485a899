"""Overlays of evaluated cases, one below the other, each under its name and its Dice.

python docs/draw_cases.py PNG CASE_FOLDER ... [--width 800]

Each CASE_FOLDER is one that covid_seg_bundle's evaluation wrote, such as eval/065, beside its per_case.csv.
"""

import csv
import math
from pathlib import Path

import fire
from custom_components.files.atomic import atomic_path
from PIL import Image, ImageDraw, ImageFont

SHORT = {"ground_glass": "ground-glass", "consolidation": "consolidation", "pleural_effusion": "effusion"}
TITLE = 26  # pixels


def title(case: Path) -> str:
    """The case, and the Dice of the classes that it has or is given."""
    with (case.parent / "per_case.csv").open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["case_id"] == case.name)
    dice = {short: float(row[f"dice_{name}"] or "nan") for name, short in SHORT.items()}
    scores = ", ".join(f"{short} {value:.2f}" for short, value in dice.items() if not math.isnan(value))
    return f"case {case.name}   Dice: {scores or 'no lesion in truth or prediction'}"


def main(png: str, *cases: str, width: int = 800) -> None:
    """Draw them."""
    pictures = []
    for case in map(Path, cases):
        picture = Image.open(sorted(case.glob("*_overlay_*.png"))[0]).convert("RGB")
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, 0, picture.width, TITLE), fill="black")
        draw.text((8, 4), title(case), font=ImageFont.load_default(16), fill="white")
        pictures.append(picture.resize((width, picture.height * width // picture.width), Image.Resampling.LANCZOS))
    sheet = Image.new("RGB", (width, sum(picture.height for picture in pictures)))
    for k, picture in enumerate(pictures):
        sheet.paste(picture, (0, sum(above.height for above in pictures[:k])))
    with atomic_path(png) as temporary:
        sheet.save(temporary, optimize=True)


if __name__ == "__main__":
    fire.Fire(main)
