"""Only the page of this start, in a browser of this computer, is answered."""

import pytest
from custom_components.serve.guard import POLICY, Session

from tests.serve.conftest import HOST, OWN, PORT

WITHOUT = "x-nothing"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        "127.0.0.1:80",
        f"127.0.0.1.evil.example:{PORT}",
        f"[::1]:{PORT}",
        "",
    ],
)
def test_another_name_of_the_server_is_refused(client, host):
    """A name that an attacker lets point to this computer (DNS rebinding)."""
    answer = client.http.get("/api/state", headers={"host": host})
    assert answer.status_code == 421


def test_localhost_is_the_same_server(client):
    assert client.http.get("/api/state", headers={"host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/api/state", "/api/cases", "/nowhere"])
def test_without_the_cookie_nothing_is_shown(client, path):
    client.http.cookies.clear()
    answer = client.http.get(path)
    assert answer.status_code == 403
    assert "Open the address that the program printed" in answer.text


def test_a_wrong_token_or_cookie_is_refused(client):
    client.http.cookies.clear()
    for token in ("", "x", "ä", client.server._session.cookie):
        answer = client.http.get("/", params={"token": token})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    client.http.cookies.set(f"covid_ct_{PORT}", client.server._session.token)
    assert client.http.get("/").status_code == 403


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_do_not_get(client):
    client.http.cookies.clear()
    answer = client.http.get("/", params={"token": client.server._session.token})
    cookie = answer.headers["set-cookie"]
    assert {part.strip() for part in cookie.split(";")[1:]} == {"HttpOnly", "Path=/", "SameSite=strict"}
    assert 'content="0; url=/"' in answer.text
    assert "token" not in answer.text
    assert client.http.get("/").status_code == 200


def test_secrets_are_new_with_each_start_and_not_shown():
    one, other = Session(PORT), Session(PORT)
    assert len({one.token, one.cookie, other.token, other.cookie}) == 4
    assert min(map(len, (one.token, one.cookie))) >= 43
    assert one.token not in repr(one)
    assert one.cookie not in repr(one)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"origin": f"http://127.0.0.1:{PORT + 1}", "sec-fetch-site": "same-site"},
        {"origin": f"https://{HOST}", "sec-fetch-site": "same-origin"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
        {"origin": f"http://{HOST}", "sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_request_of_another_site_changes_nothing_even_with_the_cookie(client, method, headers):
    places = {"POST": "/api/jobs", "PUT": "/api/jobs/x/files", "DELETE": "/api/cases/x"}
    answer = client.http.request(method, places[method], headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (403, "The request came from another site.")
    assert client.state()["jobs"] == []


def test_a_request_without_any_origin_changes_nothing(client):
    for name in OWN:
        del client.http.headers[name]
    assert client.http.post("/api/jobs").status_code == 403
    assert client.http.get("/api/state").status_code == 200  # reading needs the cookie alone


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_cannot_embed_or_fetch(client, site):
    headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
    assert client.http.get("/api/cases", headers=headers).status_code == 403
    assert client.http.get("/page.js", headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/", "/page.js", "/api/state", "/nowhere"])
def test_every_answer_restricts_what_a_page_may_do(client, path):
    headers = client.http.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert "'unsafe" not in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_refusals_are_restricted_too(client):
    client.http.cookies.clear()
    for headers in ({}, {"host": "evil.example"}):
        assert client.http.get("/", headers=headers).headers["content-security-policy"] == POLICY
