"""Shared: one Redis or Valkey for many gateways; the connection, and what is done while it is not there."""
