"""The console's files: which are served, with which headers, to whom; and what may not stand in them."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest

from sidegate.http.admin.console import HEADERS, TYPES, read_files
from sidegate.testing import demo_config, gateway
from tests.abuse.sockets import ask, request
from tests.console.ground import KEY
from tests.tree import ROOT, SOURCES

FOLDER = SOURCES["sidegate"] / "console"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
OWN = [path for path in FILES if "vendor" not in path.parts]


def served(**admin: Any) -> Any:
    return gateway(demo_config(admin={"port": 0, **admin}))


async def test_every_file_is_served_as_what_it_is(http: aiohttp.ClientSession) -> None:
    async with served(key=KEY) as running:
        for path in FILES:
            async with http.get(f"{running.admin_url}/console/{path.relative_to(FOLDER).as_posix()}") as reply:
                assert (reply.status, await reply.read()) == (200, path.read_bytes()), path
                assert reply.content_type == TYPES[path.suffix]
                for name in ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control"):
                    assert reply.headers[name] == HEADERS[name], path


async def test_the_policy_lets_nothing_in() -> None:
    policy = dict(each.strip().partition(" ")[::2] for each in HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert "unsafe" not in str(policy)


async def test_a_copy_that_is_the_same_is_not_sent_again(http: aiohttp.ClientSession) -> None:
    async with served() as running:
        url = running.admin_url + "/console/app.js"
        async with http.get(url) as reply:
            tag = reply.headers["ETag"]
        for given, status in ((tag, 304), (f'"other", W/{tag}', 304), ('"other"', 200)):
            async with http.get(url, headers={"If-None-Match": given}) as reply:
                assert reply.status == status
                assert (await reply.read() == b"") is (status == 304)


@pytest.mark.parametrize(
    "path",
    [
        "../__init__.py",
        "..%2f__init__.py",
        "%2e%2e/settings.py",
        "/etc/passwd",
        "pages/",
        "nothing.js",
        "pages//calls.js",
    ],
)
async def test_no_path_leads_elsewhere(path: str) -> None:
    async with served() as running:
        answer = await ask(running.admin_url, request(f"/console/{path}", method="GET", headers={"Host": "localhost"}))
        assert answer.status == 404


async def test_the_page_is_found_without_its_slash() -> None:
    async with served(key=KEY) as running:
        answer = await ask(running.admin_url, request("/console", method="GET", headers={"Host": "localhost"}))
        assert (answer.status, answer.header("location")) == (308, "/console/")


async def test_a_link_from_another_page_opens_it_and_a_frame_does_not() -> None:
    async with served(key=KEY) as running:
        headers = {"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        answer = await ask(running.admin_url, request("/console/", method="GET", headers=headers))
        assert answer.status == 200
        assert answer.header("x-frame-options") == "DENY"


async def test_there_is_no_console_where_there_is_no_administration() -> None:
    async with served(host="0.0.0.0", without_key="metrics") as running:
        url = running.admin_url.replace("0.0.0.0", "127.0.0.1")
        answer = await ask(url, request("/console/", method="GET", headers={"Host": "localhost"}))
        assert (answer.status, answer.json["code"]) == (403, "administration_off")


async def test_another_name_of_this_machine_gets_no_page() -> None:
    async with served() as running:
        answer = await ask(running.admin_url, request("/console/", method="GET", headers={"Host": "evil.example"}))
        assert (answer.status, answer.json["code"]) == (421, "wrong_host")


def test_what_is_served_is_what_is_there() -> None:
    assert set(read_files()) == {path.relative_to(FOLDER).as_posix() for path in FILES}


# --- what may not stand in them ---------------------------------------------------------------------------------------

FORBIDDEN = (
    r"\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\.srcdoc",
    r"\beval\(|new Function|setTimeout\(['\"]|javascript:",
    r"https?://(?!127\.0\.0\.1|localhost|www\.w3\.org/2000/svg)",
)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_parses_markup_or_comes_from_elsewhere(path: Any) -> None:
    text = path.read_text()
    for pattern in FORBIDDEN:
        assert re.search(pattern, text) is None, pattern
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    if path.suffix == ".js":
        assert len(text.splitlines()) <= 260


def test_what_is_not_ours_says_whose_it_is() -> None:
    vendor = FOLDER / "vendor"
    assert "MIT License" in (vendor / "LICENSE.txt").read_text()
    version = re.search(r"uPlot (\d+\.\d+\.\d+)", (vendor / "README.txt").read_text())
    assert version is not None
    assert f"v{version[1]}" in (vendor / "uPlot.esm.js").read_text()[:400]
    assert version[1] in (ROOT / "docs" / "console.md").read_text()
