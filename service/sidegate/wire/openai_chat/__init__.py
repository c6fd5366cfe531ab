"""OpenAI Chat Completions: https://platform.openai.com/docs/api-reference/chat.

meter      what every reply is measured by        request   requests, read
reply      events and bodies into parts           outgoing  requests, written
writer     parts into events                      details   signatures of reasoning
assembler  parts into a body                      indexes   tool calls that are counted otherwise, put right
"""
