"""Signals: what gateways that share a store, and workers of one gateway, ask each other."""
