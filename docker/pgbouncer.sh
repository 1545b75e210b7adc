#!/bin/sh
# PgBouncer in transaction mode, in front of the primary. A store behind it needs DATABASE_TENANT_SCOPE=transaction.
set -eu
cat > /tmp/pgbouncer.ini <<INI
[databases]
thea = host=${PRIMARY:-primary} port=${PRIMARY_PORT:-5432} dbname=thea

[pgbouncer]
listen_addr = *
listen_port = 6432
auth_type = scram-sha-256
auth_file = /tmp/userlist.txt
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 20
INI
printf '"thea_service" "%s"\n' "$THEA_SERVICE_PASSWORD" > /tmp/userlist.txt
exec pgbouncer /tmp/pgbouncer.ini
