"""How often Python looks for garbage that refers to itself.

Theory     By default it looks after every 700 objects that are made and not yet dropped. Listing, changing and
           describing thousands of messages makes many times that in one breath, none of it garbage, and each look goes
           through what is there: a third of Python's time in a large STORE, and 15 us of each message that comes by
           SMTP. Reference counts free nearly all that this program drops.
Promises   What young objects leave over between two looks is bounded: some 10,000 objects, 1 to 2 MB. Older ones, such
           as what is left of a connection, are looked at after 250,000, by default after 70,000.
"""

from __future__ import annotations

import gc

YOUNG = 10_000  # objects
LOOKS = 5  # at younger ones, before those that stayed are looked at


def look_rarely() -> None:
    """For a process that is about to begin its work: what it has loaded will stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, LOOKS, LOOKS)
