"""A server that speaks the dialects of surveys' services, and their faults, on this machine.

`SurveyServer` answers by HTTP on 127.0.0.1 and counts what it is asked; `SkyServer` is the dialect
of SDSS. A further service is a callable that takes a `Request` and returns a `Reply`, or None where
the path is not its own. Faults are callables that take a `Reply` and return another; `plan` says
for which requests, in turn.
"""

import asyncio
import csv
import dataclasses
import html
import io
import json
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image, ImageDraw

from galfig.catalog.simulate import simulate_catalog, simulate_cutout

JPEG = "image/jpeg"


class Request(NamedTuple):
    """A request: its method, path, parameters and headers, and when it came [s]."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    target: str
    at: float


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer; the faults say how it goes wrong on the way."""

    body: bytes
    content_type: str = JPEG
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    # Seconds before the first byte; the share of the body that is sent before the end.
    delay: float = 0
    share: float = 1
    is_chunked: bool = False
    is_endless: bool = False


Fault = Callable[[Reply], Reply]


def slow(seconds: float) -> Fault:
    """Answer late."""
    return lambda reply: dataclasses.replace(reply, delay=seconds)


def cut(share: float = 0.5, *, chunked: bool = False) -> Fault:
    """Close the connection in the middle of the body."""
    return lambda reply: dataclasses.replace(reply, share=share, is_chunked=chunked)


def fail(status: int, **headers: str) -> Fault:
    """Answer with a status, and headers such as retry_after."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return lambda reply: Reply(b"<html>busy</html>", "text/html", status, named)


def page(
    words: str = "The service is down for maintenance", content_type: str = "text/html"
) -> Fault:
    """Answer with a page of HTML and status 200."""
    body = f"<html><head><title>Oops</title></head><body>{words}</body></html>".encode()
    return lambda reply: Reply(body, content_type)


def redirect(address: str) -> Fault:
    """Send the client elsewhere."""
    return lambda reply: Reply(b"", "text/html", 302, (("location", address),))


def endless(reply: Reply) -> Reply:
    """Answer for ever."""
    return dataclasses.replace(reply, is_endless=True)


def resize(size: int) -> Fault:
    """Answer with a picture of another size."""

    def apply(reply: Reply) -> Reply:
        image = Image.open(io.BytesIO(reply.body)).resize((size, size))
        return dataclasses.replace(reply, body=encode(np.asarray(image)))

    return apply


def encode(pixels: np.ndarray) -> bytes:
    """Write pixels as JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()


