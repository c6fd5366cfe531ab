"""Jobs: calls that outlive their client's connection. The same pipeline, with a sink that appends to a record."""
