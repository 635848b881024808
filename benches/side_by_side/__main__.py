"""Trunkline beside other proxies, in one run on one machine: `python3 -m side_by_side --help` from `benches/`."""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import cases, peers, plot, pool, report, split, tls
from .machine import Process, children, describe, load_average, place, steal_ticks

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["canned", "idle", "tls", "pool", "split", "postgres"]


def arguments():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a quarter of an hour")
    parser.add_argument("--layout", choices=["pinned", "free"], default="pinned",
                        help="pinned: proxy, server and load on one core; free: where the kernel puts them")
    parser.add_argument("--rounds", type=int, help="rounds of each case")
    parser.add_argument("--seconds", type=float, help="length of one measurement")
    parser.add_argument("--nice", type=int, default=-15, help="priority of everything measured")
    parser.add_argument("--cpu", type=int, default=os.cpu_count() - 1, help="the core of the pinned layout")
    parser.add_argument("--threads", type=int, default=1, help="threads of Trunkline and HAProxy")
    parser.add_argument("--only", default="", help="cases whose name matches this pattern")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PORT:PIDFILE",
                        help="another proxy, already running; with it only `--stage` makes sense that it is in front of")
    parser.add_argument("--binary", action="append", default=[], metavar="NAME=PATH", help="another Trunkline to compare")
    parser.add_argument("--pgbouncer", metavar="PROGRAM",
                        help="default: Debian's newest, which `make bench` downloads, or the machine's own")
    parser.add_argument("--without", default="", help="peers to leave out, by name, separated by commas")
    parser.add_argument("--stage", choices=STAGES, action="append", help="default: all")
    parser.add_argument("--canned-port", type=int, default=0, help="port of the canned server, for --peer")
    parser.add_argument("--bin-dir", type=Path, help="directory of the built binaries")
    parser.add_argument("--results", type=Path, default=ROOT / "benches/results")
    parser.add_argument("--name", help="file name of the results")
    return parser.parse_args()