class SurveyServer:
    """The server; a context manager.

    Attributes
    ----------
    requests : list of Request
        What it was asked, in order.
    most_at_once : int
        The largest number of connections that were open at a time.
    """

    def __init__(self, *services: Callable[[Request], Reply | None]) -> None:
        self.services = services
        self.requests: list[Request] = []
        self.most_at_once = self._n_open = 0
        self._plans: list[tuple[str, list[Fault]]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._is_ready = threading.Event()

    def plan(self, key: str, *faults: Fault) -> None:
        """Have requests whose path and parameters hold a text go wrong, each by the next fault."""
        self._plans.append((key, list(faults)))

    def count(self, key: str = "") -> Counter[str]:
        """Count the requests whose path and parameters hold a text, by these."""
        return Counter(request.target for request in self.requests if key in request.target)

    def __enter__(self) -> "SurveyServer":
        self._thread.start()
        assert self._is_ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._is_ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._n_open += 1
        self.most_at_once = max(self.most_at_once, self._n_open)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._n_open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {}
        for line in filter(None, head[1:]):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        params = dict(parse_qsl(parts.query) + parse_qsl(body.decode()))
        request = Request(method, parts.path, params, headers, target, time.monotonic())
        self.requests.append(request)
        reply = self._reply(request)
        await asyncio.sleep(reply.delay)
        await _send(writer, reply)
        return reply.share == 1

    def _reply(self, request: Request) -> Reply:
        replies = (service(request) for service in self.services)
        reply = next((one for one in replies if one is not None), None)
        reply = reply or Reply(b"<html>not found</html>", "text/html", 404)
        for key, faults in self._plans:
            if key in request.target and faults:
                return faults.pop(0)(reply)
        return reply


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    is_chunked = reply.is_chunked or reply.is_endless
    length = "transfer-encoding: chunked" if is_chunked else f"content-length: {len(reply.body)}"
    lines = [f"HTTP/1.1 {reply.status} Some Words", f"content-type: {reply.content_type}", length]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    body = reply.body[: round(reply.share * len(reply.body))]
    if not is_chunked:
        writer.write(body)
    elif body:
        writer.write(b"%x\r\n%s\r\n" % (len(body), body))
    while reply.is_endless:
        writer.write(b"4000\r\n" + bytes(0x4000) + b"\r\n")
        await writer.drain()
    if is_chunked and reply.share == 1:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


class Sky:
    """Simulated galaxies of a survey: a table, and cutouts that are drawn when they are asked for.

    One galaxy in eight is drawn; the others are those, turned and mirrored.

    Attributes
    ----------
    table : DataFrame
        As of `simulate_catalog`, with objIDs of digits.
    """

    def __init__(self, n: int, seed: int = 0) -> None:
        self.n_drawn = -(-n // 8)
        drawn = simulate_catalog(self.n_drawn, seed)
        self.table = drawn.loc[np.arange(n) // 8].reset_index(drop=True)
        # As SDSS numbers them: a few hundred galaxies in each of some fields of some runs.
        row = np.arange(n)
        ids = 1237648720693755918 + row % 97 + (row // 97 % 5 << 16) + (row // 485 << 33)
        self.table["objID"] = ids.astype(str)
        # Each where none of the others is.
        self.table["ra"] = np.round(120 + 0.01 * row, 5)
        self.seed = seed
        self._cutouts: dict[int, np.ndarray] = {}

    def draw(self, ra: float, dec: float, size: int, scale: float) -> np.ndarray | None:
        """Draw a cutout; None where there is no galaxy."""
        near = np.flatnonzero(
            (np.abs(self.table["ra"] - ra) < 1e-4) & (np.abs(self.table["dec"] - dec) < 1e-4)
        )
        if not len(near):
            return None
        which, turn = divmod(int(near[0]), 8)
        if which not in self._cutouts:
            galaxy = self.table.loc[8 * which].to_dict()
            self._cutouts[which] = simulate_cutout(galaxy, (self.seed, which, 1))
        pixels = np.rot90(self._cutouts[which], turn % 4)
        pixels = pixels[::-1] if turn >= 4 else pixels
        side = size * scale / 0.396
        start, stop = (160 - side) / 2, (160 + side) / 2
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image = image.transform(
            (size, size),
            Image.Transform.EXTENT,
            (start, start, stop, stop),
            Image.Resampling.BICUBIC,
        )
        return np.asarray(image)


class SkyServer:
    """SkyServer's SqlSearch and ImgCutout, as documented, by SQLite and simulated galaxies.

    SQLite runs the SQL that the client sends, but for ``TOP``, which it calls ``LIMIT``.

    Attributes
    ----------
    row_limit : int
        The largest number of rows of an answer.
    extra : list of str
        Lines that follow the rows of each answer that has any.
    errors : {"html", "csv", "json", "text"}
        How an error of SQL is told; the status is 200.
    """

    def __init__(self, sky: Sky, *, release: str = "dr18") -> None:
        self.sky = sky
        self.root = f"/{release}/SkyServerWS"
        self.form = f"/{release}/en/tools/search/x_results.aspx"
        self.row_limit = 500_000
        self.n_doubled = 0
        # An order in place of the one that is asked for; whether pages all begin at the first row.
        self.order = ""
        self.ignores_where = False
        self.errors = "html"
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._load()

    def _load(self) -> None:
        table = self.sky.table
        ids = table["objID"].astype("int64")
        mags = {
            f"modelMag_{band}": table["r_mag"] + more
            for band, more in zip("ugriz", (2.1, 0.6, 0.0, -0.3, -0.5), strict=True)
        }
        galaxy = {"objID": ids, "ra": table["ra"], "dec": table["dec"]}
        galaxy |= {"petroMag_r": table["r_mag"], "petroR50_r": table["petroR50_r"]}
        galaxy |= {"petroR90_r": 2.3 * table["petroR50_r"], **mags}
        extra = {"specObjID": ids + 7}
        for name, more in {"p2p5": -0.1, "p16": -0.05, "p50": 0, "p84": 0.05, "p97p5": 0.1}.items():
            extra[f"oh_{name}"] = (table["oh_p50"] + more).round(5)
        extra |= {"lgm_tot_p50": 10 + 0 * table["z"], "sfr_tot_p50": 0 * table["z"]}
        extra |= {"bptclass": 1 + 0 * ids}
        spec = {"specObjID": ids + 7, "bestObjID": ids, "z": table["z"]}
        spec |= {"zErr": 1e-5 + 0 * table["z"], "rChi2": 1 + 0 * table["z"]}
        tables = {"Galaxy": galaxy, "SpecObj": spec, "galSpecExtra": extra}
        for name, columns in tables.items():
            self._database.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
            rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
            marks = ", ".join("?" * len(columns))
            self._database.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)

    def __call__(self, request: Request) -> Reply | None:
        if request.path in (f"{self.root}/SearchTools/SqlSearch", self.form):
            return self._search(request.params["cmd"])
        if request.path == f"{self.root}/ImgCutout/getjpeg":
            return self._cut_out(request.params)
        return None

    def _search(self, sql: str) -> Reply:
        top = re.match(r"\s*select\s+top\s+(\d+)\s", sql, re.IGNORECASE)
        limit = min(int(top[1]) if top else self.row_limit, self.row_limit)
        plain = f"SELECT {sql[top.end() :]}" if top else sql
        if self.order:
            plain = re.sub(r"ORDER BY .*", self.order, plain)
        if self.ignores_where:
            plain = re.sub(r"AS sample WHERE .* ORDER", "AS sample ORDER", plain)
        try:
            found = self._database.execute(f"{plain} LIMIT {limit}")
        except sqlite3.Error as exc:
            return self._refuse(str(exc))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        text.write("#Table1\n")
        writer.writerow(column[0] for column in found.description)
        rows = found.fetchall()
        writer.writerows(rows + rows[: self.n_doubled])
        return Reply(text.getvalue().encode(), "text/plain; charset=utf-8")

    def _refuse(self, words: str) -> Reply:
        if self.errors == "csv":
            return Reply(f"#Table1\nerror_message\n{words}\n".encode(), "text/plain")
        if self.errors == "json":
            said = {"ErrorCode": 500, "ErrorType": "Error", "ErrorMessage": words}
            return Reply(json.dumps(said).encode(), "application/json")
        if self.errors == "text":
            return Reply(f"Error: {words}".encode(), "text/plain")
        body = (
            "<html><head>\n<title>Skyserver Error</title>\n</head><body bgcolor=white>\n"
            "<h2>An error occured</h2><H3 BGCOLOR=pink><font color=red><br>"
            f"{html.escape(words)}</font></H3></BODY></HTML>\n"
        )
        return Reply(body.encode(), "text/html")

    def _cut_out(self, params: dict[str, str]) -> Reply:
        size = int(params["width"])
        assert params["height"] == params["width"]
        pixels = self.sky.draw(
            float(params["ra"]), float(params["dec"]), size, float(params["scale"])
        )
        return Reply(encode(draw_nothing(size) if pixels is None else pixels))


def draw_nothing(size: int) -> np.ndarray:
    """Draw the picture of a place that a survey has not seen: black, with a few words."""
    image = Image.new("RGB", (size, size))
    ImageDraw.Draw(image).text((4, size // 2), "no image here", fill=(255, 255, 255))
    return np.asarray(image)
