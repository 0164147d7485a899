from pathlib import Path


def check_apart(input_folder: Path, output_folder: Path) -> None:
    """Refuse an output folder among the input files, or one that holds them.

    Args:
        input_folder: what is read, with all folders in it.
        output_folder: what is written into; it need not exist.

    Raises:
        ValueError: naming both.
    """
    source, target = input_folder.resolve(), output_folder.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise ValueError(f"Output folder {target} and input folder {source} overlap. Name an output folder apart.")
