"""The ledger: the durable record of who spent what, exactly once."""
