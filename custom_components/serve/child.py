"""``python -m custom_components.serve.child``: the command line, which ends when the server that started it ends.

The server holds the other end of standard input: the system closes it even if the server is killed.
"""

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    """Run ``python -m custom_components`` with the same arguments."""
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    runpy.run_module("custom_components", run_name="__main__", alter_sys=True)


def _end_with_the_server() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
