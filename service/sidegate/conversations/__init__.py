"""Conversations: many turns on one connection, and several who take part. Each turn is a call like any other.

words         what both sides say
conversation  its messages, its participants, the turn that is being answered and those that wait
turn          one answer: a call of its own, told to all who take part
member        one who takes part: what it has not been sent yet, bounded
session       one connection, from its first word to its last
house         all of them: who may open one, find one, come with a ticket; and when one is forgotten
"""
