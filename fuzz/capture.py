#!/usr/bin/env python3
"""Makes the seeds in fuzz/corpus from real exchanges.

Starts a PostgreSQL server of its own in a temporary directory, puts a forwarder in front of it, runs
psql and pgbench through it, and cuts what went over the wire into seeds. The streams differ from run
to run (salts, keys, process ids), so the seeds that are kept are replaced only on purpose.

    fuzz/capture.py [--bin /usr/lib/postgresql/15/bin]
    fuzz/capture.py --handshakes [--newer target/pg/18/bin]   only how clients begin TLS; needs no server

Run as root (the server then runs as the user postgres) or as any other user.
"""

import argparse
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
SEED_MAX = 8 * 1024
PASSWORD = "pencil"


class Forwarder:
    """Relays connections to the server and keeps both directions of each."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.server_port))
            sent, received = bytearray(), bytearray()
            pumps = [
                threading.Thread(target=pump, args=(client, server, sent), daemon=True),
                threading.Thread(target=pump, args=(server, client, received), daemon=True),
            ]
            self.connections.append((sent, received, pumps))
            for thread in pumps:
                thread.start()

    def take(self):
        """The connections since the last call, each as (from client, from server)."""
        taken, self.connections = self.connections, []
        for _, _, pumps in taken:
            for thread in pumps:
                thread.join(timeout=5)
        return [(bytes(sent), bytes(received)) for sent, received, _ in taken]


def pump(source, sink, record):
    while data := source.recv(65536):
        record += data
        sink.sendall(data)
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Server:
    """A server in a temporary directory, with SCRAM over TCP."""

    def __init__(self, bin_dir):
        self.bin = Path(bin_dir)
        self.as_postgres = {}
        self.directory = Path(tempfile.mkdtemp(prefix="trunkline-capture-"))
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            self.as_postgres = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]

    def __enter__(self):
        password = self.directory / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o644)
        data = self.directory / "data"
        self.run("initdb", "-D", data, "-A", "scram-sha-256", "--pwfile", password, "-U", "postgres", "-N")
        options = f"-p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run("pg_ctl", "-D", data, "-w", "-o", options, "-l", self.directory / "log", "start")
        return self

    def __exit__(self, *_):
        self.run("pg_ctl", "-D", self.directory / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.directory)

    def run(self, program, *arguments):
        command = [str(self.bin / program), *map(str, arguments)]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, **self.as_postgres)

    def client(self, program, port, *arguments, stdin=None, options=""):
        """Runs a client over the wire at `port`; its failure is part of some exchanges."""
        environment = {
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": "postgres",
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": "postgres",
            "PGGSSENCMODE": "disable",
            "PGOPTIONS": options,
        }
        command = [str(self.bin / program), *map(str, arguments)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, env=environment, input=stdin, text=True, check=False, **quiet)


def exchanges(server, forwarder):
    """Runs the clients and returns name -> connections."""

    def psql(sql, *arguments, **more):
        server.client("psql", forwarder.port, "-X", "-c", sql, *arguments, **more)
        return forwarder.take()

    def pgbench(mode, *arguments):
        server.client("pgbench", forwarder.port, "-n", "-S", "-t", "3", "-M", mode, *arguments, "postgres")
        return forwarder.take()

    server.client("pgbench", server.port, "-i", "-q", "postgres")
    return {
        "select": psql("select 1 as one, null as nothing, 'text'"),
        "error": psql("select 1/0"),
        "several": psql("begin; select 1; commit; ; select 2"),
        "notice": psql("do $$ begin raise notice 'hello'; end $$"),
        "copy_out": psql("copy (select generate_series(1, 5)) to stdout"),
        "copy_in": psql(r"\copy pgbench_history(tid) from pstdin", stdin="1\n2\n\\.\n"),
        "notify": psql("listen here; notify here, 'payload'"),
        "options": psql("show work_mem", options=r"-c work_mem=1MB --application-name=a\ b"),
        "bench_simple": pgbench("simple"),
        "bench_extended": pgbench("extended"),
        "bench_prepared": pgbench("prepared"),
    }


def messages(stream):
    """Cuts a stream of typed messages."""
    at = 0
    while at + 5 <= len(stream):
        end = at + 1 + int.from_bytes(stream[at + 1 : at + 5], "big")
        yield stream[at:end]
        at = end


def split(connection):
    """First packet, SSLRequest or b"", the client's login, its rest, the server's login, its rest."""
    sent, received = connection
    ssl_request = b""
    if sent[4:8] == (80877103).to_bytes(4, "big"):
        ssl_request, sent, received = sent[:8], sent[8:], received[1:]
    size = int.from_bytes(sent[:4], "big")
    startup, sent = sent[:size], sent[size:]
    login = b"".join(m for m in messages(sent) if m[:1] == b"p")
    server = list(messages(received))
    ready = next((i + 1 for i, m in enumerate(server) if m[:1] == b"Z"), len(server))
    return {
        "ssl_request": ssl_request,
        "startup": startup,
        "client_login": login,
        "client": sent[len(login) :],
        "server_login": b"".join(server[:ready]),
        "server": b"".join(server[ready:]),
    }


# The example of RFC 7677: its nonces and salt are those of the scram targets, so its proof is right.
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
CLIENT_FINAL = f"c=biws,r={NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FIRST = f"r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SERVER_FINAL = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram_seeds():
    """Messages of SCRAM for both targets: the mechanism's byte, first message, line feed, last."""
    header = {"n": b"\0n,,", "y": b"\1y,,", "p": b"\2p=tls-server-end-point,,"}
    bare = CLIENT_FIRST[3:].encode()
    server = {
        "rfc7677": b"\0" + f"{CLIENT_FIRST}\n{CLIENT_FINAL}".encode(),
        "extensions": header["n"] + bare + b",x=1,y=2\n" + CLIENT_FINAL.replace(",p=", ",x=1,p=").encode(),
        "unused_binding": header["y"] + bare + b"\n" + CLIENT_FINAL.encode(),
        "binding": header["p"] + bare + b"\n" + CLIENT_FINAL.encode(),
        "authorization_identity": b"\0n,a=root," + bare + b"\n" + CLIENT_FINAL.encode(),
        "mandatory_extension": header["n"] + b"m=1," + bare,
        "verifier": b"\0SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        b"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    }
    client = {
        "rfc7677": b"\0" + f"{SERVER_FIRST}\n{SERVER_FINAL}".encode(),
        "refused": b"\0" + f"{SERVER_FIRST}\ne=invalid-proof".encode(),
        "iteration_bomb": b"\0" + SERVER_FIRST.replace("4096", "4294967295").encode(),
        "binding": b"\2" + f"{SERVER_FIRST}\n{SERVER_FINAL}".encode(),
    }
    return {"scram_server": server, "scram_client": client}