class Run:
    def __init__(self, args, directory):
        self.args, self.directory = args, directory
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.bin_dir = args.bin_dir or target / "release"
        self.pgbouncer = args.pgbouncer or peers.newest_pgbouncer(target)
        self.layout = ({args.cpu}, args.nice) if args.layout == "pinned" else None
        self.rounds = args.rounds or (4 if args.quick else 9)
        self.seconds = args.seconds or (0.5 if args.quick else 1.0)
        self.found, self.done, self.skipped = {}, [], []
        self.trunklines = [("trunkline", self.bin_dir / "trunkline")]
        self.trunklines += [tuple(text.split("=", 1)) for text in args.binary]

    def stage(self, name):
        if name in ("tls", "pool", "split"):
            {"tls": self.tls, "pool": self.pool, "split": self.split}[name]()
            return
        begin = {"canned": self.canned, "idle": self.canned, "postgres": self.postgres}[name]
        wanted = {"canned": cases.canned_cases, "idle": cases.idle_cases, "postgres": cases.postgres_cases}[name]
        rounds = 1 if name == "idle" else self.rounds if name == "canned" else max(1, self.rounds - 2)
        chosen = self.chosen(wanted(self.args.quick, self.no_prepared()))
        if not chosen:
            return
        process, backend = begin()
        try:
            if name == "idle":
                # A peer of its own each time: memory that a case before has left behind is not the sessions'.
                for case in chosen:
                    self.with_peers(backend, [case], 1)
            else:
                self.with_peers(backend, chosen, rounds)
        finally:
            process.stop()

    def no_prepared(self):
        """Peers that cannot serve prepared statements."""
        return () if peers.follows_prepared(self.pgbouncer) else cases.TRANSACTION_MODE

    def chosen(self, wanted):
        return [case for case in wanted if re.search(self.args.only, case.name)]

    def tls(self):
        """The cases of the canned server and the idle ones, with TLS on one leg and on both."""
        quick = self.args.quick
        busy = {legs: self.chosen(cases.tls_cases(quick, legs)) for legs in tls.LEGS}
        kept = {legs: self.chosen(pool.tls_cases(quick, legs)) for legs in tls.LEGS}
        idle = [legs for legs in tls.LEGS if self.chosen([cases.tls_idle(quick, legs)])]
        plain = self.idle_plain() if idle else {}
        files = tls.make(self.directory)
        process, backend = self.canned(["--certificate", files.certificate, "--key", files.key])
        try:
            for legs, chosen in busy.items():
                if chosen:
                    self.with_peers(backend, chosen, self.rounds, tls.Tls(files, legs))
            for legs, chosen in kept.items():
                if chosen:
                    self.with_peers(backend, chosen, self.rounds, tls.Tls(files, legs), pool.KEPT)
            for legs in idle:
                self.with_peers(backend, [cases.tls_idle(quick, legs, plain)], 1, tls.Tls(files, legs))
        finally:
            process.stop()

    def pool(self):
        """Both modes of pooling: against canned answers, with idle clients, and against one PostgreSQL."""
        quick, no_prepared = self.args.quick, self.no_prepared()
        self.pooled(self.canned, pool.canned_cases(quick, no_prepared), self.rounds)
        self.pooled(self.canned, pool.idle_cases(quick), 1)
        self.pooled(self.postgres, pool.postgres_cases(quick, no_prepared), max(1, self.rounds - 2))

    def split(self):
        """One port for reads and writes beside a port for each, of the same process."""
        chosen = self.chosen(split.cases(self.args.quick))
        if not chosen:
            return
        process, backend = self.postgres()
        try:
            split.prepare(backend)
            makers = split.makers(backend, self.directory, self.args.threads, self.bin_dir / "trunkline")
            self.with_peers(backend, chosen, max(1, self.rounds - 2), makers=makers)
        finally:
            process.stop()

    def pooled(self, begin, wanted, rounds):
        wanted = [(pooling, chosen) for pooling, of_it in wanted if (chosen := self.chosen(map(pooling.shared, of_it)))]
        if not wanted:
            return
        process, backend = begin()
        # A pool is that of one server: with more of them Trunkline has more connections.
        backend.servers = backend.servers[:1]
        try:
            for pooling, chosen in wanted:
                self.with_peers(backend, chosen, rounds, pooling=pooling)
        finally:
            process.stop()

    def idle_plain(self):
        """{peer: KiB} of an idle session without TLS: of this run's case, which is measured now if it was not yet."""
        case = cases.tls_idle(self.args.quick)
        if case.name not in self.found:
            process, backend = self.canned()
            try:
                self.with_peers(backend, [case], 1)
            finally:
                process.stop()
        return {peer: values[0]["KiB/session"] for peer, values in self.found[case.name].items()}

    def with_peers(self, backend, chosen, rounds, legs=None, pooling=None, makers=None):
        running = []
        # One core has no room for two workers.
        layout = None if pooling and pooling.workers else self.layout
        try:
            self.start(backend, running, layout, makers or self.makers(backend, legs, pooling))
            bench = cases.Bench(self.bin_dir / "pgload", self.directory, layout, self.seconds, backend)
            for case in chosen:
                self.measure(bench, case, running, rounds)
        finally:
            for peer in running:
                peer.stop()

    def makers(self, backend, legs, pooling):
        """{name: what starts it}. With TLS the proxies alone, each once; pooling, those that do so."""
        directory, threads = self.directory, self.args.threads
        if pooling:
            return self.pooling_makers(backend, pooling, legs)
        makers = {
            "direct": lambda: peers.direct(backend),
            "haproxy": lambda: peers.haproxy(backend, directory, threads, legs),
            "pgbouncer-session": lambda: peers.pgbouncer(backend, directory, "session", self.pgbouncer, legs),
            "pgbouncer-transaction": lambda: peers.pgbouncer(backend, directory, "transaction", self.pgbouncer),
        }
        for name, binary in self.trunklines:
            makers[name] = lambda name=name, binary=binary: peers.trunkline(
                backend, directory, threads, binary, name, tls=legs)
        if legs:
            return {name: make for name, make in makers.items() if name not in ("direct", "pgbouncer-transaction")}
        makers["trunkline-socket"] = lambda: peers.trunkline(
            backend, directory, threads, self.bin_dir / "trunkline", "trunkline-socket", backend.socket_dir)
        for text in self.args.peer:
            makers[text.split("=")[0]] = lambda text=text: peers.other(text)
        return makers

    def pooling_makers(self, backend, pooling, legs=None):
        directory, threads = self.directory, pooling.workers or self.args.threads
        makers = {} if legs else {"direct": lambda: peers.direct(backend)}
        makers[f"pgbouncer-{pooling.mode}"] = lambda: peers.pgbouncer(
            backend, directory, pooling.mode, self.pgbouncer, legs, pooling)
        for name, binary in self.trunklines:
            makers[name] = lambda name=name, binary=binary: peers.trunkline(
                backend, directory, threads, binary, name, tls=legs, pool=pooling)
        for text in self.args.peer:
            makers[text.split("=")[0]] = lambda text=text: peers.other(text)
        return makers

    def start(self, backend, running, layout, makers):
        without = self.args.without.split(",")
        for name, make in makers.items():
            if name not in without:
                running.append(make())
        if layout:
            # Ourselves, too: we sleep while others run.
            for peer in running:
                place(peer.pids(), *layout)
            for pid in backend.pids:
                place(children(pid), *layout)

    def measure(self, bench, case, running, rounds):
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        self.done.append(case)
        values = {}
        for turn in range(rounds):
            order = [peer for peer in running if peer.name not in case.skip]
            steal, total = steal_ticks()
            got = {}
            for peer in order if turn % 2 == 0 else reversed(order):
                try:
                    got[peer.name] = case.run(bench, peer)
                except RuntimeError as error:
                    raise RuntimeError(f"{case.name}: {peer.name}") from error
            steal, total = (now - then for now, then in zip(steal_ticks(), (steal, total)))
            if steal > total * 0.01 and turn > 0:
                self.skipped.append(f"{case.name}, round {turn + 1}: steal {100 * steal / total:.1f} %")
                continue
            for name in (peer.name for peer in order):
                values.setdefault(name, []).append(got[name])
        self.found[case.name] = values
        medians = report.digest({case.name: values})[case.name]
        for name, measured in medians.items():
            text = ", ".join(f"{what} {report.number(value['median'])}" for what, value in measured.items())
            print(f"  {name}: {text}", file=sys.stderr, flush=True)

    def canned(self, more=()):
        command = [str(self.bin_dir / "fakepg"), "--listen", f"127.0.0.1:{self.args.canned_port}",
                   "--socket-dir", str(self.directory), *map(str, more)]
        process = Process(command, self.directory / "fakepg.log", stdout=subprocess.PIPE)
        port = int(process.line())
        return process, peers.Backend([port], "bench", "", "bench", "user=bench dbname=bench",
                                      str(self.directory), [process.pid])

    def postgres(self):
        process = Process([str(self.bin_dir / "bench-cluster")], self.directory / "cluster.log", stdout=subprocess.PIPE)
        told = json.loads(process.line())
        ports = [server["port"] for server in told["servers"]]
        pids = [server["pid"] for server in told["servers"]]
        backend = peers.Backend(ports, told["user"], told["password"], told["database"], told["monitor"],
                                told["socket_dir"], pids)
        environment = {"PGPASSWORD": backend.password, "PATH": "/usr/bin:/bin"}
        where = ["-h", "127.0.0.1", "-p", str(ports[0]), "-U", backend.user]
        subprocess.run(["pgbench", "-iq", *where, backend.database], env=environment, check=True, capture_output=True)
        time.sleep(1)
        return process, backend


