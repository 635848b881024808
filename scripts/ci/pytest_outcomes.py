"""A plugin of pytest that writes how each test ended, a line each, to the file that TRUNKLINE_OUTCOMES names."""

import os

# What a test's phases say together: the first of these that one of them has.
ORDER = ("failed", "skipped", "passed")
outcomes = {}


def pytest_runtest_logreport(report):
    before = outcomes.get(report.nodeid, "passed")
    outcomes[report.nodeid] = min(before, report.outcome, key=ORDER.index)


def pytest_sessionfinish():
    with open(os.environ["TRUNKLINE_OUTCOMES"], "w", encoding="utf-8") as file:
        for test, outcome in sorted(outcomes.items()):
            print(outcome, ascii(test)[1:-1], sep="\t", file=file)
