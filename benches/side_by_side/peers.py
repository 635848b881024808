"""What is compared: HAProxy, PgBouncer, Trunkline, and others by name, port and pid file."""

import re
import shutil
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from .machine import Process, await_port, children, first_line, free_port

#: Sessions of the largest case, with room for those that come and go.
SESSIONS_MAX = 9500
#: The first PgBouncer that follows prepared statements in transaction mode.
FOLLOWS_PREPARED = (1, 21)


@dataclass
class Backend:
    """Where the queries end."""

    servers: list  # ports; the first is a primary
    user: str
    password: str
    database: str
    monitor: str
    #: Where their Unix sockets are.
    socket_dir: str
    pids: list = field(default_factory=list)


@dataclass
class Peer:
    name: str
    port: int
    process: Process = None
    pid: int = None
    #: What the load is told of it.
    options: list = field(default_factory=list)
    #: Where Trunkline has its metrics.
    http: int = None

    def pids(self):
        pid = self.process.pid if self.process else self.pid
        return children(pid) if pid else []

    def opened(self):
        """Connections to servers that Trunkline's pools have opened; of others, none is known."""
        if not self.http:
            return 0
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=5) as answer:
            found = re.search(r'^trunkline_pool_checkouts_total\{result="opened"\} (\d+)', answer.read().decode(), re.M)
        return int(found.group(1)) if found else 0

    def stop(self):
        if self.process:
            self.process.stop()


def direct(backend):
    return Peer("direct", backend.servers[-1])


def haproxy(backend, directory, threads, tls=None):
    port = free_port()
    of_bind, of_server = tls.haproxy() if tls else ("", "")
    reads = backend.servers[1:] or backend.servers
    servers = "\n".join(f"    server s{n} 127.0.0.1:{at} check inter 2s{of_server}" for n, at in enumerate(reads))
    config = f"""global
    maxconn {SESSIONS_MAX}
    nbthread {threads}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen reads
    bind 127.0.0.1:{port}{of_bind}
    balance roundrobin
{servers}
"""
    peer = _started("haproxy", port, ["haproxy", "-db", "-f"], config, directory / "haproxy.cfg")
    peer.options = tls.load("direct") if tls else []
    return peer


def pgbouncer(backend, directory, mode, program="pgbouncer", tls=None, pool=None):
    port = free_port()
    write_users(backend, directory)
    size = 100 if backend.password else SESSIONS_MAX
    auth_type = pool.auth_type if pool else "scram-sha-256" if backend.password else "trust"
    pooling = (pool.pgbouncer(follows_prepared(program)) if pool
               else f"default_pool_size = {size}\nserver_idle_timeout = 36000\n")
    config = f"""[databases]
{backend.database} = host=127.0.0.1 port={backend.servers[-1]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = {auth_type}
auth_file = {directory}/users.txt
pool_mode = {mode}
max_client_conn = {SESSIONS_MAX}
{pooling}server_lifetime = 36000
unix_socket_dir =
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
{tls.pgbouncer() if tls else ""}"""
    name = f"pgbouncer-{mode}"
    # It refuses to run as root.
    peer = _started(name, port, [program, "-q", "-u", "nobody"], config, directory / f"{name}.ini")
    peer.options = tls.load("postgres") if tls else []
    return peer


def trunkline(backend, directory, threads, binary, name="trunkline", host="127.0.0.1", tls=None, pool=None):
    """`host` is where the servers are: an address, or the directory of their Unix sockets."""
    port, http = free_port(), free_port()
    primary, *replicas = backend.servers
    targets = ["--primary", f"primary={host}:{primary}"]
    for number, at in enumerate(replicas, 1):
        targets += ["--replica", f"replica{number}={host}:{at}"]
    config = directory / f"{name}.toml"
    write_users(backend, directory)
    config.write_text("[health]\nslow_start = \"0\"\n" + (tls.trunkline() if tls else "")
                      + (pool.trunkline(directory) if pool else '[auth]\nmode = "relay"\n'))
    command = [binary, "serve", "--config", config, *targets, "--reads", f"127.0.0.1:{port}"]
    command += ["--http", f"127.0.0.1:{http}", "--monitor", backend.monitor, "--threads", str(threads)]
    peer = Peer(name, port, Process([str(word) for word in command], directory / f"{name}.log"), http=http)
    names = ["primary"] + [f"replica{number}" for number, _ in enumerate(replicas, 1)]
    peer.options = tls.load("postgres") if tls else []
    for target in names:
        await_up(peer, f"http://127.0.0.1:{http}/{target}")
    return peer


def write_users(backend, directory):
    """In the format that both read."""
    (directory / "users.txt").write_text(f'"{backend.user}" "{backend.password}"\n')


def other(text):
    """`name=port:pidfile`"""
    name, _, where = text.partition("=")
    port, _, pid_file = where.partition(":")
    return Peer(name, int(port), pid=int(Path(pid_file).read_text().split()[0]))


def _started(name, port, command, config, path):
    path.write_text(config)
    peer = Peer(name, port, Process([*command, str(path)], path.with_suffix(".log")))
    try:
        await_port(port)
    except OSError as error:
        log = path.with_suffix(".log").read_text()[-2000:]
        peer.stop()
        raise RuntimeError(f"{name} does not listen:\n{log}") from error
    return peer


def await_up(peer, url, limit=20):
    until = time.monotonic() + limit
    while True:
        try:
            if urllib.request.urlopen(url, timeout=1).status == 200:
                return
        except OSError as error:
            if time.monotonic() > until or peer.process.child.poll() is not None:
                log = Path(peer.process.log.name).read_text()[-2000:]
                peer.stop()
                raise RuntimeError(f"{peer.name} is not ready: {error}\n{log}") from error
        time.sleep(0.05)


def install_missing(pgbouncer):
    """Debian's packages of what is compared, where they are missing."""
    wanted = {"haproxy": "haproxy", "openssl": "openssl", pgbouncer: "pgbouncer", "pgbench": "postgresql-contrib"}
    missing = [package for tool, package in wanted.items() if not shutil.which(tool)]
    if missing:
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], check=True)


def newest_pgbouncer(target):
    """What scripts/bench/pgbouncer.sh has put below `target`, or else the one of this machine."""
    fetched = sorted(Path(target).glob("tools/pgbouncer-*/run"))
    return str(fetched[-1]) if fetched else "pgbouncer"


def follows_prepared(program):
    """Whether such a PgBouncer prepares a client's statements on each of its server connections."""
    version = re.search(r"(\d+)\.(\d+)", first_line(program, "-V"))
    return bool(version) and tuple(map(int, version.groups())) >= FOLLOWS_PREPARED


def versions(binary, pgbouncer):
    return {
        "haproxy": first_line("haproxy", "-v"),
        "pgbouncer": ", ".join(filter(None, [first_line(pgbouncer, "-V"), _library(pgbouncer)])),
        "openssl": first_line("openssl", "version"),
        "trunkline": first_line(binary, "--version"),
        "pgbench": first_line("pgbench", "--version"),
    }


def _library(pgbouncer):
    """The TLS library it says it has."""
    out = subprocess.run([pgbouncer, "-V"], capture_output=True, text=True, check=False).stdout
    return next((line.removeprefix("tls: ") for line in out.splitlines() if line.startswith("tls: ")), "")
