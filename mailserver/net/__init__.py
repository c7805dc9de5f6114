"""Twisted adapters: what fulfils the ports of `mailserver.ports`, and what listens."""
