"""Figures of a training run: loss and Dice over epochs from TensorBoard, and overlays of some evaluated cases.

python docs/draw_seg_run.py --tensorboard_dir DIR --eval_dir DIR --cases 065,071,075 --output_dir DIR
"""

from pathlib import Path

import fire
import matplotlib.pyplot as plt
from custom_components.data.atomic import atomic_path
from PIL import Image, ImageDraw, ImageFont
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def scalars(tensorboard_dir: str, tag: str) -> tuple[list[int], list[float]]:
    """Steps and values of a scalar; of an epoch that was run twice (resumed) the last."""
    events: dict[int, float] = {}
    for file in sorted(Path(tensorboard_dir).glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime):
        accumulator = EventAccumulator(str(file), size_guidance={"scalars": 0})
        accumulator.Reload()
        if tag in accumulator.Tags()["scalars"]:
            events |= {event.step: event.value for event in accumulator.Scalars(tag)}
    steps = sorted(events)
    return steps, [events[step] for step in steps]


def draw_curves(tensorboard_dir: str, path: Path) -> None:
    """Training loss by iteration (mean of each epoch's share) above, validation Dice by epoch below."""
    iterations, losses = scalars(tensorboard_dir, "train_loss")
    epochs, dice = scalars(tensorboard_dir, "val_mean_dice")
    per_epoch = len(iterations) // len(epochs)
    means = [sum(losses[k * per_epoch : (k + 1) * per_epoch]) / per_epoch for k in range(len(epochs))]
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
    above.plot([(k + 1) / per_epoch for k in range(len(losses))], losses, color="0.8", linewidth=0.8, label="iteration")
    above.plot([0.5 + k for k in range(len(means))], means, color="C0", label="epoch mean")
    above.set(ylabel="cross-entropy", yscale="log")
    above.legend()
    below.plot(epochs, dice, color="C2", marker=".")
    below.set(ylabel="mean lesion Dice,\nleft-out slices", xlabel="epoch", ylim=(0, None))
    for axes in (above, below):
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_cases(eval_dir: str, cases: list[str], path: Path, width: int = 800) -> None:
    """Overlays of cases, one below the other, each under its name."""
    pictures = []
    for case in cases:
        picture = Image.open(sorted(Path(eval_dir, case).glob("*_overlay_*.png"))[0]).convert("RGB")
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, 0, picture.width, 26), fill="black")
        draw.text((8, 4), f"case {case}", font=ImageFont.load_default(16), fill="white")
        pictures.append(picture.resize((width, picture.height * width // picture.width), Image.Resampling.LANCZOS))
    sheet = Image.new("RGB", (width, sum(picture.height for picture in pictures)))
    for k, picture in enumerate(pictures):
        sheet.paste(picture, (0, sum(above.height for above in pictures[:k])))
    with atomic_path(path) as temporary:
        sheet.save(temporary, optimize=True)


def main(tensorboard_dir: str, eval_dir: str, cases: str | tuple[int, ...], output_dir: str) -> None:
    """Draw ``training.png`` and ``slices.png``."""
    names = cases.split(",") if isinstance(cases, str) else [f"{case:03d}" for case in cases]
    draw_curves(tensorboard_dir, Path(output_dir) / "training.png")
    draw_cases(eval_dir, names, Path(output_dir) / "slices.png")


if __name__ == "__main__":
    fire.Fire(main)
