"""An assistant on Telegram that takes notes and reminds; all it knows is in the store."""
