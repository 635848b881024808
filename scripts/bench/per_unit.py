"""Instructions per query or session of callgrind dumps: in all, and of the functions that cost most.

    per_unit.py query|session DUMP...
"""

import collections
import re
import sys

FUNCTIONS_SHOWN = 25
#: The calls that tell how many there were, and how many each has: a query is sent to the server and answered to the
#: client; a session connects to a server.
UNITS = {"query": (r"trunkline_reactor::stream::Stream::try_write", 2), "session": (r"(__)?connect(@.*)?", 1)}


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
    unit, *paths = sys.argv[1:]
    counted, calls_each = UNITS[unit]
    for path in paths:
        own, calls = read(path)
        total = sum(own.values())
        units = max((n for f, n in calls.items() if re.fullmatch(counted, f)), default=0) / calls_each
        if not units:
            continue
        mallocs = sum(n for f, n in calls.items() if f in ("malloc", "calloc", "realloc", "posix_memalign"))
        print(f"{units:.0f} of a {unit}: {total / units:.0f} instructions and {mallocs / units:.3f} allocations each")
        for function, cost in own.most_common(FUNCTIONS_SHOWN):
            print(f"{cost / units:8.0f} {100 * cost / total:5.1f} % {function[:110]}")


main()
