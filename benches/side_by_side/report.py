"""Medians, ratios and spread, as Markdown and JSON."""

import json
from statistics import median

from . import goals

#: Cases by what they compare; a ratio below one is cheaper, faster or smaller.
BASES = {"H": "haproxy", "P": "pgbouncer-session", "T": "pgbouncer-transaction"}


def digest(rounds):
    """{case: {peer: {measure: {median, min, max, rounds}}}} of {case: {peer: [{measure: value}]}}."""
    out = {}
    for case, peers in rounds.items():
        for peer, values in peers.items():
            for measure in values[0]:
                numbers = [value[measure] for value in values if value[measure] is not None]
                if numbers:
                    out.setdefault(case, {}).setdefault(peer, {})[measure] = {
                        "median": median(numbers), "min": min(numbers), "max": max(numbers), "rounds": len(numbers),
                    }
    return out


def ratios(rounds, case, peer, measure):
    """Against each base the median of the ratios within one round: what drifts, drifts for both."""
    out = {}
    mine = rounds[case].get(peer, [])
    for base in BASES.values():
        theirs = rounds[case].get(base, [])
        pairs = [a[measure] / b[measure] for a, b in zip(mine, theirs) if a[measure] and b[measure]]
        if pairs and peer not in (base, "direct"):
            out[base] = median(pairs)
    return out


def number(value):
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(result):
    about = result["about"]
    lines = [f"# {about['date']}", ""]
    machine = about["machine"]
    lines += [
        f"{machine['cores']} x {machine['cpu']}, {machine['memory_mib']} MiB, Linux {machine['kernel']}. "
        f"Load average {about['load_before']:.2f} before, {about['load_after']:.2f} after; steal "
        f"{about['steal_percent']:.2f} %. {about['rounds']} rounds of {about['seconds']} s, the order of the peers "
        f"turned round each time. {about['layout']}", "",
        "; ".join(f"{name}: {version}" for name, version in about["versions"].items()) + ".", "",
        "Medians, (min - max). H, P and T: median of the ratios to HAProxy, to PgBouncer (session) and to PgBouncer "
        "(transaction) within a round.", "",
    ]
    for case, entry in result["cases"].items():
        measures = [m for m in entry["measures"] if any(m in peer for peer in entry["peers"].values())]
        bases = {short: base for short, base in BASES.items() if base in entry["peers"]}
        head = ["peer", *measures, *bases]
        lines += [f"### {case}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for peer, values in entry["peers"].items():
            cells = []
            for measure in measures:
                value = values.get(measure)
                cells.append(f"{number(value['median'])} ({number(value['min'])} - {number(value['max'])})" if value else "")
            against = entry["ratios"].get(peer, {})
            cells += [f"{against[base]:.2f}" if base in against else "" for base in bases.values()]
            lines.append(f"| {peer} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += goals.table(result["cases"])
    return "\n".join(lines)


def result(about, cases, rounds):
    found = digest(rounds)
    entries = {}
    for case in cases:
        if case.name in found:
            first = case.measures[0]
            entries[case.name] = {
                "measures": case.measures, "peers": found[case.name],
                "ratios": {peer: ratios(rounds, case.name, peer, first) for peer in found[case.name]},
                "all_ratios": {m: {peer: ratios(rounds, case.name, peer, m) for peer in found[case.name]
                                   if m in found[case.name][peer]} for m in case.measures},
                "rounds": rounds[case.name],
            }
    return {"about": about, "cases": entries}


def save(result, directory, stem):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    text = markdown(result)
    (directory / f"{stem}.md").write_text(text + "\n")
    return text
