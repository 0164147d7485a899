"""Who may ask: this computer's browser with the cookie of this start, from the page itself and from no other site."""

import secrets
from dataclasses import dataclass, field

from custom_components.serve.limits import RefusedError
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ADDRESS = "127.0.0.1"
READING = ("GET", "HEAD")
# Pages of cases: their address has the random key of the case, and the browser sends no cookie from inside them.
VIEW = "/view/"
# Browsers ask for it with each page; there is none.
ICON = "/favicon.ico"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# The next address is opened by this page and not by a redirect: a browser sends the cookie only if this site asks.
WELCOME = '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Chest CT</title>{}'
ENTER = WELCOME.format('<meta http-equiv="refresh" content="0; url=/"><p><a href="/">Continue</a></p></html>')
UNKNOWN = WELCOME.format(
    "<p>Open the address that the program printed when it started. It changes with each start.</p>"
)


@dataclass(frozen=True)
class Session:
    """Secrets of one start.

    Args:
        port: port of the server.
        token: part of the printed address; exchanged for the cookie.
        cookie: value of the cookie.
    """

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def address(self) -> str:
        """Address to open, with the token."""
        return f"http://{ADDRESS}:{self.port}/?token={self.token}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Values of the header Host that are served; an attacker may point any other name to this computer."""
        return f"{ADDRESS}:{self.port}", f"localhost:{self.port}"

    @property
    def cookie_name(self) -> str:
        """Name of the cookie; browsers do not separate the cookies of ports."""
        return f"covid_ct_{self.port}"


class Guard:
    """Refuses requests before anything else sees them, and adds the headers that restrict pages.

    Args:
        app: the application behind it.
        session: secrets of this start.
    """

    def __init__(self, app: ASGIApp, session: Session) -> None:
        self.app, self.session = app, session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._answer(Request(scope)) or self.app
        await answer(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """Answer without the application; None if the request may pass."""
        try:
            self._check_origin(request)
        except RefusedError as error:
            return JSONResponse({"error": error.reason}, error.status)
        path = request.url.path
        if path == ICON:
            return Response(status_code=204)
        if path.startswith(VIEW) and request.method in READING:
            return None
        if path == "/" and request.method in READING and "token" in request.query_params:
            return self._entered(request.query_params["token"])
        cookie = request.cookies.get(self.session.cookie_name, "")
        if _are_equal(cookie, self.session.cookie):
            return None
        return HTMLResponse(UNKNOWN, 403)

    def _check_origin(self, request: Request) -> None:
        """Check that the request was sent to this server, by its own page.

        Raises:
            RefusedError: otherwise.
        """
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self.session.hosts:
            raise RefusedError(421, f"This server answers only to http://{self.session.hosts[0]}.")
        site = request.headers.get("sec-fetch-site")
        is_page = request.headers.get("sec-fetch-mode", "navigate") == "navigate" and request.method in READING
        if site not in (None, "same-origin", "none") and not is_page:
            raise RefusedError(403, "The request came from another site.")
        if request.method not in READING:
            origin = request.headers.get("origin")
            if origin != f"http://{hosts[0]}" and not (origin is None and site == "same-origin"):
                raise RefusedError(403, "The request came from another site.")

    def _entered(self, token: str) -> Response:
        if not _are_equal(token, self.session.token):
            return HTMLResponse(UNKNOWN, 403)
        response = HTMLResponse(ENTER)
        response.set_cookie(self.session.cookie_name, self.session.cookie, httponly=True, samesite="strict")
        return response


def _are_equal(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), secret.encode())
