"""Our own clock, and identifiers that carry the time they were made."""

import random
import re
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from retrysafe.runtime.clock import SystemClock, uuid7


def test_an_identifier_is_a_uuid_of_version_seven() -> None:
    """RFC 9562."""
    made = uuid.UUID(uuid7())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid7())


def test_it_begins_with_the_millisecond_in_which_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = int(uuid7().replace("-", "")[:12], 16)
    assert before <= made <= time.time_ns() // 1_000_000


def test_identifiers_of_many_threads_are_all_different() -> None:
    """An attempt is recognised by it (D4)."""
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: uuid7(), range(20_000)))
    assert len(set(made)) == len(made)


def test_an_application_that_seeds_its_random_numbers_does_not_make_attempts_alike() -> None:
    """Two attempts with one id would both be told that the claim is theirs (C1, D4)."""
    tails: set[str] = set()
    for _ in range(2):
        random.seed(8)
        tails.add(uuid7()[14:])
    assert len(tails) == 2


FORKING = """
import os
from retrysafe.runtime.clock import uuid7
uuid7()
child = os.fork()
if child:
    os.waitpid(child, 0)
print(uuid7()[14:])
"""


def test_a_forked_child_makes_others_than_its_parent() -> None:
    """C1, D4."""
    printed = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True).stdout.split()
    assert len(printed) == len(set(printed)) == 2


def test_the_clock_never_goes_backwards() -> None:
    clock = SystemClock()
    read = [clock.monotonic() for _ in range(1000)]
    assert read == sorted(read)
