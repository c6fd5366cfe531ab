"""The admin listener: what whoever operates the gateway may look at and do by HTTP, and who is let in there."""