def parts_for(connections, name):
    """The last connection, in parts: pgbench asks for the table's size on one before it."""
    return split(connections[name][-1])


def seeds(connections):
    """Target -> name -> bytes, out of what the clients did."""
    found = {target: {} for target in ("startup", "frontend_scan", "backend_scan", "chunking", "round_trip")}
    for name in connections:
        part = parts_for(connections, name)
        found["frontend_scan"][name] = b"\0" + part["client"]
        found["backend_scan"][name] = b"\0" + part["server"]
        found["chunking"][f"client_{name}"] = b"\1\0\4\x20\0\xff\1\2\3" + part["client"]
        if name in ("select", "options", "bench_extended"):
            found["startup"][name] = part["startup"]
        if name == "select":
            found["startup"]["ssl_request"] = part["ssl_request"]
            found["frontend_scan"]["login"] = b"\1" + part["client_login"]
            found["backend_scan"]["login"] = b"\1" + part["server_login"]
            found["chunking"]["server_login"] = b"\2\0\4\x20\0\xff\1\2\3" + part["server_login"]
        if name in ("error", "copy_out"):
            found["chunking"][f"server_{name}"] = b"\3\0\4\x20\0\xff\1\2\3" + part["server"]
        if name.startswith("bench_"):
            texts = [m[5:].strip(b"\0") for m in messages(part["client"])]
            found["round_trip"][name] = b"\n".join(texts).replace(b"\0", b"\n")
    key = next(m for m in messages(parts_for(connections, "select")["server_login"]) if m[:1] == b"K")
    found["startup"]["cancel"] = (16).to_bytes(4, "big") + (80877102).to_bytes(4, "big") + key[5:]
    found["startup"]["gssenc_request"] = (8).to_bytes(4, "big") + (80877104).to_bytes(4, "big")
    found["startup"]["haproxy_check"] = (20).to_bytes(4, "big") + (196608).to_bytes(4, "big") + b"user\0check\0\0"
    found["backend_scan"]["old_style_error"] = b"\1Ecould not fork new process for connection\n\0"
    found["round_trip"]["key"] = b"0123456789abcdef\nvalue\n\nSCRAM-SHA-256\n_pq_.option"
    return {**found, **scram_seeds()}


