"""Processes: starting, placing, and what they cost."""

import os
import platform
import signal
import socket
import subprocess
import time
from pathlib import Path


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def children(pid):
    """`pid` and all that descend from it."""
    found = [pid]
    for at in found:
        for task in _tasks(at):
            try:
                found += map(int, Path(f"/proc/{at}/task/{task}/children").read_text().split())
            except OSError:
                pass
    return found


def _tasks(pid):
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def place(pids, cpus, nice):
    """Keeps every thread of `pids` on `cpus`; threads and children to come inherit it."""
    for pid in pids:
        for task in _tasks(pid):
            try:
                os.sched_setaffinity(task, cpus)
                os.setpriority(os.PRIO_PROCESS, task, nice)
            except OSError:
                pass
        try:
            # With autogroups the kernel looks at the nice value of the group first (sched(7)).
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
        except OSError:
            pass


def cpu_seconds(pids):
    """Time that all threads have run (PERFORMANCE: field 1 of schedstat, in nanoseconds)."""
    total = 0
    for pid in pids:
        for task in _tasks(pid):
            try:
                total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
            except (OSError, IndexError):
                pass
    return total / 1e9


def memory_kib(pids):
    """(RSS, PSS) of processes, in KiB."""
    rss = pss = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1])
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1])
        except OSError:
            pass
    return rss, pss


def connections_to(pids, ports):
    """How many TCP connections (IPv4) to `ports` the processes have."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(link))
            except OSError:
                pass
    # Source: Linux, Documentation/networking/proc_net_tcp.rst; 01 is ESTABLISHED.
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(f"socket:[{line[9]}]" in inodes and line[3] == "01" and int(line[2].split(":")[1], 16) in ports
               for line in lines)


def load_average():
    return float(Path("/proc/loadavg").read_text().split()[0])


def steal_ticks():
    """(steal, all) ticks of the machine since its start."""
    fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]))
    return fields[7], sum(fields[:8])


def first_line(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "missing"
    lines = (out.stdout or out.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def describe():
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_mib": memory, "kernel": platform.release()}


class Process:
    """A child that ends with the bench."""

    def __init__(self, command, log, **options):
        self.log = open(log, "wb")
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=options.pop("stdout", self.log), stderr=self.log, **options
        )
        self.pid = self.child.pid

    def line(self):
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.child.args[0]} ended:\n{Path(self.log.name).read_text()[-2000:]}")
        return line.decode().strip()

    def stop(self):
        if self.child.poll() is None:
            self.child.stdin.close()
            try:
                # What ends with its standard input does so by itself, and cleans up.
                self.child.wait(0.3 if self.child.stdout is None else 20)
            except subprocess.TimeoutExpired:
                self.child.send_signal(signal.SIGINT)
                try:
                    self.child.wait(5)
                except subprocess.TimeoutExpired:
                    self.child.kill()
                    self.child.wait()
        self.log.close()


def await_port(port, limit=10):
    until = time.monotonic() + limit
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
