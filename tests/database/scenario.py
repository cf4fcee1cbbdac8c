"""What the programs of Python's drivers share: scenarios run one after the other, and each says a line of JSON about its outcome."""

import asyncio
import inspect
import json
import os
import sys
import time
import traceback

QUICK = os.environ.get("QUICK") == "1"
# The certificate of who signed the proxy's; empty where there is no TLS.
AUTHORITY = os.environ.get("AUTHORITY", "")
# How long clients work in the scenario of many clients, and how many they are.
SECONDS = 2 if QUICK else 10
CLIENTS = 64
# A large result: rows of 1,000 bytes.
LARGE_ROWS = 20_000 if QUICK else 100_000
# How long a scenario may take.
PATIENCE = 120


class Refused(Exception):
    """The driver has no such thing."""


def expect(found, wanted):
    """What was found is what was wanted."""
    if found != wanted:
        raise AssertionError(f"found {found!r:.300} and not {wanted!r:.300}")


def refused(code, error):
    """An error has the SQLSTATE that the server would give."""
    found = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
    if found != code:
        raise AssertionError(f"found {found} ({error}) and not {code}")


def main(scenarios):
    """Runs the scenarios that the arguments name, or all. A name is that of a function without what stands before `_`."""
    wanted = sys.argv[1:]
    for function in scenarios:
        name = function.__name__.removeprefix("test_")
        if wanted and name not in wanted:
            continue
        start, outcome, reason = time.monotonic(), "passed", ""
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(), PATIENCE))
            else:
                function()
        except Refused as error:
            outcome, reason = "absent", str(error)
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in place if frame.filename == function.__code__.co_filename]
            outcome, reason = "failed", f"line {lines[-1] if lines else 0}: {type(error).__name__}: {error}"
        took = round(time.monotonic() - start, 2)
        print(json.dumps({"scenario": name, "outcome": outcome, "reason": reason, "seconds": took}), flush=True)
