"""The cases: what is done to a peer in one round, and what is noted of it."""

import json
import os
import re
import subprocess
import time

from .machine import children, cpu_seconds, memory_kib, place

BULK_SQL = "SELECT 1 /* rows=100000 bytes=1024 */"
BULK_BYTES = 100_000 * 1024
#: The same amount from PostgreSQL.
REAL_BULK = "SELECT repeat('x', 1024) FROM generate_series(1, 100000)"


#: Seconds after which pgbench's clients are all logged in, also where a proxy derives their keys.
SETTLE = 0.8
#: No load takes longer than this; one that does hangs.
LOAD_TIMEOUT = 180
#: PgBouncer so; older ones do not follow prepared statements then.
TRANSACTION_MODE = ("pgbouncer-transaction",)


class Case:
    """One row of the report. `measures` names its columns and their units."""

    def __init__(self, name, measures, run, skip=()):
        self.name, self.measures, self.run, self.skip = name, measures, run, skip


class Bench:
    """Where the tools are, and where things may run."""

    def __init__(self, pgload, directory, layout, seconds, backend):
        self.pgload, self.directory, self.layout = pgload, directory, layout
        self.seconds, self.backend = seconds, backend

    def start(self, command, **options):
        """A load, placed like everything else of the layout."""
        return subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=(lambda: place([os.getpid()], *self.layout)) if self.layout else None, **options,
        )

    def finish(self, child):
        """What it says."""
        try:
            out, _ = child.communicate(timeout=LOAD_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
        if child.returncode != 0:
            raise RuntimeError(f"{' '.join(child.args)}\n{out[-2000:]}")
        return out

    def run(self, command, **options):
        return self.finish(self.start(command, **options))

    def place_servers(self):
        """PostgreSQL's new backends: each is a session, and so a scheduling group, of its own."""
        if self.layout:
            for pid in self.backend.pids:
                place(children(pid), *self.layout)

    def load(self, peer, what, *more):
        command = [self.pgload, what, "--port", peer.port, "--seconds", self.seconds, *peer.options, *more]
        for pid in peer.pids():
            command += ["--pid", pid]
        return json.loads(self.run(command))


# Against canned answers. `where` begins a case's name: what is on the legs.


def closed_loop(mode, clients, skip=(), where="canned"):
    def run(bench, peer):
        got = bench.load(peer, "loop", "--mode", mode, "--clients", clients)
        return {"CPU us/query": got["cpu_us"], "queries/s": got["per_second"], "p50 us": got["p50_us"],
                "p99 us": got["p99_us"]}

    return Case(f"{where}, {mode}, {clients} clients", ["CPU us/query", "queries/s", "p50 us", "p99 us"], run, skip)


def reconnect(clients, where="canned"):
    def run(bench, peer):
        got = bench.load(peer, "reconnect", "--clients", clients, "--warm-up", "0.1")
        return {"CPU us/connect": got["cpu_us"], "connects/s": got["per_second"]}

    return Case(f"{where}, connect and ask once, {clients} clients", ["CPU us/connect", "connects/s"], run)


def bulk(times, where="canned", measures=("MB/s", "CPU s/GB")):
    def run(bench, peer):
        got = bench.load(peer, "bulk", "--times", times, "--sql", BULK_SQL)
        return {"MB/s": got["bytes"] / 1e6 / got["seconds"], "CPU s/GB": got["cpu_seconds"] / (got["bytes"] / 1e9)}

    return Case(f"{where}, 100 MB of 1 KiB rows", list(measures), run)


def idle(sessions, hold_seconds, where="", plain=None):
    """Memory and processor time of sessions that have asked once and are silent. `plain`: what they take without TLS."""

    def run(bench, peer):
        before_rss, before_pss = memory_kib(peer.pids())
        command = [str(bench.pgload), "hold", "--port", str(peer.port), "--clients", str(sessions), *peer.options]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            if b"sessions" not in child.stdout.readline():
                raise RuntimeError(f"{peer.name} does not hold {sessions} sessions")
            time.sleep(1)
            began, spent = time.monotonic(), cpu_seconds(peer.pids())
            time.sleep(hold_seconds)
            used = (cpu_seconds(peer.pids()) - spent) / (time.monotonic() - began)
            rss, pss = memory_kib(peer.pids())
        finally:
            child.stdin.close()
            child.wait()
        time.sleep(0.5)
        each = (rss - before_rss) / sessions
        found = {"KiB above plain": each - plain[peer.name]} if plain else {}
        return found | {"RSS MiB": rss / 1024, "KiB/session": each,
                        "PSS KiB/session": (pss - before_pss) / sessions, "idle CPU %": used * 100}

    measures = ["KiB/session", "RSS MiB", "PSS KiB/session", "idle CPU %"]
    return Case(f"{where}{sessions} idle sessions", ["KiB above plain", *measures] if plain else measures, run,
                skip=("direct",))


# Against PostgreSQL.


def _pgbench(bench, peer, *more):
    """(TPS, CPU us per transaction), the latter of a window in the middle: logins are not queries."""
    backend, seconds = bench.backend, bench.seconds
    command = ["pgbench", "-n", "-S", "-h", "127.0.0.1", "-p", peer.port, "-U", backend.user, *more,
               "-T", int(seconds + SETTLE + 1), backend.database]
    environment = {"PGPASSWORD": backend.password, "PATH": "/usr/bin:/bin"}
    child = bench.start(command, env=environment, cwd=bench.directory)
    time.sleep(SETTLE / 2)
    bench.place_servers()
    time.sleep(SETTLE / 2)
    began, before = time.monotonic(), cpu_seconds(peer.pids())
    time.sleep(seconds)
    spent, took = cpu_seconds(peer.pids()) - before, time.monotonic() - began
    out = bench.finish(child)
    if "tps = " not in out:
        raise RuntimeError(f"pgbench through {peer.name}:\n{out}")
    tps = float(re.search(r"tps = ([\d.]+)", out).group(1))
    return tps, spent * 1e6 / max(took * tps, 1)


def pgbench(mode, clients, skip=()):
    def run(bench, peer):
        tps, cpu = _pgbench(bench, peer, "-M", mode, "-c", clients, "-j", 1)
        return {"CPU us/query": cpu, "TPS": tps}

    return Case(f"pgbench -S -M {mode} -c {clients}", ["CPU us/query", "TPS"], run, skip)


def pgbench_connect(where=""):
    def run(bench, peer):
        tps, cpu = _pgbench(bench, peer, "-C", "-c", 4)
        return {"CPU us/connect": cpu, "TPS": tps}

    return Case(f"{where}pgbench -S -C -c 4", ["CPU us/connect", "TPS"], run)


def pgbench_rate(rate, clients=16):
    """Latencies count from the time a query was due, so that a stall is not left out."""

    def run(bench, peer):
        prefix = bench.directory / "latency"
        for old in bench.directory.glob("latency.*"):
            old.unlink()
        _pgbench(bench, peer, "-M", "prepared", "-c", clients, "-R", rate, "-l", f"--log-prefix={prefix}")
        times = []
        for log in bench.directory.glob("latency.*"):
            times += [int(line.split()[2]) for line in log.read_text().splitlines()]
        times.sort()
        at = lambda share: times[min(int(len(times) * share), len(times) - 1)]
        return {"p50 us": at(0.5), "p95 us": at(0.95), "p99 us": at(0.99), "p99.9 us": at(0.999)}

    return Case(f"pgbench -S -M prepared -c {clients} -R {rate}", ["p50 us", "p95 us", "p99 us", "p99.9 us"], run,
                skip=TRANSACTION_MODE)


def real_bulk(verb):
    sql = REAL_BULK if verb == "SELECT" else f"COPY ({REAL_BULK}) TO STDOUT"

    def run(bench, peer):
        backend = bench.backend
        command = ["psql", "-qAtX", "-h", "127.0.0.1", "-p", peer.port, "-U", backend.user, "-d", backend.database,
                   "-o", "/dev/null", "-c", sql]
        before, began = cpu_seconds(peer.pids()), time.monotonic()
        bench.run(command, env={"PGPASSWORD": backend.password, "PATH": "/usr/bin:/bin"})
        took, spent = time.monotonic() - began, cpu_seconds(peer.pids()) - before
        return {"MB/s": BULK_BYTES / 1e6 / took, "CPU us/MB": spent * 1e6 / (BULK_BYTES / 1e6)}

    return Case(f"{verb} of 100 MB", ["MB/s", "CPU us/MB"], run)


# `no_prepared`: peers that prepared statements are not asked of.


def canned_cases(is_quick, no_prepared):
    cases = [closed_loop("simple", n) for n in (1, 16, 64)]
    if is_quick:
        cases += [closed_loop("extended", 16), closed_loop("prepared", 16, no_prepared), reconnect(1)]
    else:
        cases += [closed_loop("extended", n) for n in (1, 16, 64)]
        cases += [closed_loop("prepared", n, no_prepared) for n in (1, 16, 64)]
        cases += [reconnect(1), reconnect(16)]
    return cases + [bulk(1 if is_quick else 3)]


def idle_cases(is_quick, _no_prepared):
    return [idle(1000, 2 if is_quick else 10), idle(9000, 2 if is_quick else 10)]


def tls_cases(is_quick, legs):
    """What TLS adds. Processor time comes first: the ratios are of it."""
    cases = [closed_loop("simple", n, where=legs) for n in (1, 16, 64)]
    cases += [closed_loop("extended", n, where=legs) for n in (() if is_quick else (1, 16, 64))]
    cases += [closed_loop("prepared", n, where=legs) for n in ((16,) if is_quick else (1, 16, 64))]
    cases += [reconnect(n, legs) for n in ((1,) if is_quick else (1, 16))]
    return cases + [bulk(1 if is_quick else 3, legs, ("CPU s/GB", "MB/s"))]


#: Sessions whose memory is compared with and without TLS.
TLS_SESSIONS = 1000


def tls_idle(is_quick, legs=None, plain=None):
    return idle(TLS_SESSIONS, 1 if is_quick else 5, f"{legs}, " if legs else "", plain)


def postgres_cases(is_quick, no_prepared):
    if is_quick:
        cases = [pgbench("simple", 1), pgbench("prepared", 16, no_prepared), pgbench("simple", 64)]
    else:
        cases = [pgbench(mode, n, no_prepared if mode == "prepared" else ())
                 for mode in ("simple", "extended", "prepared") for n in (1, 16, 64)]
    return cases + [pgbench_connect(), pgbench_rate(1000 if is_quick else 2000), real_bulk("SELECT"), real_bulk("COPY")]
