"""The client: its waits, its name, and what it makes of headers."""

import asyncio
import email.utils
import gzip
import itertools
import time
import tracemalloc

import pytest
from surveys import Reply, SurveyServer, fail, redirect, slow

from galfig.errors import ConfigError, SurveyError
from galfig.survey.client import (
    Bucket,
    Client,
    FailedRequestError,
    Patience,
    name_agent,
    parse_retry_after,
    run_loop,
)

QUICK = Patience(attempts=3, base=0.01, longest=0.02, total=2.0)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        (" 7 ", 7),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9" * 400, 999999999999),
        ("Thu, 99 Jan 2015 00:00:00 GMT", None),
    ],
)
def test_retry_after(words, seconds):
    """Seconds, or a date; anything else says nothing."""
    assert parse_retry_after({"retry-after": words}) == seconds


def test_retry_after_is_a_date():
    """A date to come is a time to wait."""
    then = email.utils.formatdate(time.time() + 90, usegmt=True)
    assert parse_retry_after({"retry-after": then}) == pytest.approx(90, abs=2)


def test_a_bucket_keeps_its_rate_for_all():
    """Tasks that ask at once leave one after another, and all wait through a pause."""

    async def take():
        bucket, loop = Bucket(50), asyncio.get_running_loop()
        times = []

        async def ask():
            await bucket.take()
            times.append(loop.time())

        await asyncio.gather(*(ask() for _ in range(6)))
        bucket.pause(0.3)
        await ask()
        return times

    times = asyncio.run(take())
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert all(step >= 0.018 for step in steps[:5])
    assert times[5] - times[0] < 0.5
    assert steps[5] >= 0.29


def test_the_user_agent_names_galfig_and_the_user(monkeypatch):
    """Without an address of the user it has none; no header can be smuggled into it."""
    monkeypatch.delenv("GALFIG_CONTACT", raising=False)
    assert name_agent().startswith("galfig/0.1.0 (Grad-CAM figures of galaxies")
    assert "contact: " not in name_agent()
    assert "contact: a@b.org)" in name_agent("a@b.org")
    for words in ("a\r\nX: y", "ü@b.org", "x" * 300, "a) (b"):
        with pytest.raises(ConfigError, match="`contact`"):
            name_agent(words)


def ask(server, patience=QUICK, **given):
    """Ask a server for bytes."""

    async def job():
        async with Client(server.address, "Server", rate=50, patience=patience) as client:
            return await client.fetch("/x", {"a": "1"}, bytes_of, max_bytes=1000, **given)

    return run_loop(job())


def bytes_of(answer):
    """Return the body of an answer."""
    return answer.data


@pytest.fixture
def server():
    """Serve four bytes at /x."""
    with SurveyServer(lambda request: Reply(b"four") if request.path == "/x" else None) as running:
        yield running


def test_a_redirect_on_the_same_host_is_followed(server):
    """Three of them at most, and never to another port."""
    server.plan("/x", redirect("/x?a=2"), redirect("/x?a=3"))
    assert ask(server) == b"four"
    server.plan("/x", *[redirect("/x?a=2")] * 4)
    with pytest.raises(FailedRequestError, match="more than 3 redirects"):
        ask(server)
    server.plan("/x", redirect("http://127.0.0.1:9/x"))
    with pytest.raises(FailedRequestError, match="redirects to 'http://127"):
        ask(server)


def test_all_wait_where_the_service_says_for_how_long(server):
    """Retry-After is waited for, in full, by every request of the client."""
    server.plan("/x", fail(429, retry_after="1"))
    start = time.monotonic()
    assert ask(server) == b"four"
    assert 1 <= time.monotonic() - start < 2
    server.plan("/x", fail(429, retry_after="700"))
    with pytest.raises(SurveyError, match="asks to come back in 12 min"):
        ask(server)


def test_what_takes_long_is_not_asked_for_again(server):
    """A query that the server does not answer in time would only add to its load."""
    server.plan("/x", *[slow(2)] * 3)
    with pytest.raises(FailedRequestError, match=r"no whole answer in 0\.3 s, 1 try"):
        ask(server, seconds=0.3)
    assert len(server.requests) == 1


