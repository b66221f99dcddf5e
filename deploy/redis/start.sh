#!/bin/sh
# Starts Redis with a user for the operator and one for each program. Usage: start.sh redis-server FILE
# The users go through the standard input: arguments are visible to everyone.
set -eu
folder=$(dirname "$0")
gateway=$(cat "$folder/gateway.rights")
worker=$(cat "$folder/worker.rights")
exec "$@" - <<EOF
user default on nopass resetkeys resetchannels -@all +ping +info
user slotrush on >$SLOTRUSH_REDIS_PASSWORD ~* &* +@all
user slotrush_gateway on >$SLOTRUSH_REDIS_GATEWAY_PASSWORD $gateway
user slotrush_worker on >$SLOTRUSH_REDIS_WORKER_PASSWORD $worker
EOF
