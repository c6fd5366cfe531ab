"""Sockets: what all WebSocket endpoints share, without I/O: who may open one, how frames come, how one is closed.

    opening   the handshake: is it one, from which page, with which key        `Opening.read(headers, ...)`
    masking   whether frames of a client are masked, which aiohttp takes either way
    closing   close codes: what the end of a call is to its client, and what of one side's code the other may be told

`http/socket.py` puts them to work on aiohttp's socket: `ClientSocket` opens, receives, sends, pings, watches the idle
time, and closes. Settings are `sidegate.settings.sockets.Sockets`, at `settings.sockets`; an operation that is a socket
stands in its `NAMED_ONLY`. An endpoint reads `Opening` first, puts what is wrong into `Asked.wrong` (so the pipeline
asks for the key before anything is refused, and each exchange is on record), takes its headers from `opening.headers`,
runs the call, and answers 101 only when that is let in.
"""
