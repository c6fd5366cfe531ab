"""What a listener serves, as an OpenAPI document: made from its router, and only when somebody asks for it."""
