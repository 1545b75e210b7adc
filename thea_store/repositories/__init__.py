"""What all repositories share: their common functions, pages and cursors, and the reader of the audit log."""
