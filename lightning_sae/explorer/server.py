"""The server of the explorer: it answers on this machine alone, to those who know its address."""

import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from lightning_sae.audit.report.page import FILE as AUDIT_PAGE
from lightning_sae.explorer.answers import Answers
from lightning_sae.explorer.page import page
from lightning_sae.explorer.seen import Seen
from lightning_sae.runs.folder import RunFolder

HOST = "127.0.0.1"
MARK = "X-Explorer"  # a header that a page of somewhere else cannot send without asking first
HEADERS = {"Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"}
LARGEST = 64 * 2**20  # bytes of an image that is sent


class RemovalQuestion(BaseModel):
    """The body of `POST /remove`; see `Answers.remove`."""

    model_config = ConfigDict(extra="forbid")

    image: str
    prompts: list[str] = []
    latents: list[int]
    shares: list[float]
    classes: list[int]


def new_token() -> str:
    """Return a random token for the address, which other users of the machine do not know."""
    return secrets.token_urlsafe(16)


def application(run: RunFolder, token: str) -> Starlette:
    """Return the application of a run; its page is made once, here.

    Everything lies behind the token, so that other users of the machine are not answered. A request is
    refused if it names another host, even one whose name leads to this machine, or if it is a question that
    does not come from the page.

    Args:
        run: an opened run; activations that its store lacks are captured.
        token: first part of every path.
    """
    content = page(run, Seen.of(run), run.folder, served=True)
    answers = None if run.data.clip.reads_texts else Answers(run)
    lock = Lock()

    async def shown(request: Request) -> Response:
        return HTMLResponse(content, headers=HEADERS)

    async def audit(request: Request) -> Response:
        file = run.folder / AUDIT_PAGE
        found = file.is_file()
        return FileResponse(file, headers=HEADERS) if found else Response("there is no audit", 404)

    async def image(request: Request) -> Any:
        words = request.query_params
        return await asked("describe", words.get("image", ""), words.getlist("prompt"))

    async def upload(request: Request) -> Any:
        return {"image": await asked("keep", await _body(request))}

    async def remove(request: Request) -> Any:
        try:
            wanted = RemovalQuestion.model_validate_json(await _body(request))
        except ValidationError as error:
            raise ValueError(f"not a removal: {error.errors()[0]['msg']}") from error
        return {"logits": await asked("remove", *wanted.model_dump().values())}

    async def asked(method: str, *arguments: Any) -> Any:
        if answers is None:
            raise ValueError("this run has latents of texts, and no image reaches them")

        def answer() -> Any:
            with lock:
                return getattr(answers, method)(*arguments)

        return await run_in_threadpool(answer)

    routes = [
        Route(f"/{token}/", shown),
        Route(f"/{token}/{AUDIT_PAGE}", audit),
        Route(f"/{token}/image", _as_json(image)),
        Route(f"/{token}/upload", _as_json(upload), methods=["POST"]),
        Route(f"/{token}/remove", _as_json(remove), methods=["POST"]),
    ]
    own = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False)
    return Starlette(routes=routes, middleware=[own])


def _as_json(answer: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint whose answer, or what is wrong with the question, is JSON."""

    async def endpoint(request: Request) -> Response:
        if MARK not in request.headers:
            return JSONResponse({"error": "only the page of the explorer may ask"}, status_code=403)
        try:
            return JSONResponse(await answer(request))
        except (ValueError, OSError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except Exception as error:  # the reader is told as well
            logging.getLogger(__name__).exception("no answer to %s", request.url.path)
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, status_code=500)

    return endpoint


async def _body(request: Request) -> bytes:
    """Return the body.

    Raises:
        ValueError: the body is larger than any image should be.
    """
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST:
            raise ValueError(f"the image has more than {LARGEST // 2**20} MiB")
    return bytes(content)


def listen(port: int) -> socket.socket:
    """Return a socket on this machine alone.

    Args:
        port: number of the port; 0 takes any free one.

    Raises:
        OSError: the port is taken.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        why = f"port {port} cannot be listened on ({error.strerror})"
        raise OSError(f"{why}: name another, --port N") from error


def serve(app: Starlette, listening: socket.socket) -> None:
    """Answer until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        return