def test_waits_grow_and_differ(server, monkeypatch):
    """The bound of the random wait doubles up to its limit."""
    bounds = []
    monkeypatch.setattr(
        "galfig.survey.client.random.uniform", lambda low, high: bounds.append(high) or 0
    )
    server.plan("/x", *[fail(500)] * 5)
    with pytest.raises(FailedRequestError, match="status 500 Some Words: 'busy', 5 tries"):
        ask(server, Patience(attempts=5, base=1, longest=5))
    assert bounds == [1, 2, 4, 5]


def test_an_answer_has_a_largest_size(server):
    """By its header, and by what comes."""
    server.services = (lambda request: Reply(bytes(1001)),)
    with pytest.raises(FailedRequestError, match="an answer of more than 1000 bytes"):
        ask(server)
    server.services = (lambda request: Reply(bytes(1001), is_chunked=True),)
    with pytest.raises(FailedRequestError, match="an answer of more than 1000 bytes"):
        ask(server)
    server.services = (lambda request: Reply(bytes(1000), is_chunked=True),)
    assert len(ask(server)) == 1000


def test_proxies_that_are_none_are_said(monkeypatch):
    """One line names the variables."""
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://x")
    with pytest.raises(ConfigError, match="see HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"):
        Client("https://example.org", "Server")


@pytest.mark.parametrize("given", [{"connections": 0}, {"connections": 99}, {"rate": 0}])
def test_a_service_is_not_overrun(given):
    """Neither by connections nor by requests."""
    with pytest.raises(ConfigError, match=f"`{next(iter(given))}`"):
        Client("https://example.org", "Server", **given)


def test_nothing_is_fetched_offline(server, monkeypatch):
    """Where GALFIG_OFFLINE is set, as in the steps of a manuscript."""
    monkeypatch.setenv("GALFIG_OFFLINE", "1")
    with pytest.raises(ConfigError, match="nothing is fetched here"):
        ask(server)
    assert server.requests == []


@pytest.mark.parametrize("coding", ["gzip", "gzip, gzip", "deflate", "br"])
@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_that_unpacks_to_more_is_not_unpacked(coding, status):
    """The memory for an answer is bounded also where a few bytes stand for many."""
    body = gzip.compress(bytes(30_000_000))
    body = gzip.compress(body) if "," in coding else body
    headers = (("content-encoding", coding),)
    with SurveyServer(lambda request: Reply(body, status=status, headers=headers)) as server:
        tracemalloc.start()
        with pytest.raises(FailedRequestError, match=r"more than 1000 bytes|coding|status 404"):
            ask(server)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10_000_000


def test_an_answer_in_gzip_is_unpacked(server):
    """It is read whole; one that is cut is asked for again."""

    def pack(reply, share=1.0):
        body = gzip.compress(reply.body)
        return Reply(body[: round(share * len(body))], headers=(("content-encoding", "gzip"),))

    server.plan("/x", lambda reply: pack(reply, 0.8), pack)
    assert ask(server) == b"four"
    assert len(server.requests) == 2


def test_no_cookie_is_kept(server):
    """A service learns nothing of one request from another."""
    server.plan("/x", fail(500, set_cookie="who=you"))
    assert ask(server) == b"four"
    assert "cookie" not in server.requests[1].headers


def test_a_redirect_to_no_address_is_told(server):
    """Python refuses some addresses with errors that httpx lets pass."""
    server.plan("/x", *[redirect("http:////p-][:h9")] * 3)
    with pytest.raises(FailedRequestError, match="redirects to no address"):
        ask(server)


def test_the_first_failure_is_said(server, caplog):
    """Once: more would drown the progress."""
    caplog.set_level("INFO", "galfig")
    server.plan("/x", fail(500), fail(503))
    assert ask(server) == b"four"
    (said,) = caplog.messages
    assert said.startswith("Server: status 500 Some Words: 'busy'; trying again in 0.0 s")
