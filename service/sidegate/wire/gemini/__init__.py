"""The dialect of the Gemini API: https://ai.google.dev/api/generate-content.

event     events and bodies, decoded narrowly     fields    names in two cases, and lists of one
splitter  SSE, and arrays, into events            content   parts of a request
calls     calls across events                     schema    OpenAPI schemas as JSON Schema
meter     what every reply is measured by         request   requests, read
reply     events and bodies into parts            outgoing  requests, written
saying    parts into Gemini's own                 tools     tools, and the choice among them
stream    ... as a stream                         errors    errors both ways
body      ... as a body                           usage     token counts, finish reasons
                                                  path      models in paths

`embeddings` (with `texts`) and `tokens` are dialects of their own.
"""
