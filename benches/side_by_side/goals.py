"""What Trunkline must reach with TLS, with pools and by one port for reads and writes, beside what a run found."""

import re
from dataclasses import dataclass
from statistics import median

from .pool import SESSION, TRANSACTION, TWO_WORKERS
from .split import READS, SPLIT, WRITES
from .tls import BOTH, CLIENT

#: Whose values are held against the goals.
OURS = "trunkline"


@dataclass
class Goal:
    #: Matches the whole name of a case.
    case: str
    #: Of the ratio to this peer, or where there is none of the value itself.
    base: str
    must: float
    aim: float = None
    #: Said beside it.
    note: str = ""
    #: Default: the first of the case.
    measure: str = None
    #: The ratio is of what both add to the value of this peer.
    above: str = None
    #: "most": the goal is the most that may be found; "least", the least.
    bound: str = "most"

    def reached(self, found):
        """How far, in a word."""
        if found is None:
            return "unknown"
        within = (lambda goal: found >= goal) if self.bound == "least" else (lambda goal: found <= goal)
        if self.aim is not None and within(self.aim):
            return "aim"
        return "yes" if within(self.must) else "**no**"

    def is_of(self, name, entry):
        """Whether the case was run with whom it is about."""
        return bool(re.fullmatch(self.case, name)) and all(peer in entry["peers"] for peer in self._peers())

    def _peers(self):
        return [peer for peer in (OURS, self.base, self.above) if peer]

    def found(self, entry):
        """The median of all rounds, or of the ratios within one; None where no ratio means anything."""
        measure = self.measure or entry["measures"][0]
        values = [[turn.get(measure) for turn in entry["rounds"].get(peer, [])]
                  for peer in self._peers()]
        values = [turn for turn in zip(*values) if None not in turn]
        if self.above:
            ratios = [(ours - none) / (theirs - none) for ours, theirs, none in values if theirs > none]
        elif self.base:
            ratios = [ours / theirs for ours, theirs in values if theirs]
        else:
            ratios = [ours for ours, in values]
        return median(ratios) if ratios else None


def _of_queries(legs):
    reach = {1: (0.95, 0.88), 16: (0.85, 0.75), 64: (0.80, 0.70)}
    return [Goal(f"{legs}, (simple|extended|prepared), {clients} clients", "pgbouncer-session", *most)
            for clients, most in reach.items()]


_NEW_SESSION, _BULK = "connect and ask once, 1 clients", "100 MB of 1 KiB rows"
_NEW_CLIENT = r"(connect and ask once, \d+ clients|pgbench -S -C -c \d+)"
_POOLED = rf"{TRANSACTION}, (simple|extended|prepared), \d+ clients"
_OF_POSTGRES = rf"{TRANSACTION}, pgbench -S -M \w+ -c \d+"
#: Of clients, against server connections: more of these than of those make PostgreSQL slower, so nothing is added to that.
_FEW, _MANY = rf"{TRANSACTION}, pgbench -S -M \w+ -c 16( -R .*)?", rf"{TRANSACTION}, pgbench -S -M \w+ -c (64|500)"
_BOUNCER = "pgbouncer-transaction"

GOALS = [
    *_of_queries(CLIENT),
    *_of_queries(BOTH),
    Goal(f"{CLIENT}, {_BULK}", "pgbouncer-session", 0.55, 0.45),
    Goal(f"{CLIENT}, {_BULK}", "haproxy", 0.90),
    Goal(f"{CLIENT}, {_NEW_SESSION}", "pgbouncer-session", 0.50, 0.40),
    Goal(f"{CLIENT}, {_NEW_SESSION}", "haproxy", 0.70),
    Goal(f"{CLIENT}, {SESSION}, {_NEW_SESSION}", "pgbouncer-session", 0.50, 0.40, "server_reuse"),
    Goal(f"{BOTH}, {SESSION}, {_NEW_SESSION}", "pgbouncer-session", 0.60, 0.45, "server_reuse"),
    Goal(rf"{CLIENT}, \d+ idle sessions", None, 4.0, 3.2, "KiB of a session above plain"),
    Goal(rf"{BOTH}, \d+ idle sessions", None, 8.0, 6.4, "KiB of a session above plain, two legs"),
    Goal(f"{_POOLED}|{_OF_POSTGRES}", _BOUNCER, 1.00, 0.92),
    Goal(f"{_POOLED}|{_FEW}", _BOUNCER, 1.05, None, "added to direct", "p50 us", "direct"),
    Goal(f"{_POOLED}|{_FEW}", _BOUNCER, 1.00, None, "added to direct", "p99 us", "direct"),
    Goal(_MANY, _BOUNCER, 1.05, None, "whole", "p50 us"),
    Goal(_MANY, _BOUNCER, 1.00, None, "whole", "p99 us"),
    Goal(f"{TWO_WORKERS}, .*", _BOUNCER, 1.30, bound="least"),
    Goal(f"{TRANSACTION}, {_NEW_CLIENT}", _BOUNCER, 1.05),
    Goal(f"{SESSION}, {_NEW_CLIENT}", "pgbouncer-session", 1.05, None, "server_reuse"),
    Goal(rf"{TRANSACTION}, \d+ to \d+ idle clients", None, 1.5 * 1024, 1.1 * 1024),
    Goal(rf"{TRANSACTION}, \d+ to \d+ idle clients", None, 0, measure="server connections"),
    Goal(rf"{SPLIT}, pgbench -S .*", READS, 1.05, None, "the port for reads"),
    Goal(rf"{SPLIT}, pgbench write .*", WRITES, 1.03, None, "learnt; the port for writes"),
]


def table(entries):
    """Lines of Markdown, of the goals whose cases were run; none if none was."""
    rows = []
    for goal in GOALS:
        for name, entry in entries.items():
            if goal.is_of(name, entry):
                found = goal.found(entry)
                shown = "" if found is None else f"{found:.2f}"
                what = goal.measure or entry["measures"][0]
                sign = "≥ " if goal.bound == "least" else ""
                aim = "" if goal.aim is None else f"{sign}{goal.aim:.2f}"
                rows.append(f"| {name} | {what} | {goal.base or ''} | {shown} | {sign}{goal.must:.2f} | {aim} | "
                            f"{goal.reached(found)} | {goal.note} |")
    if not rows:
        return []
    head = ["### Goals", "", f"What {OURS} has to reach, as ratios to another proxy or, without one, as values.", "",
            "| case | of | to | found | must | aim | reached | |", "|---|---|---|---|---|---|---|---|"]
    return [*head, *rows, ""]
