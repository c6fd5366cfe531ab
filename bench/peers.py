"""Peers: other servers that are measured where they are installed.

Each is a function that gives a `Server`, or `None` where its program is missing; `PEERS` is all of them. A server that
needs no file of its own can be given on the command line instead: `--peer NAME KEY COMMAND`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence

from bench.servers import Server, Setting

# One process, as all others have; no log; what it would write to disk it keeps in its directory.
_NGINX = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_max_body_size 16m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000;
    upstream provider {{
        server {provider};
        keepalive 1000;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 3600s;
        }}
    }}
}}
"""


def nginx() -> Server | None:
    """A relay in C: no key is checked, nothing is counted or recorded."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        return None

    def command(told: Setting) -> Sequence[str]:
        path = told.directory / "nginx.conf"
        provider = told.provider.removeprefix("http://")
        path.write_text(_NGINX.format(port=told.port, provider=provider, directory=told.directory))
        return [program, "-p", str(told.directory), "-c", str(path)]

    return Server("nginx", command)


PEERS: Mapping[str, Callable[[], Server | None]] = {"nginx": nginx}


def installed(names: Sequence[str] = tuple(PEERS)) -> list[Server]:
    """Those of `names` that can be started here."""
    return [server for name in names if (server := PEERS[name]()) is not None]
