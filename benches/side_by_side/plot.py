"""A bar chart as SVG, small enough to be read as text."""

COLOURS = {"trunkline": "#1f6feb", "haproxy": "#8b949e", "pgbouncer-session": "#d29922",
           "pgbouncer-transaction": "#e3b341", "direct": "#c9d1d9"}


def bars(title, groups, unit):
    """`groups`: [(label, {peer: value})]. Horizontal bars, one group under the other."""
    height, y, rows = 18, 40, []
    highest = max((v for _, peers in groups for v in peers.values()), default=1) or 1
    for label, peers in groups:
        rows.append(f'<text x="8" y="{y + 12}" font-weight="bold">{label}</text>')
        y += height
        for peer, value in peers.items():
            width = 360 * value / highest
            rows.append(
                f'<text x="170" y="{y + 12}" text-anchor="end">{peer}</text>'
                f'<rect x="176" y="{y + 2}" width="{width:.1f}" height="{height - 5}" fill="{COLOURS.get(peer, "#57606a")}"/>'
                f'<text x="{181 + width:.1f}" y="{y + 12}">{value:.1f} {unit}</text>'
            )
            y += height
        y += 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{y + 8}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/><text x="8" y="22" font-size="14">{title}</text>'
        + "".join(rows) + "</svg>\n"
    )


def save(result, directory, stem):
    """One chart of processor time per query, one of memory per idle session."""
    for name, title, measure, unit in [
        ("cpu", "Proxy CPU per query, canned server (less is better)", "CPU us/query", "us"),
        ("memory", "Memory per idle session (less is better)", "KiB/session", "KiB"),
    ]:
        groups = []
        for case, entry in result["cases"].items():
            peers = {peer: values[measure]["median"] for peer, values in entry["peers"].items()
                     if measure in values and peer != "direct"}
            if peers and "pgbench" not in case:
                groups.append((case, peers))
        if groups:
            (directory / f"{stem}-{name}.svg").write_text(bars(title, groups, unit))
