from pathlib import Path


def check_apart(input_folder: Path, output_folder: Path) -> None:
    """Check that neither the input nor the output folder is inside the other.

    Args:
        input_folder: folder that is read, with its subfolders.
        output_folder: folder for results; need not exist.

    Raises:
        ValueError: when they overlap.
    """
    source, target = input_folder.resolve(), output_folder.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise ValueError(f"Output folder {target} and input folder {source} overlap. Choose another output folder.")
