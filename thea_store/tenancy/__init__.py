"""Tenants and people as the database's operator sees them: their directory, and what is done to one as a whole.

It is part of the kit: it knows nothing of users and notes, and learns of tables from the catalog. Each subject has
its own module here, its own SQL file, and its own group of logins (`thea_store.verification.groups`).
"""