def main():
    args = arguments()
    directory = Path(tempfile.mkdtemp(prefix="trunkline-bench-"))
    directory.chmod(0o755)
    now = datetime.datetime.now(datetime.timezone.utc)
    load_before, ticks = load_average(), steal_ticks()
    run = Run(args, directory)
    peers.install_missing(run.pgbouncer)
    try:
        for stage in args.stage or STAGES:
            run.stage(stage)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    steal, total = (after - before for after, before in zip(steal_ticks(), ticks))
    about = {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"), "machine": describe(),
        "versions": peers.versions(run.bin_dir / "trunkline", run.pgbouncer), "load_before": load_before,
        "load_after": load_average(), "steal_percent": 100 * steal / max(total, 1), "rounds": run.rounds,
        "seconds": run.seconds, "skipped": run.skipped, "threads": args.threads,
        "layout": (f"Proxy, server and load share core {args.cpu} at nice {args.nice}." if run.layout
                   else "Everything runs where the kernel puts it.")
        + f" Trunkline and HAProxy have {args.threads} thread(s), PgBouncer one; "
        "where two workers are named, Trunkline has two, and all runs where the kernel puts it.",
    }
    result = report.result(about, run.done, run.found)
    stem = args.name or now.strftime("%Y-%m-%d-%H%M") + ("-quick" if args.quick else "")
    print(report.save(result, args.results, stem))
    plot.save(result, args.results, stem)


main()
