#!/bin/sh
# The replica: at its first start a copy of the primary, which from then on follows it.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  PGPASSWORD="$THEA_REPLICATION_PASSWORD" pg_basebackup --host="${PRIMARY:-primary}" --port="${PRIMARY_PORT:-5432}" --username=thea_replication \
    --pgdata="$PGDATA" --write-recovery-conf --checkpoint=fast
fi
exec postgres "$@"
