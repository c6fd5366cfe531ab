"""The dialect of Anthropic's Messages API: https://platform.claude.com/docs/en/api/messages.

event     events and bodies, decoded narrowly       usage     token counts, stop reasons
meter     what every reply is measured by           content   content blocks of a request
reply     events and bodies into parts              request   requests, read
block     which block a part belongs to             outgoing  requests, written
stream    parts into events
body      parts into a body
"""
