"""The dialects of the AI SDK's UI hooks, `useChat` and `useCompletion`. Only clients speak them: no provider does.

request   requests, read               writer    parts into chunks
history   messages as turns            stream    ... as a stream of events, or as plain text
parts     their parts, one by one      body      ... as a whole message
sources   sources and files of a reply metadata  signatures and usage, beside the words

Source: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol.
"""
