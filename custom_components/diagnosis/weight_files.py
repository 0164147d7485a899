"""Files of weights for `diagnose`; nothing is imported that reads them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Weights:
    """Files of weights; None is the bundle's default file, if it exists.

    Args:
        cap: weights of the classifier.
        seg: weights for the lesion classes.
        segment: weights of VB-Net.
        lungmask: weights of the package lungmask; None does not use the package.
    """

    cap: Path | None = None
    seg: Path | None = None
    segment: Path | None = None
    lungmask: Path | None = None

    def check(self) -> None:
        """Check that the files exist.

        Raises:
            ValueError: names the file and its option.
        """
        for name, file in vars(self).items():
            if file is not None and not file.is_file():
                raise ValueError(f"No weights at {file}. Correct the path, or leave out --{name}_weights.")
