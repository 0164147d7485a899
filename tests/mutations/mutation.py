"""A wrong line of science, and the tests that must notice it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "custom_components"


@dataclass(frozen=True)
class Mutation:
    """One change of one file.

    Args:
        what: the mistake, in a few words.
        file: in the package.
        text: as it stands, once in the file.
        becomes: what it is changed to.
        tests: files or tests, as pytest takes them, one of which must fail.
    """

    what: str
    file: str
    text: str
    becomes: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """File and mistake: what ``--only`` looks at."""
        return f"{self.file}: {self.what}"

    def found(self, root: Path) -> int:
        """How often the text stands in the file."""
        return (root / PACKAGE / self.file).read_text(encoding="utf-8").count(self.text)

    @contextmanager
    def applied(self, root: Path) -> Iterator[None]:
        """The file below ``root`` is changed, and afterwards as it was."""
        path = root / PACKAGE / self.file
        before = path.read_text(encoding="utf-8")
        path.write_text(before.replace(self.text, self.becomes), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")


def mutations_of(file: str, tests: str, *changes: tuple[str, str, str]) -> list[Mutation]:
    """Mutations of one file that the same tests must notice.

    Args:
        file: in the package.
        tests: files or tests, parted by blanks, below ``tests/``.
        changes: mistake, text and what it becomes, of each.
    """
    named = tuple(f"tests/{name}" for name in tests.split())
    return [Mutation(what, file, text, becomes, named) for what, text, becomes in changes]
