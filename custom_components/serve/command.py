"""``python -m custom_components serve``: a page to drop scans on, for the browser of this computer only."""

import importlib.util
import logging
import socket
import sys
import webbrowser
from contextlib import closing
from pathlib import Path

from custom_components.command_line.endings import STOPPED, check_flags
from custom_components.diagnosis.weight_files import Weights
from custom_components.files.atomic import writable_folder
from custom_components.files.lock import held_alone
from custom_components.serve.jobs import FOLDER
from custom_components.serve.limits import GB, Limits

CHILD = "custom_components.serve.child"
PACKAGES = ("starlette", "uvicorn")
# Ports below are the system's.
LEAST_PORT, MOST_PORT = 1024, 65535
OPENED, LOCK = "open.html", ".serve.lock"

_logger = logging.getLogger(__name__)


def serve(
    output_dir: str,
    port: int = 0,
    max_upload_gb: float = 4.0,
    open_browser: bool = False,
    no_lesion_classes: bool = False,
    cap_weights: str | None = None,
    seg_weights: str | None = None,
    segment_weights: str | None = None,
    lungmask_weights: str | None = None,
    bundles_dir: str | None = None,
) -> None:
    """Serve a page on 127.0.0.1 to drop scans on; each is processed by diagnose. Research use only.

    The page has a secret address, which is printed. It takes DICOM folders, zip files and NIfTI files, shows the
    progress, and lists the finished cases of the output folder with report, viewer and downloads. Uploads are kept in
    <output_dir>/uploads until they are deleted on the page. Ctrl-C ends the program; when it is started again, it
    processes scans that were waiting or not finished.

    Args:
        output_dir: folder for the results and uploads.
        port: port on 127.0.0.1; 0 means any free one.
        max_upload_gb: largest upload in GB, also after unpacking.
        open_browser: open the page in the browser.
        no_lesion_classes: do not segment ground-glass, consolidation and effusion.
        cap_weights: weights of the classifier, as for diagnose.
        seg_weights: weights for the lesion classes, as for diagnose.
        segment_weights: weights of VB-Net, as for diagnose.
        lungmask_weights: weights of the package lungmask, as for diagnose.
        bundles_dir: folder that contains both bundles; default next to the package.
    """
    check_flags(open_browser=open_browser, no_lesion_classes=no_lesion_classes)
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(f'serve needs {" and ".join(missing)}. Install: pip install "custom_components[serve]".')
    if port != 0 and not LEAST_PORT <= port <= MOST_PORT:
        raise ValueError(f"port is {port}. Expected 0 (any free port), or {LEAST_PORT} to {MOST_PORT}.")
    if not 0 < max_upload_gb < float("inf"):
        raise ValueError(f"max_upload_gb is {max_upload_gb:g}. Expected a number of GB above 0, such as 4.")
    files = {"cap": cap_weights, "seg": seg_weights, "segment": segment_weights, "lungmask": lungmask_weights}
    given = {name: Path(file).resolve() for name, file in files.items() if file is not None}
    Weights(**given).check()
    options = [word for name, file in given.items() for word in (f"--{name}_weights", str(file))]
    options += ["--bundles_dir", str(Path(bundles_dir).resolve())] if bundles_dir else []
    options += ["--no_lesion_classes"] if no_lesion_classes else []
    folder = writable_folder(output_dir).resolve()
    uploads = folder / FOLDER
    uploads.mkdir(mode=0o700, exist_ok=True)
    with held_alone(uploads / LOCK) as is_held:
        if not is_held:
            raise ValueError(f"Another server uses {folder}. Use its page, or choose another output folder.")
        with closing(listening_socket(port)) as listener:
            _run(folder, listener, options, Limits(upload_bytes=int(max_upload_gb * GB)), open_browser)


def listening_socket(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1, and nowhere else.

    Args:
        port: port; 0 means any free one.

    Raises:
        ValueError: when the port is in use.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise ValueError(f"Port {port} cannot be used ({error.strerror}). Choose another one, or 0 for any.") from error
    return listener


def _run(folder: Path, listener: socket.socket, options: list[str], limits: Limits, open_browser: bool) -> None:
    import uvicorn
    from custom_components.serve.app import Server
    from custom_components.serve.guard import Session

    session = Session(listener.getsockname()[1])
    server = Server(folder, session, [sys.executable, "-m", CHILD, "diagnose"], options, limits)
    settings = uvicorn.Config(
        server.app(),
        log_config=None,
        log_level="warning",
        access_log=False,  # its lines would have the token
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=3,
    )
    sys.stdout.write(f"Open this address in a browser of this computer; Ctrl-C ends the program:\n{session.address}\n")
    sys.stdout.flush()
    page = folder / FOLDER / OPENED
    try:
        if open_browser:
            _open(page, session.address)
        uvicorn.Server(settings).run(sockets=[listener])
    except KeyboardInterrupt:
        _logger.warning("Stopped. Waiting and unfinished scans are processed when the program is started again.")
        raise SystemExit(STOPPED) from None
    finally:
        page.unlink(missing_ok=True)


def _open(page: Path, address: str) -> None:
    """Open the address by a private file, since other users see the arguments of a browser."""
    page.touch(mode=0o600)
    page.write_text(f'<meta http-equiv="refresh" content="0; url={address}">', encoding="utf-8")
    webbrowser.open(page.as_uri())
