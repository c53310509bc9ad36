"""`bindsearch serve`: the search page and the API."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from bindsearch.cli.options import OnOption, StoreOption, option
from bindsearch.cli.output import print_line, print_message, print_notices
from bindsearch.errors import InstallationError, UsageError

DEFAULT_PORT = 8642
EXTRA = "the page and the API need the extra [serve]: pip install 'bindsearch[serve]'"


def serve_command(
    store: StoreOption = None,
    host: Annotated[
        str, option("--host A", "Address to listen on; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, option("--port N", "Port; 0 takes a free one.", min=0, max=65535)] = (DEFAULT_PORT),
    token_file: Annotated[
        Path | None, option("--token-file FILE", "Ask for the token in this file; it is made if missing.")
    ] = None,
    open_page: Annotated[bool, option("--open", "Open the page in a browser.")] = False,
    no_socket: Annotated[
        bool, option("--no-socket", "Do not answer commands such as search, which are quicker through it.")
    ] = False,
    on: OnOption = None,
    processes: Annotated[int, option("--processes N", "With --on: processes that answer.", min=1)] = 2,
    replicas: Annotated[int, option("--replicas N", "With --on: processes that hold each shard.", min=1)] = 1,
    encoders: Annotated[int, option("--encoders N", "With --on: processes that encode queries.", min=1)] = 1,
    gpus: Annotated[float, option("--gpus N", "With --on: GPUs of each encoder.")] = 0.0,
) -> None:
    """Serve a page to search with, its JSON API, and the commands of this user, until interrupted.

    Examples: bindsearch serve --open
    bindsearch serve --host 0.0.0.0 --token-file ~/.bindsearch-token
    bindsearch serve --store /data/store --on ray://head:10001 --replicas 2
    """
    from importlib.util import find_spec

    from bindsearch.shards.layout import is_sharded
    from bindsearch.storage.config import resolve_store

    if any(find_spec(module) is None for module in ("fastapi", "uvicorn")):
        raise InstallationError(EXTRA)

    def tell(url: str) -> None:
        print_line(f"serving {folder} at {url}")
        print_message("press Ctrl-C to stop")
        if open_page:
            import webbrowser

            webbrowser.open(url)

    folder = resolve_store(store).absolute()
    shown_store = None if store is None else str(folder)
    if on is not None:
        from bindsearch.server.ray_serve.deploy import ServiceSettings, serve_store

        settings = ServiceSettings(
            host,
            port,
            token_file,
            processes,
            shown_store=shown_store,
            on=on,
            replicas=replicas,
            encoders=encoders,
            encoder_gpus=gpus,
        )
        serve_store(folder, settings, tell)
        return
    if is_sharded(folder):
        raise UsageError(f"{folder} has shards: serve it with --on local, or on a cluster")
    from bindsearch.server.run import serve

    try:
        is_idle = serve(
            folder,
            host=host,
            port=port,
            token_file=token_file,
            shown_store=shown_store,
            use_socket=not no_socket,
            on_start=tell,
            on_notice=lambda notice: print_notices([notice]),
        )
    except KeyboardInterrupt:  # while it starts
        return
    if not is_idle:  # Python cannot interrupt a thread, and would wait for it, minutes for a long video
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
