"""Files of weights for `diagnose`; nothing that reads them is imported."""

from dataclasses import dataclass
from pathlib import Path

from custom_components.files.atomic import absolute_path


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

    @classmethod
    def given(cls, **files: str | None) -> "Weights":
        """The files of a command's options, as absolute paths, which a process in another folder finds too.

        Args:
            files: file by name; None where the option was left out.

        Raises:
            ValueError: names a file that does not exist, as it was typed, and its option.
        """
        typed = cls(**{name: Path(file) for name, file in files.items() if file is not None})
        typed.check()
        return cls(**{name: absolute_path(file) for name, file in vars(typed).items() if file is not None})

    def check(self) -> None:
        """Check that the files exist.

        Raises:
            ValueError: names the file and its option.
        """
        for name, file in vars(self).items():
            if file is not None and not file.is_file():
                raise ValueError(f"No weights at {file}. Correct the path, or leave out --{name}_weights.")
