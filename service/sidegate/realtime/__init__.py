"""Realtime: sessions of OpenAI Realtime, relayed. A session is a call, and so is each response in it.

    endpoint   `http/realtime.py`: the handshake, 101, the close code
    relay      of one route: the pipeline of sessions and that of responses, and how a provider is reached
    session    one connection: both directions, what is in flight, how it ends
    turn       one response: let in, counted, priced and settled as a call of its own

Nothing of it is imported where no route serves it.
"""
