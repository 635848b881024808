"""Instructions per query of a callgrind dump: in all, and of the functions that cost most.

A query is two calls of send: one to the server, one to the client.
"""

import collections
import re
import sys

FUNCTIONS_SHOWN = 25


def read(path):
    """({function: own instructions}, {function: calls})"""
    names, own, calls = {}, collections.Counter(), collections.Counter()
    function = callee = None
    is_call_cost = False

    def name(text):
        number, _, rest = text.partition(" ")
        if rest:
            names[number] = rest
        return names[number]

    for line in open(path):
        line = line.rstrip("\n")
        if line.startswith("fn="):
            function = name(line[3:])
        elif line.startswith("cfn="):
            callee = name(line[4:])
        elif line.startswith("calls="):
            calls[callee] += int(line[6:].split()[0])
            is_call_cost = True
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not is_call_cost:
                fields = line.split()
                own[function] += int(fields[1]) if len(fields) > 1 else 0
            is_call_cost = False
    return own, calls


def main():
    for path in sys.argv[1:]:
        own, calls = read(path)
        total = sum(own.values())
        queries = max((n for f, n in calls.items() if re.fullmatch(r"(__)?send(to)?(@.*)?", f)), default=0) / 2
        if not queries:
            continue
        mallocs = sum(n for f, n in calls.items() if f in ("malloc", "calloc", "realloc", "posix_memalign"))
        print(f"{queries:.0f} queries, {total / queries:.0f} instructions and {mallocs / queries:.3f} allocations each")
        for function, cost in own.most_common(FUNCTIONS_SHOWN):
            print(f"{cost / queries:8.0f} {100 * cost / total:5.1f} % {function[:110]}")


main()
