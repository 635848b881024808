"""One port for reads and writes beside a port for each: what it costs to choose a server for each request."""

import re
import subprocess
import urllib.request

from .machine import Process, free_port
from .peers import Peer, await_up, write_users
from .pool import SCRAM, Pool, pgbench

#: What begins a case's name.
SPLIT = "split"
#: Beside whom: the same process, by its other ports.
READS, WRITES = "trunkline-reads", "trunkline-writes"
#: Of a round's requests, the least share that has to be decided as the case says; the rest came before the catalog was read.
SHARE_MIN = 0.9
#: A function that writes: a standby refuses it once, and then it is known.
WRITING = """CREATE TABLE bench_written (n int);
CREATE FUNCTION bench_write(n int) RETURNS int LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO bench_written VALUES (n); RETURN n; END $$"""
WRITE = "SELECT bench_write(:client_id);\n"


def cases(is_quick):
    """A read of PostgreSQL's own benchmark, and a learnt write."""
    pooling = Pool("transaction", SCRAM)
    wanted = [("prepared", 16)] if is_quick else [(mode, n) for mode in ("simple", "extended", "prepared") for n in (1, 16)]
    reads = [_decided("proven", pgbench(mode, n, (WRITES,), where=SPLIT)) for mode, n in wanted]
    writes = [_decided("learned", pgbench(mode, n, (READS,), where=SPLIT, script=("write", WRITE))) for mode, n in wanted]
    return [pooling.shared(case) for case in reads + writes]


def prepare(backend):
    command = ["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(backend.servers[0]), "-U", backend.user,
               "-d", backend.database, "-c", WRITING]
    environment = {"PGPASSWORD": backend.password, "PATH": "/usr/bin:/bin"}
    subprocess.run(command, env=environment, check=True, capture_output=True)


def makers(backend, directory, threads, binary):
    """{name: what starts it}: one process, of which the first is the split port."""
    ports = {name: free_port() for name in ("reads", "writes", "split")}
    started = []

    def start():
        started.append(_trunkline(backend, directory, threads, binary, ports))
        return started[0]

    def beside(name, port):
        return lambda: Peer(name, port, pid=started[0].process.pid, http=started[0].http)

    return {"trunkline": start, READS: beside(READS, ports["reads"]), WRITES: beside(WRITES, ports["writes"])}


def _trunkline(backend, directory, threads, binary, ports):
    write_users(backend, directory)
    attrs = {"reads": "prefer-standby", "writes": "read-write", "split": "read-write"}
    listeners = "".join(
        f'[[listener]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\ntarget_session_attrs = "{attrs[name]}"\n'
        + ('route = "statement"\n' if name == "split" else "") for name, port in ports.items())
    config = directory / "split.toml"
    config.write_text('[health]\nslow_start = "0"\n' + Pool("transaction", SCRAM).trunkline(directory) + listeners)
    primary, *replicas = backend.servers
    http = free_port()
    command = [binary, "serve", "--config", config, "--primary", f"primary=127.0.0.1:{primary}"]
    for number, at in enumerate(replicas, 1):
        command += ["--replica", f"replica{number}=127.0.0.1:{at}"]
    command += ["--http", f"127.0.0.1:{http}", "--monitor", backend.monitor, "--threads", threads]
    peer = Peer("trunkline", ports["split"], Process([str(word) for word in command], directory / "split.log"), http=http)
    for server in ["primary"] + [f"replica{number}" for number, _ in enumerate(replicas, 1)]:
        await_up(peer, f"http://127.0.0.1:{http}/{server}")
    return peer


def _decided(reason, case):
    """The case, in which the split port must decide so."""
    run = case.run

    def watched(bench, peer):
        before = _routed(peer)
        found = run(bench, peer)
        counts = {word: count - before.get(word, 0) for word, count in _routed(peer).items()}
        decided = sum(counts.values())
        # In the first round the catalog is read, and a write is learnt.
        if peer.name == "trunkline" and watched.is_warm and counts.get(reason, 0) < decided * SHARE_MIN:
            raise RuntimeError(f"{peer.name} decided {case.name} so: {counts}")
        watched.is_warm |= peer.name == "trunkline"
        return found

    watched.is_warm = False
    case.run = watched
    return case


def _routed(peer):
    """{reason: requests} since the process was started."""
    with urllib.request.urlopen(f"http://127.0.0.1:{peer.http}/metrics", timeout=5) as answer:
        found = re.findall(r'^trunkline_requests_routed_total\{reason="(\w+)"\} (\d+)', answer.read().decode(), re.M)
    return {reason: int(count) for reason, count in found}
