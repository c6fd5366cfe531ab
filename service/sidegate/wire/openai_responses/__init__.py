"""The dialect of OpenAI's Responses API: https://platform.openai.com/docs/api-reference/responses.

event   events and bodies, decoded narrowly   usage     token counts, how it ended
meter   what every reply is measured by       input     items of a request
reply   events and bodies into parts          request   requests, read
item    items while they are written          outgoing  requests, written
writer  parts into items and their events
stream  ... as a stream
body    ... as a body
"""
