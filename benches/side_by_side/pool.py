"""Pooling: many clients on few server connections, and how each proxy is told to do so."""

import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .cases import LOAD_TIMEOUT, SETTLE, Case, closed_loop, pgbench_connect, reconnect
from .machine import connections_to, cpu_seconds, memory_kib

#: What begins a case's name.
TRANSACTION, SESSION = "transaction mode", "session mode"
TWO_WORKERS = f"{TRANSACTION}, two workers"
#: Server connections, for as many clients.
POOL_SIZE, CLIENTS = 20, (16, 64, 500)
SCRAM = "scram-sha-256"
MODES = ("simple", "extended", "prepared")
#: Prepared statements that are kept on a server connection.
STATEMENTS_MAX = 200
#: Seconds that nothing is idle for while a case runs.
NEVER = 36000
#: Clients at both ends of the span in which the memory of one is found.
IDLE_CLIENTS = (500, 9000)
#: Seconds after which an idle server connection is closed: one that is open long after that is held by a client.
IDLE_TIMEOUT = 1
#: Seconds in which all of these must be closed; PgBouncer looks at them three times a second.
RELEASE_MAX = 20
#: Seconds in which pgbench has logged in its clients, one after the other, and each has had its first turns.
LOGINS_MAX = 60
#: Bytes that these leave in pgbench's log, for each client: some four lines.
WARM_BYTES = 100


@dataclass
class Pool:
    """How the proxies pool."""

    #: In PgBouncer's words.
    mode: str
    #: How clients log in, in PgBouncer's words: by nothing, where logins are not what is measured.
    auth_type: str = "trust"
    #: Seconds, of a server connection.
    idle_timeout: int = NEVER
    #: Threads of Trunkline; PgBouncer has one. With it, nothing is pinned.
    workers: int = None

    def pgbouncer(self, follows_prepared):
        """`follows_prepared`: whether it knows the key."""
        statements = f"max_prepared_statements = {STATEMENTS_MAX}\n" if follows_prepared else ""
        return f"default_pool_size = {POOL_SIZE}\nserver_idle_timeout = {self.idle_timeout}\n{statements}"

    def trunkline(self, directory):
        """It has the file of users and the `auth_type` of PgBouncer."""
        users, rules = directory / "users.txt", directory / "trust.hba"
        auth = f'[auth]\nmode = "verify"\nusers_file = "{users}"\n'
        if self.auth_type == "trust":
            rules.write_text("host all all all trust\n")
            auth += f'hba_file = "{rules}"\n'
        return (f'{auth}[pool]\npool_mode = "{self.mode}"\nserver_reuse = "on"\npool_size = {POOL_SIZE}\n'
                f'server_idle_timeout = "{self.idle_timeout}s"\nserver_lifetime = "{NEVER}s"\n'
                f"max_prepared_statements = {STATEMENTS_MAX}\n")

    def shared(self, case):
        """The case with warm pools, in which Trunkline must share: one connection for each client is not what is measured."""
        run, warm = case.run, {"direct"}
        is_kept = self.idle_timeout == NEVER
        # Those that may have been closed in between are opened again.
        most = POOL_SIZE if is_kept else 5 * POOL_SIZE

        def watched(bench, peer):
            if is_kept and peer.name not in warm:
                run(bench, peer)
                warm.add(peer.name)
            # Not before: in session mode the first clients each open one, until the defaults of the first login are known.
            before = peer.opened()
            found = run(bench, peer)
            opened = peer.opened() - before
            if opened > most:
                raise RuntimeError(f"{peer.name} opened {opened} server connections in a round of {case.name}")
            return found

        case.run = watched
        return case


def canned_cases(is_quick, no_prepared):
    """[(Pool, its cases)] for the server of canned answers."""

    def loops(where, clients):
        return [closed_loop(mode, n, no_prepared if mode == "prepared" else (), where) for mode in MODES for n in clients]

    def connects(where):
        return [reconnect(n, where) for n in ((1,) if is_quick else (1, 16))]

    return [
        (Pool("transaction"), loops(TRANSACTION, CLIENTS) + connects(TRANSACTION)),
        (KEPT, connects(SESSION)),
        (Pool("transaction", workers=2), two_workers(no_prepared)),
    ]


#: Session mode in which the next client gets the server connection.
KEPT = Pool("session")


def tls_cases(is_quick, legs):
    """New sessions with TLS, whose server connections are there."""
    return [KEPT.shared(reconnect(n, f"{legs}, {SESSION}")) for n in ((1,) if is_quick else (1, 16))]


def idle_cases(is_quick):
    return [(Pool("transaction", idle_timeout=IDLE_TIMEOUT), [idle(*IDLE_CLIENTS, 2 if is_quick else 10)])]


def postgres_cases(is_quick, no_prepared):
    """The same for PostgreSQL."""
    wanted = [("simple", 16), ("extended", 64), ("prepared", 500)] if is_quick else [(m, n) for m in MODES for n in CLIENTS]
    cases = [pgbench(mode, n, no_prepared if mode == "prepared" else ()) for mode, n in wanted]
    cases += [pgbench("prepared", 16, no_prepared, 1000 if is_quick else 2000)]
    return [(Pool("transaction"), cases),
            (Pool("transaction", SCRAM), [pgbench_connect(f"{TRANSACTION}, ")]),
            (Pool("session", SCRAM), [pgbench_connect(f"{SESSION}, ")])]


