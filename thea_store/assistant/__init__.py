"""THEA's own tables: users, conversations, messages, notes and events, built on the kit as a service's own would be."""
