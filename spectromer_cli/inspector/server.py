"""The page for several inspectors at once: served on loopback, verdicts kept beside the results.

Only 127.0.0.1 is bound, and only who has the address with its random token gets an answer. The page
of another site that has its name resolve to 127.0.0.1 (DNS rebinding) is refused by its Host, and
one that sends a form by its Origin.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import queue
import secrets
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from spectromer_cli import console
from spectromer_cli.errors import SpectromerError, UsageError
from spectromer_cli.inspector.build import Material, html, json_text, spectrum_name
from spectromer_cli.inspector.verdicts import Refused, Verdicts, verdicts_beside

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

ADDRESS = "127.0.0.1"
# What a browser on this machine, or at the end of a tunnel to it, calls it.
HOSTS = ("127.0.0.1", "localhost")
MAX_BODY = 65_536  # bytes of a verdict with a long comment
# Packed spectra that are kept: those of rows that several look at.
KEPT = 256
INSTALL = "pip install 'spectromer[inspect]'"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # links to archives must not carry the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Reader:
    """Reads spectra for other threads in the one that calls `work`.

    The main thread can be interrupted when a file takes too long, and libraries that read files
    need not bear several threads.

    Parameters
    ----------
    material : Material
    """

    def __init__(self, material: Material) -> None:
        self._material = material
        self._wanted: queue.SimpleQueue[tuple[int, Future[str]] | None] = queue.SimpleQueue()
        self._kept: OrderedDict[int, str] = OrderedDict()

    def ask(self, number: int) -> Future[str]:
        """The JSON of a row's spectrum, to be waited for."""
        future: Future[str] = Future()
        self._wanted.put((number, future))
        return future

    def stop(self) -> None:
        """Have `work` return."""
        self._wanted.put(None)

    def work(self) -> None:
        """Read what is asked for, until `stop`."""
        while (asked := self._wanted.get()) is not None:
            number, future = asked
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._json(number))
            except Exception as error:  # one spectrum must not end the inspection of all
                future.set_exception(error)

    def _json(self, number: int) -> str:
        if number not in self._kept:
            material = self._material
            (shown,) = material.shown([number])
            row = {
                name: material.rows[number][name] for name in ("object_id", "survey", "sn_median")
            }
            self._kept[number] = json_text({
                "packed": shown.packed, "problem": shown.problem, "row": row,
                "position": material.found.positions[number],
            })  # fmt: skip
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]


def application(
    material: Material, verdicts: Verdicts, token: str, ask: Callable[[int], Future[str]]
) -> Starlette:
    """The page, its spectra and its verdicts under ``/TOKEN/``; nothing else.

    Parameters
    ----------
    material : Material
    verdicts : Verdicts
    token : str
    ask : callable
        Gives the JSON of a row's spectrum, see `Reader.ask`.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    count = len(material.rows)
    by_name = {spectrum_name(row): row for row in material.rows}
    data = material.page_data(
        range(count), [target.problem for target in material.found.targets], material.table.stem
    )
    page = "".join(html(material.table.name, data | {"served": True}, connect="'self'")).encode()

    def refused(status: int, reason: str) -> Response:
        return JSONResponse({"error": reason}, status)

    async def send_page(request: Request) -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": "frame-ancestors 'none'"})

    async def send_spectrum(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= count:
            return refused(404, f"there are {count} rows")
        text = await asyncio.wrap_future(ask(number))
        return Response(text, media_type="application/json")

    async def send_verdicts(request: Request) -> Response:
        since = request.query_params.get("since", "0")
        if not (since.isascii() and since.isdigit() and len(since) < 19):
            return refused(422, "since must be a whole number")
        return JSONResponse(await run_in_threadpool(verdicts.latest, int(since)))

    async def take_verdict(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                return refused(422, f"a verdict can have at most {MAX_BODY} bytes")
        try:
            kept = await run_in_threadpool(_record, body, verdicts, by_name)
        except Refused as error:
            return refused(422, str(error))
        except SpectromerError as error:  # the browser keeps it and tries again
            return refused(503, str(error))
        return JSONResponse(kept)

    routes = [
        Route("/{token}/", send_page),
        Route("/{token}/spectra/{number:int}", send_spectrum),
        Route("/{token}/verdicts", send_verdicts),
        Route("/{token}/verdicts", take_verdict, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    app.add_middleware(Guard, token=token)
    return app


def _record(body: bytes, verdicts: Verdicts, rows: dict[str, Any]) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused("a verdict must be JSON") from error
    name = said.get("spectrum") if isinstance(said, dict) else None
    row = rows.get(name) if isinstance(name, str) else None
    if row is None:
        raise Refused("it is for no spectrum of these results")
    return verdicts.record(row, said)


class Guard:
    """Lets through who has the token and comes from this machine.

    Parameters
    ----------
    app : ASGI application
    token : str
    """

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer that there is nothing."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(
                    (name.lower().encode(), value.encode())
                    for name, value in HEADERS.items() if name.lower().encode() not in own
                )]  # fmt: skip
            await send(message)

        if self._is_welcome(scope):
            await self._app(scope, receive, send_with_headers)
        else:
            start = {
                "type": "http.response.start",
                "status": 404,
                "headers": [(b"content-length", b"0")],
            }
            await send_with_headers(start)
            await send({"type": "http.response.body", "body": b""})

    def _is_welcome(self, scope: Any) -> bool:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts, origins = headers.get(b"host", []), headers.get(b"origin", [])
        if len(hosts) != 1 or _hostname(hosts[0]) not in HOSTS:
            return False
        if any(origin != b"http://" + hosts[0] for origin in origins):
            return False
        given = scope["path"].removeprefix("/").partition("/")[0].encode("utf-8", "replace")
        return hmac.compare_digest(given, self._token)


def _hostname(host: bytes) -> str:
    name, _, port = host.decode("latin-1").partition(":")
    return name.lower() if not port or (port.isascii() and port.isdigit()) else ""


def serve(material: Material, port: int = 0, ready: Callable[[str], None] = print) -> None:
    """Serve the page until Ctrl-C.

    Parameters
    ----------
    material : Material
    port : int
        0 for any that is free.
    ready : callable
        Gets the address, once it answers.

    Raises
    ------
    UsageError
        If what serves is not installed, or the port is taken.
    SpectromerError
        If verdicts cannot be kept beside the results.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UsageError(
            "serving the page needs starlette and uvicorn, which are not installed", INSTALL
        ) from (error)
    path = verdicts_beside(material.table)
    verdicts = Verdicts(path)
    token = secrets.token_urlsafe(24)
    reader = Reader(material)
    app = application(material, verdicts, token, reader.ask)
    with _listening(port) as listener:
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, server_header=False, lifespan="off",
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        server = uvicorn.Server(config)

        def run() -> None:
            try:
                server.run(sockets=[listener])
            finally:
                reader.stop()

        # The main thread reads, see `Reader`.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            ready(f"http://{ADDRESS}:{listener.getsockname()[1]}/{token}/")
            console.info(f"verdicts are kept in {path}; stop with Ctrl-C")
            reader.work()
        except KeyboardInterrupt:
            console.info("inspection stopped; run the same command to resume")
        finally:
            server.should_exit = True
            thread.join(5.0)


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"--port {port} cannot be used: {reason}", "choose another port"
            ) from error
        listener.listen(128)
        yield listener
