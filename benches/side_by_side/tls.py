"""TLS on the legs: certificates, and what each proxy is told about them.

Version 1.3, a certificate of ECDSA P-256, and on the servers' leg one that is verified. The load and the canned server
allow one cipher and one key exchange (benches/src/tls.rs), so that every proxy does the same work.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: Where TLS is, as the names of the cases say it.
CLIENT, BOTH = "TLS client leg", "TLS both legs"
LEGS = (CLIENT, BOTH)

_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"]


@dataclass
class Files:
    """Of 127.0.0.1, for the proxies and for the canned server."""

    root: Path
    certificate: Path
    key: Path
    #: Certificate and key in one, as HAProxy wants them.
    bundle: Path


@dataclass
class Tls:
    """`legs` is one of LEGS."""

    files: Files
    legs: str

    def haproxy(self):
        """(what follows `bind`, what follows `server`). Of PostgreSQL it knows nothing: its TLS is direct."""
        bind = f" ssl crt {self.files.bundle} alpn postgresql ssl-min-ver TLSv1.3"
        server = f" ssl verify required ca-file {self.files.root} alpn postgresql ssl-min-ver TLSv1.3"
        return bind, server if self.legs == BOTH else ""

    def pgbouncer(self):
        server = f"server_tls_sslmode = verify-ca\nserver_tls_ca_file = {self.files.root}\nserver_tls_protocols = tlsv1.3\n"
        return (f"client_tls_sslmode = require\nclient_tls_cert_file = {self.files.certificate}\n"
                f"client_tls_key_file = {self.files.key}\nclient_tls_protocols = tlsv1.3\n"
                + (server if self.legs == BOTH else "server_tls_sslmode = disable\n"))

    def trunkline(self):
        server = f'sslmode = "verify-ca"\nsslrootcert = "{self.files.root}"\nssl_min_protocol_version = "TLSv1.3"\n'
        return (f'[client_tls]\nsslmode = "require"\ncert_file = "{self.files.certificate}"\n'
                f'key_file = "{self.files.key}"\nmin_protocol_version = "TLSv1.3"\n'
                "[server_tls]\n" + (server if self.legs == BOTH else 'sslmode = "disable"\n'))

    def load(self, negotiation):
        """Options of `pgload`."""
        return ["--tls", str(self.files.root), "--negotiation", negotiation]


def make(directory):
    files = Files(*(directory / name for name in ("root.crt", "tls.crt", "tls.key", "bundle.pem")))
    root_key, request, names = (directory / name for name in ("root.key", "tls.csr", "names"))
    _openssl("req", "-x509", *_NEW_KEY, "-days", "30", "-subj", "/CN=bench root", "-keyout", root_key, "-out", files.root)
    _openssl("req", *_NEW_KEY, "-subj", "/CN=bench", "-keyout", files.key, "-out", request)
    names.write_text("subjectAltName=IP:127.0.0.1")
    _openssl("x509", "-req", "-sha256", "-in", request, "-days", "30", "-CA", files.root, "-CAkey", root_key,
             "-CAcreateserial", "-extfile", names, "-out", files.certificate)
    files.bundle.write_text(files.certificate.read_text() + files.key.read_text())
    # PgBouncer reads it when it is nobody already.
    shutil.chown(files.key, "nobody")
    return files


def _openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {words[0]}:\n{done.stderr[-2000:]}")
