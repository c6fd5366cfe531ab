"""Upstream: how providers are chosen, asked and read. The only opener of outgoing HTTP."""
