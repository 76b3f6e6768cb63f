"""From a trained run to a server on a port, and its end."""

import re
import signal
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn

from jaxgpt.buckets import is_in_bucket
from jaxgpt.data.reopen import token_counts
from jaxgpt.errors import UserError, is_text, shown
from jaxgpt.inference.engine import Engine
from jaxgpt.inference.generate import in_full_precision, text_stop
from jaxgpt.run.load import Trained
from jaxgpt.serve.api import Served, make_app
from jaxgpt.serve.inspecting import make_inspector
from jaxgpt.serve.middleware import LOCAL_NAMES, Access
from jaxgpt.serve.starters import answered, known_of

GRACE = 4.0  # seconds that running sequences have to end


def serve(trained: Trained, listener: socket.socket, access: Access, slots: int) -> None:
    """Serves a run on a socket of `listen` until Ctrl-C or SIGTERM."""
    print(f"{trained.run.path}, step {trained.step}: compiling, a moment ...", flush=True)
    model = trained.params, in_full_precision(trained.config.model), trained.run.tokenizer
    run = trained.run
    inspector = make_inspector(*model, token_counts(run.data, run.tokenizer, run.config.data))
    engine = Engine(*model, slots)
    engine.compile()
    host, port = listener.getsockname()[:2]
    app = make_app(engine, inspector, describe(trained, engine), access)
    server = Server(engine, f"http://{f'[{host}]' if ':' in host else host}:{port}", app)
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn sends itself the signals again when it is done
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
    engine.close()


def describe(trained: Trained, engine: Engine) -> Served:
    """Returns what the API says of a run."""
    run = trained.run
    data, prompt = run.data, run.config.run.sample_prompt
    stop_id = text_stop(run.tokenizer, data.ends_with_line(run.config.data))
    known = known_of(data.name, data.full_name, data.is_chat, prompt)
    return Served(
        name=run.path.resolve().name,
        config=trained.config.model,
        tokenizer=run.tokenizer,
        is_chat=run.data.is_chat,
        stop_id=stop_id,
        created=0 if is_in_bucket(run.path) else int((run.path / "config.json").stat().st_mtime),
        about={
            "step": trained.step,
            "data": data.full_name,
            "sample_prompt": prompt,
            "end_id": run.tokenizer.special.end if data.is_chat else stop_id,
            "knows": known.sentence,
            "starters": answered(engine, run.tokenizer, known.starters),
        },
    )


def make_access(
    host: str, api_key: str | None, public_names: Sequence[str] = (), origins: Sequence[str] = ()
) -> Access:
    """Returns who may ask a server that listens on `host`; raises UserError for names and origins that are none.

    Where it listens on this machine alone it answers under this machine's names, and under its public ones, by which a
    proxy on the same machine knows it.
    """
    for name in public_names:
        if not name or set(name) & set("/:@ ") or name != name.lower():
            raise UserError(f"public_name: {shown(name)} was given; it must be a host's name, as chat.example.org")
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise UserError(f"allow_origin: {shown(origin)} was given; it must be * or a site, as https://example.org")
    names = (*LOCAL_NAMES, *public_names) if host in LOCAL_NAMES or public_names else None
    return Access(api_key, names, tuple(origins))


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens, on a free port where port is 0; raises UserError when there is none."""
    if not 0 <= port <= 65535:
        raise UserError(f"port: {shown(port)} was given; it must be between 0 and 65535")
    if not host:
        raise UserError("host: it is empty; 127.0.0.1 is this machine, 0.0.0.0 is everywhere")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if not is_text(host):
            raise UnicodeError("not a name")
        host.encode("idna")
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where = f"{host if is_text(host) else shown(host)}:{port}"
        raise UserError(f"{where}: cannot listen there ({reason}); choose another --port or --host") from None


class Server(uvicorn.Server):
    """Prints its address once it answers; when it is told to stop, running sequences have a while to end."""

    def __init__(self, engine: Engine, url: str, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=int(GRACE) + 2,
            )
        )
        self._engine, self._url = engine, url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer, and prints the address."""
        await super().startup(sockets)
        print(f"listening on {self._url} (Ctrl-C stops)", flush=True)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Takes no more, at the first signal; a second Ctrl-C stops at once."""
        self._engine.stop_soon(GRACE)
        super().handle_exit(sig, frame)
