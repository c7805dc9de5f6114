"""Python looks for garbage less often; what refers to itself goes all the same."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
from mailserver.garbage import YOUNG, look_rarely

class Ring:
    def __init__(self):
        self.self = self

look_rarely()
print(gc.get_freeze_count() > 1000)
lost = weakref.ref(Ring())
kept = [[] for _ in range(YOUNG // 2)]
print(lost() is None)
kept += [[] for _ in range(YOUNG)]
print(lost() is None)
"""


def test_rings_are_found_after_some_thousand_objects() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True"]
