"""Counters: rates and concurrency, in memory or shared."""
