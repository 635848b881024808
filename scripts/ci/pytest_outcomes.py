"""A plugin of pytest that writes how each test ended, a line each, to the file that TRUNKLINE_OUTCOMES names."""

import os
import re

# What a test's phases say together: the first of these that one of them has.
ORDER = ("failed", "skipped", "passed")
# What SQLAlchemy adds to the name of a class, with the server's version in it, and takes from nobody.
DIALECT = re.compile(r"_postgresql\+[a-z0-9_]+(?=::)")
outcomes = {}


def pytest_runtest_logreport(report):
    test = DIALECT.sub("", report.nodeid)
    before = outcomes.get(test, "passed")
    outcomes[test] = min(before, report.outcome, key=ORDER.index)


def pytest_sessionfinish():
    with open(os.environ["TRUNKLINE_OUTCOMES"], "w", encoding="utf-8") as file:
        for test, outcome in sorted(outcomes.items()):
            print(outcome, ascii(test)[1:-1], sep="\t", file=file)
