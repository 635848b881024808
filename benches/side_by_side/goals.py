"""What Trunkline must reach with TLS, beside what a run found."""

import re
from dataclasses import dataclass

from .tls import BOTH, CLIENT

#: Whose values are held against the goals.
OURS = "trunkline"


@dataclass
class Goal:
    #: Matches the whole name of a case.
    case: str
    #: Of the ratio to this peer, or where there is none of the value itself, in the first measure of the case.
    base: str
    must: float
    aim: float = None
    #: Said beside it.
    note: str = ""


def _of_queries(legs):
    reach = {1: (0.95, 0.88), 16: (0.85, 0.75), 64: (0.80, 0.70)}
    return [Goal(f"{legs}, (simple|extended|prepared), {clients} clients", "pgbouncer-session", *most)
            for clients, most in reach.items()]


_NEW_SESSION, _BULK = "connect and ask once, 1 clients", "100 MB of 1 KiB rows"

GOALS = [
    *_of_queries(CLIENT),
    *_of_queries(BOTH),
    Goal(f"{CLIENT}, {_BULK}", "pgbouncer-session", 0.55, 0.45),
    Goal(f"{CLIENT}, {_BULK}", "haproxy", 0.90),
    Goal(f"{CLIENT}, {_NEW_SESSION}", "pgbouncer-session", 0.50, 0.40),
    Goal(f"{CLIENT}, {_NEW_SESSION}", "haproxy", 0.70),
    Goal(f"{BOTH}, {_NEW_SESSION}", "pgbouncer-session", 0.60, 0.45, "where connections to servers are kept"),
    Goal(rf"{CLIENT}, \d+ idle sessions", None, 4.0, 3.2, "KiB of a session above plain"),
    Goal(rf"{BOTH}, \d+ idle sessions", None, 8.0, 6.4, "KiB of a session above plain, two legs"),
]


def table(entries):
    """Lines of Markdown, of the goals whose cases were run; none if none was."""
    rows = []
    for goal in GOALS:
        for name, entry in entries.items():
            found = _found(goal, entry) if re.fullmatch(goal.case, name) else None
            if found is not None:
                reached = "aim" if found <= (goal.aim or 0) else "yes" if found <= goal.must else "**no**"
                aim = f"{goal.aim:.2f}" if goal.aim else ""
                rows.append(f"| {name} | {goal.base or goal.note} | {found:.2f} | {goal.must:.2f} | {aim} | {reached} |"
                            + (f" {goal.note} |" if goal.base else " |"))
    if not rows:
        return []
    head = ["### Goals", "", f"What {OURS} has to reach with TLS, as ratios to another proxy or as values.", "",
            "| case | to | found | must | aim | reached | |", "|---|---|---|---|---|---|---|"]
    return [*head, *rows, ""]


def _found(goal, entry):
    if goal.base:
        return entry["ratios"].get(OURS, {}).get(goal.base)
    return entry["peers"].get(OURS, {}).get(entry["measures"][0], {}).get("median")
