"""What both sides know of a server: its URL, the operator's connection, the names of types."""
