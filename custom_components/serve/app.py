"""The web application: what each address does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from custom_components._version import NOTICE, __version__
from custom_components.diagnosis.case_folder import is_finished
from custom_components.serve.cases import PAGE, THUMBNAIL, VIEWER, Cases, file_names, zipped
from custom_components.serve.guard import Guard, Session
from custom_components.serve.job_queue import JobQueue, remove_unfinished
from custom_components.serve.jobs import UNFINISHED, UPLOADING, WAITING, Job, Jobs
from custom_components.serve.limits import Limits, RefusedError
from custom_components.serve.uploads import Upload
from custom_components.serve.zips import unpack_zips
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

# A page of a case runs in an origin of its own, without cookie, network or forms. Its own policy, in the page, names
# the scripts that may run by their hashes; both hold.
SANDBOX = (
    "sandbox{}; default-src 'none'; {}style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
POLICIES = {PAGE: SANDBOX.format("", ""), VIEWER: SANDBOX.format(" allow-scripts", "script-src 'unsafe-inline'; ")}
ASSETS = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/upload.js": ("upload.js", "text/javascript"),
}

_logger = logging.getLogger(__name__)


class Server:
    """The page, its uploads and its queue.

    Args:
        output_dir: output folder of ``diagnose``; uploads are kept below it.
        session: secrets of this start.
        command: program and arguments that stand before ``SOURCE --output_dir OUTPUT --progress``.
        options: further options of ``diagnose``.
        limits: bounds of uploads.
        grace_s: seconds that a cancelled process has to end before it is killed.
    """

    def __init__(
        self,
        output_dir: Path,
        session: Session,
        command: Sequence[str],
        options: Sequence[str] = (),
        limits: Limits | None = None,
        grace_s: float = 5.0,
    ) -> None:
        self.limits = limits or Limits()
        self.output_dir = output_dir.resolve()
        self.jobs, self.cases = Jobs(self.output_dir), Cases(self.output_dir)
        self.cases.clean_up()
        self._queue_arguments = (self.jobs, self.output_dir, command, options, grace_s)
        self._uploads: dict[str, Upload] = {}
        self._session = session

    def app(self) -> Starlette:
        """The application."""
        routes = [Route(path, _asset(*asset)) for path, asset in ASSETS.items()]
        routes += [
            Route("/api/state", self.state),
            Route("/api/cases", self.list_cases),
            Route("/api/jobs", _refusing(self.new_job), methods=["POST"]),
            Route("/api/jobs/{job}/files", _refusing(self.add_file), methods=["PUT"]),
            Route("/api/jobs/{job}/{action}", _refusing(self.act), methods=["POST"]),
            Route("/api/jobs/{job}", _refusing(self.remove_job), methods=["DELETE"]),
            Route("/api/cases/{case}", _refusing(self.remove_case), methods=["DELETE"]),
            Route("/cases/{case}/all.zip", _refusing(self.download_case)),
            Route("/cases/{case}/files/{path:path}", _refusing(self.download)),
            Route("/view/{case}/{page}", _refusing(self.view)),
        ]
        guard = Middleware(Guard, session=self._session)
        return Starlette(routes=routes, middleware=[guard], lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.queue = JobQueue(*self._queue_arguments)
        task = asyncio.create_task(self.queue.run())
        reading = asyncio.create_task(run_in_threadpool(self.cases.rows))  # imports what takes seconds
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(Exception):
            await reading

    async def state(self, _: Request) -> Response:
        """Jobs, and a text that changes with the cases."""
        version = await run_in_threadpool(self.cases.version)
        jobs = [
            {**asdict(job), "cases": [self.cases.key_of(case) for case in job.cases if self._is_finished(case)]}
            for job in self.jobs
        ]
        limits = {"bytes": self.limits.upload_bytes, "files": self.limits.files}
        return JSONResponse(
            {"jobs": jobs, "version": version, "limits": limits, "notice": NOTICE, "software": __version__}
        )

    async def list_cases(self, _: Request) -> Response:
        """Finished cases with their files and labels."""
        rows = await run_in_threadpool(self.cases.rows)
        labels = {self.cases.key_of(case): job.label for job in self.jobs for case in job.cases}
        return JSONResponse([{**row, "label": labels.get(row["key"], "")} for row in rows])

    async def new_job(self, request: Request) -> Response:
        """Begin an upload whose size and number of files are announced."""
        if sum(job.state in UNFINISHED for job in self.jobs) >= self.limits.unfinished:
            raise RefusedError(429, f"{self.limits.unfinished} uploads wait already. Send more when some are finished.")
        announced, count = (_number(request.query_params.get(name, "0")) for name in ("bytes", "files"))
        job = self.jobs.new(request.query_params.get("label", ""))
        upload = self._uploads[job.id] = Upload(self.jobs.folder_of(job), self.limits)
        with self._refused_as_a_whole(job):
            upload.check_size(announced)
            upload.check_count(count)
        return JSONResponse({"id": job.id}, 201)

    async def add_file(self, request: Request) -> Response:
        """Store one file: its content is the body of the request, its relative path is in the address."""
        job, upload = self._uploading(request)
        announced = _number(request.headers.get("content-length", "0"))
        try:
            with self._refused_as_a_whole(job):
                with upload.receive(request.query_params.get("path", ""), announced) as write:
                    async for content in request.stream():
                        write(content)
                self._note(job, upload)
        except ClientDisconnect:
            return Response(status_code=400)
        return JSONResponse({"files": upload.files, "left_out": upload.left_out})

    async def act(self, request: Request) -> Response:
        """Start, cancel or repeat a job."""
        job, action = self._job(request), request.path_params["action"]
        if action == "start" and job.state == UPLOADING:
            await self._start(*self._uploading(request))
        elif action == "cancel" and job.state == UPLOADING:
            self._discard(job)
        elif action == "cancel":
            await self.queue.cancel(job)
        elif action == "repeat" and job.state not in UNFINISHED:
            job.state, job.errors = WAITING, []
            self.jobs.save(job)
            self.queue.wake()
        else:
            raise RefusedError(409, "This is not possible any more: the state of the scan has changed.")
        return JSONResponse({"state": job.state})

    async def remove_job(self, request: Request) -> Response:
        """Remove a job with its uploaded files and unfinished results."""
        job = self._job(request)
        if job.state in UNFINISHED:
            raise RefusedError(409, "The scan is being processed. Cancel it first.")
        await run_in_threadpool(self._remove_job, job)
        return Response(status_code=204)

    async def remove_case(self, request: Request) -> Response:
        """Remove a case, and its upload unless other cases of it remain."""
        name = await run_in_threadpool(self.cases.remove, request.path_params["case"])
        if name is None:
            raise RefusedError(404, "There is no such case.")
        for job in [job for job in self.jobs if name in job.cases]:
            job.cases.remove(name)
            if job.cases or job.state in UNFINISHED:
                self.jobs.save(job)
            else:
                await run_in_threadpool(self._remove_job, job)
        _logger.info("A case was deleted")
        return Response(status_code=204)

    async def download(self, request: Request) -> Response:
        """One file of a case, to save; its thumbnail, to show."""
        folder, name = self._case(request), request.path_params["path"]
        if name not in await run_in_threadpool(file_names, folder):
            raise RefusedError(404, "There is no such file.")
        if name == THUMBNAIL:
            return FileResponse(folder / name, media_type="image/png")
        return FileResponse(folder / name, media_type="application/octet-stream", filename=Path(name).name)

    async def download_case(self, request: Request) -> Response:
        """All files of a case in one zip file."""
        folder = self._case(request)
        disposition = f"attachment; filename*=utf-8''{quote(folder.name, errors='replace')}.zip"
        return StreamingResponse(
            zipped(folder), media_type="application/zip", headers={"Content-Disposition": disposition}
        )

    async def view(self, request: Request) -> Response:
        """Report or viewer of a case."""
        folder, page = self._case(request), request.path_params["page"]
        if page not in POLICIES or page not in await run_in_threadpool(file_names, folder):
            raise RefusedError(404, "There is no such page.")
        headers = {"Content-Security-Policy": POLICIES[page]}
        return FileResponse(folder / page, media_type="text/html; charset=utf-8", headers=headers)

    async def _start(self, job: Job, upload: Upload) -> None:
        upload.is_complete = True
        with self._refused_as_a_whole(job):
            await run_in_threadpool(unpack_zips, upload)
            upload.check_any()
        self._uploads.pop(job.id)
        self._note(job, upload)
        job.state = WAITING
        self.jobs.save(job)
        _logger.info("Upload %s: %d files, %.1f MB", job.id[:8], job.files, job.bytes / 1e6)
        self.queue.wake()

    def _discard(self, job: Job) -> None:
        """Stop an upload and remove it; if its zip files are being unpacked, this is done there."""
        upload = self._uploads[job.id]
        upload.is_stopped = True
        if not upload.is_complete:
            self._drop(job)

    @contextmanager
    def _refused_as_a_whole(self, job: Job) -> Iterator[None]:
        """Keep nothing of an upload of which a part is refused."""
        try:
            yield
        except RefusedError as error:
            self._drop(job)
            _logger.warning("Upload %s: refused, status %d", job.id[:8], error.status)
            raise

    def _drop(self, job: Job) -> None:
        self._uploads.pop(job.id, None)
        self.jobs.remove(job)

    def _note(self, job: Job, upload: Upload) -> None:
        job.files, job.bytes, job.left_out = upload.files, upload.bytes, upload.left_out

    def _remove_job(self, job: Job) -> None:
        for case in job.cases:
            remove_unfinished(self.output_dir / case)
        self.jobs.remove(job)

    def _is_finished(self, case: str) -> bool:
        return is_finished(self.output_dir / case)

    def _job(self, request: Request) -> Job:
        job = self.jobs.get(request.path_params["job"])
        if job is None:
            raise RefusedError(404, "There is no such upload.")
        return job

    def _uploading(self, request: Request) -> tuple[Job, Upload]:
        """A job whose files are being sent."""
        job = self._job(request)
        upload = self._uploads.get(job.id)
        if upload is None or upload.is_complete:
            raise RefusedError(409, "The upload is complete. Send further files as another one.")
        return job, upload

    def _case(self, request: Request) -> Path:
        folder = self.cases.folder(request.path_params["case"])
        if folder is None:
            raise RefusedError(404, "There is no such case. It was deleted, or the program was started again.")
        return folder


def _refusing(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The same, but a refusal is an answer with its status and reason."""

    async def call(request: Request) -> Response:
        try:
            return await answer(request)
        except RefusedError as error:
            return JSONResponse({"error": error.reason}, error.status)
        except OSError as error:
            _logger.exception("A request failed")
            return JSONResponse({"error": f"The output folder cannot be used: {error.strerror}. Check the disk."}, 507)

    return call


def _asset(name: str, kind: str) -> Callable[[Request], Response]:
    content = (files("custom_components") / "serve/page" / name).read_text(encoding="utf-8")

    def call(_: Request) -> Response:
        return Response(content, media_type=kind)

    return call


def _number(text: str) -> int:
    if not text.isdecimal():
        raise RefusedError(400, "A size is not a whole number.")
    return int(text)
