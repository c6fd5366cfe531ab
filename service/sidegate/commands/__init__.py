"""Commands: what `sidegate` can do besides serving, one a file. Each has a `run` that gives the exit code."""
