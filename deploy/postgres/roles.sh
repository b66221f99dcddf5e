#!/bin/sh
# Makes the programs' own roles when the database is made; `gateway migrate` grants them what they need.
set -eu
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv gateway SLOTRUSH_POSTGRES_GATEWAY_PASSWORD
\getenv worker SLOTRUSH_POSTGRES_WORKER_PASSWORD
CREATE ROLE slotrush_gateway LOGIN PASSWORD :'gateway';
CREATE ROLE slotrush_worker LOGIN PASSWORD :'worker';
SQL