class Hellos:
    """Takes what clients begin TLS with, and hangs up."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def of(self, command, environment=()):
        client = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, "PGCONNECT_TIMEOUT": "5", **dict(environment)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        connection, _ = self.listener.accept()
        with connection:
            flight = connection.recv(65536)
            if flight[4:8] == (80877103).to_bytes(4, "big"):
                connection.sendall(b"S")
                flight = connection.recv(65536)
        client.wait()
        return flight


def handshake_seeds(bin_dir, newer_bin_dir):
    """The first records of clients, and others that a client may send, behind the byte that says which they are."""
    hellos = Hellos()
    target = f"host=127.0.0.1 port={hellos.port} user=postgres gssencmode=disable sslmode=require"
    library = [("LD_LIBRARY_PATH", str(Path(newer_bin_dir).parent / "lib"))]
    openssl = ["openssl", "s_client", "-connect", f"127.0.0.1:{hellos.port}"]
    found = {
        "psql_15": hellos.of([Path(bin_dir) / "psql", target]),
        "psql_18_direct": hellos.of([Path(newer_bin_dir) / "psql", f"{target} sslnegotiation=direct"], library),
        "openssl_tls12": hellos.of([*openssl, "-starttls", "postgres", "-tls1_2"]),
        "openssl_tls13": hellos.of([*openssl, "-starttls", "postgres", "-tls1_3"]),
        "openssl_alpn": hellos.of([*openssl, "-alpn", "postgresql"]),
        "openssl_other_alpn": hellos.of([*openssl, "-alpn", "http/1.1"]),
    }
    seeds = {name: b"\0" + flight for name, flight in found.items()}
    # A hello in two records, and one behind which comes another.
    hello = found["psql_15"]
    pieces = (hello[5:100], hello[100:])
    seeds["two_records"] = b"\0" + b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    seeds["two_hellos"] = b"\0" + hello + hello
    seeds["too_long"] = b"\0\x16\3\1\xff\xff\1"
    seeds["alert"] = b"\1\x15\3\3\0\2\2\x28"
    seeds["forged"] = b"\1\x17\3\3\0\x20" + b"." * 32
    startup = b"\0\3\0\0user\0postgres\0\0"
    seeds["startup"] = b"\3" + (len(startup) + 4).to_bytes(4, "big") + startup
    seeds["ssl_request"] = b"\3" + (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
    return {"client_records": seeds}


def write(found):
    for target, named in found.items():
        directory = CORPUS / target
        directory.mkdir(parents=True, exist_ok=True)
        for name, seed in named.items():
            (directory / name).write_bytes(seed[:SEED_MAX])
    print(*(f"{target}: {len(named)} seeds" for target, named in found.items()), sep="\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--bin", default="/usr/lib/postgresql/15/bin", help="directory of PostgreSQL's programs")
    newer = CORPUS.parent.parent / "target/pg/18/bin"
    arguments.add_argument("--newer", default=newer, help="the same of PostgreSQL 17 or newer, for direct TLS")
    arguments.add_argument("--handshakes", action="store_true", help="makes only the seeds of client_records")
    chosen = arguments.parse_args()
    write(handshake_seeds(chosen.bin, chosen.newer))
    if chosen.handshakes:
        return
    with Server(chosen.bin) as server:
        write(seeds(exchanges(server, Forwarder(server.port))))


if __name__ == "__main__":
    main()
