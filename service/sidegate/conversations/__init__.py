"""Conversations: many turns on one connection, and several who take part. Each turn is a call like any other.

    words         what both sides say
    conversation  the turn that is being answered, and what waits for it
    history       its messages, bounded, and what may become one of them
    room          who takes part, and what all of them are told, in one order
    turn          one answer: a call of its own
    member        one who takes part: what it has not been sent yet, bounded
    session       one connection, from its first word to its last
    house         all of them: who may open one, find one, come with a ticket; and when one is forgotten

docs/chat-socket.md says what it is to those who talk.
"""
