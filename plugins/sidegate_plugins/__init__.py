"""The plugins that ship with Sidegate: one a file, each an entry point like anybody's."""
