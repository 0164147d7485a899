"""Faults of the machine that end a run from outside, as libraries tell them, in words that say what to do."""

import errno
import re

from custom_components.data.disk_errors import REMEDIES, full_folders

MEMORY = (
    "The system does that when memory runs out: lower --num_workers (0 loads in the program itself), and --cache_rate "
    "where the config has it"
)
SHARED_MEMORY = "Lower --num_workers, or allow more shared memory (docker: --shm-size)"
OTHER_PROCESS = (
    "Another process of this training has ended, or answers no more. What it logged last is the reason; without a word "
    "of its own it was killed, as the system does when memory runs out"
)

_LOADER_BUS = re.compile(r"DataLoader worker \(pid.*Bus error")
_LOADER_KILLED = re.compile(r"DataLoader worker \(pid.*\) (?:is killed by signal|exited unexpectedly)")
_PEER = re.compile(r"gloo/transport|Connection closed by peer|Connection reset by peer|NCCL.*remote process exited")
_SYSTEM = re.compile(r"^\[Errno (\d+)\] ([^:\n]+)(?:: '([^'\n]+)')?")


def machine_fault(message: str) -> str | None:
    """What to do about a fault of the machine.

    Args:
        message: of the error behind all others.

    Returns:
        The fault in words; None when the message tells of anything else.

    Example:
        >>> machine_fault("[Errno 30] Read-only file system: '/results/a.json'")
        '/results/a.json: Read-only file system. Make it writable, or name another folder.'
        >>> machine_fault("Case 012: label has value 7.") is None
        True
    """
    if _LOADER_BUS.search(message):
        return f"A process that loads data ran out of shared memory. {SHARED_MEMORY}."
    if _LOADER_KILLED.search(message):
        return f"A process that loads data was killed. {MEMORY}."
    if _PEER.search(message):
        return f"{OTHER_PROCESS}. ({message.splitlines()[0]})"
    found = _SYSTEM.match(message)
    return None if found is None else _system_error(int(found[1]), found[2].strip(), found[3])


def _system_error(number: int, words: str, path: str | None) -> str | None:
    """An error of the system in words; None when nothing is known beyond what it says itself."""
    if path is None and number == errno.ENOSPC:
        path = ", ".join(map(str, full_folders())) or None
    if number == errno.ENOENT and path is not None:
        return f"{path}: {words}. Check the path, and whether it was removed meanwhile."
    if number not in REMEDIES or number == errno.ENOENT:
        return None
    return f"{path}: {words}. {REMEDIES[number]}." if path else f"{words}. {REMEDIES[number]}."
