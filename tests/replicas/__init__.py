"""Several gateways on one store, each a process: what is counted is counted once, and never over its limit."""
