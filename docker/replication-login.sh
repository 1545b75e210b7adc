#!/bin/sh
# At the primary's first start: the login by which the replica follows it.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$THEA_REPLICATION_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
create role thea_replication login replication password :'password';
SQL
echo 'host replication thea_replication all scram-sha-256' >> "$PGDATA/pg_hba.conf"
