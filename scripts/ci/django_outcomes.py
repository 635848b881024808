"""A test runner of Django that writes how each test ended, a line each, to the file that TRUNKLINE_OUTCOMES names."""

import os
import unittest

from django.test.runner import DiscoverRunner

# What a test and its subtests say together: the first of these that one of them has.
ORDER = ("failed", "skipped", "passed")
outcomes = {}


def note(test, outcome):
    name = getattr(test, "test_case", test).id()
    outcomes[name] = min(outcomes.get(name, "passed"), outcome, key=ORDER.index)


class Result(unittest.TextTestResult):
    def addSuccess(self, test):
        super().addSuccess(test)
        note(test, "passed")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        note(test, "passed")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        note(test, "skipped")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        note(test, "failed")

    def addError(self, test, err):
        super().addError(test, err)
        note(test, "failed")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        note(test, "failed")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            note(test, "failed")


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result

    def suite_result(self, suite, result, **kwargs):
        with open(os.environ["TRUNKLINE_OUTCOMES"], "w", encoding="utf-8") as file:
            for test, outcome in sorted(outcomes.items()):
                print(outcome, ascii(test)[1:-1], sep="\t", file=file)
        return super().suite_result(suite, result, **kwargs)
