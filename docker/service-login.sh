#!/bin/sh
# At the server's first start: the login of a service, in the group that the migrations grant to.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$THEA_SERVICE_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
create role thea_app nologin noinherit;
create role thea_service login password :'password' in role thea_app;
SQL
