"""Abuse: what hostile or broken clients, plugins and configs may try, against a running gateway over real sockets."""
