"""Measurements beside real peers, on loopback, one run for all."""
