"""The error for faults of the program itself."""


class ProtocolMisuse(RuntimeError):
    """An answer or a command that the state does not allow; nothing that the other side sends can cause it."""