def two_workers(no_prepared):
    cases = [closed_loop(mode, CLIENTS[-1], no_prepared if mode == "prepared" else (), TWO_WORKERS) for mode in MODES]
    for case in cases:
        # Its ratio is of what comes first.
        case.measures = ["queries/s", *(measure for measure in case.measures if measure != "queries/s")]
    return cases


def pgbench(mode, clients, skip=(), rate=None, where=TRANSACTION, script=None):
    """pgbench's own log says which transactions ended in the window: no login is in it, however long those took.

    It runs its own SELECT, or the `script` of this name and text. With a `rate` latencies count from the time a query was due, so that a stall is not left out.
    """

    def run(bench, peer):
        backend, prefix = bench.backend, bench.directory / "pooled"
        for old in bench.directory.glob("pooled.*"):
            old.unlink()
        runs = ["-S"]
        if script:
            (bench.directory / f"{script[0]}.sql").write_text(script[1])
            runs = ["-f", bench.directory / f"{script[0]}.sql"]
        command = ["pgbench", "-n", *runs, "-M", mode, "-c", clients, "-j", 1, "-T", LOAD_TIMEOUT, "-l",
                   f"--log-prefix={prefix}", "-h", "127.0.0.1", "-p", peer.port, "-U", backend.user,
                   *(("-R", rate) if rate else ()), backend.database]
        child = bench.start(command, env={"PGPASSWORD": backend.password, "PATH": "/usr/bin:/bin"}, cwd=bench.directory)
        try:
            _await_warm(child, prefix, clients)
            bench.place_servers()
            time.sleep(SETTLE / 2)
            began, before = time.time(), cpu_seconds(peer.pids())
            time.sleep(bench.seconds)
            spent, ended = cpu_seconds(peer.pids()) - before, time.time()
            # What ends it is -T's alarm, only now.
            child.send_signal(signal.SIGALRM)
            bench.finish(child)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        times = sorted(_latencies(_log(prefix), began, ended))
        if not times:
            raise RuntimeError(f"pgbench through {peer.name} ended no transaction in {bench.seconds} s")
        at = lambda share: times[int(len(times) * share)]
        return {"CPU us/query": spent * 1e6 / len(times), "TPS": len(times) / (ended - began),
                "p50 us": at(0.5), "p99 us": at(0.99)}

    # PostgreSQL would not let in so many.
    direct = ("direct",) if clients > max(CLIENTS[:-1]) else ()
    measures = ["p50 us", "p99 us", "CPU us/query"] if rate else ["CPU us/query", "TPS", "p50 us", "p99 us"]
    what = script[0] if script else "-S"
    name = f"{where}, pgbench {what} -M {mode} -c {clients}" + (f" -R {rate}" if rate else "")
    return Case(name, measures, run, skip=(*skip, *direct))


def _log(prefix):
    return next(Path(prefix.parent).glob(f"{prefix.name}.*"), None)


def _await_warm(child, prefix, clients):
    """Returns when all clients are in and have had some turns; before the first a server connection may have been opened."""
    until = time.monotonic() + LOGINS_MAX
    while not ((log := _log(prefix)) and log.stat().st_size > clients * WARM_BYTES):
        if child.poll() is not None or time.monotonic() > until:
            child.kill()
            out, _ = child.communicate()
            raise RuntimeError(f"{' '.join(child.args)}\nfew transactions in {LOGINS_MAX} s\n{out[-2000:]}")
        time.sleep(0.02)


def _latencies(log, began, ended):
    """Microseconds of each transaction that ended between the two, by pgbench's log of client, number, time, script, end."""
    for line in log.read_text().splitlines():
        _client, _number, took, _script, seconds, microseconds = line.split()[:6]
        if began <= int(seconds) + int(microseconds) / 1e6 < ended:
            yield int(took)


def idle(few, many, hold_seconds):
    """Memory of a client that has asked once and is silent, from `few` of them to `many`, and what servers have of them."""

    def run(bench, peer):
        ports = bench.backend.servers
        # The health check's are there before.
        own = connections_to(peer.pids(), ports)
        held = []
        try:
            held.append(_hold(bench, peer, few))
            time.sleep(hold_seconds)
            first, _ = memory_kib(peer.pids())
            held.append(_hold(bench, peer, many - few))
            spent, began = cpu_seconds(peer.pids()), time.monotonic()
            time.sleep(hold_seconds)
            used = (cpu_seconds(peer.pids()) - spent) / (time.monotonic() - began)
            last, _ = memory_kib(peer.pids())
            until = began + RELEASE_MAX
            while (kept := connections_to(peer.pids(), ports) - own) > 0 and time.monotonic() < until:
                time.sleep(0.2)
        finally:
            for child in held:
                child.stdin.close()
                child.wait()
        return {"bytes/client": (last - first) * 1024 / (many - few), "server connections": kept,
                "RSS MiB": last / 1024, "idle CPU %": used * 100}

    return Case(f"{TRANSACTION}, {few} to {many} idle clients",
                ["bytes/client", "server connections", "RSS MiB", "idle CPU %"], run, skip=("direct",))


def _hold(bench, peer, clients):
    command = [str(bench.pgload), "hold", "--port", str(peer.port), "--clients", str(clients), *peer.options]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if b"sessions" not in child.stdout.readline():
        child.kill()
        child.wait()
        raise RuntimeError(f"{peer.name} does not hold {clients} clients")
    return child
