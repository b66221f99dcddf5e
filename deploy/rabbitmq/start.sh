#!/bin/sh
# Starts RabbitMQ with a user for the operator and one for each program, read at every start. Usage:
# start.sh rabbitmq-server
# The passwords are letters and digits: they are put into JSON as they are.
set -eu
definitions=/tmp/definitions.json
install -m 600 /dev/null "$definitions"
sed -e "s/{owner}/$SLOTRUSH_RABBITMQ_PASSWORD/" \
    -e "s/{gateway}/$SLOTRUSH_RABBITMQ_GATEWAY_PASSWORD/" \
    -e "s/{worker}/$SLOTRUSH_RABBITMQ_WORKER_PASSWORD/" \
    -e "s/{prefix}/slotrush/g" \
    "$(dirname "$0")/definitions.json" > "$definitions"
# The server does not run as root.
if [ "$(id -u)" = 0 ]; then chown rabbitmq "$definitions"; fi
exec "$@"
