#!/bin/sh
# What a container of Portico starts: `serve` in the role that SERVICE_ROLE or API_TYPE says, unless another command of
# portico is given. `healthy` asks whether the gateway in this container answers; it is the image's health check.
set -eu

fail() {
    echo "entrypoint: $1" >&2
    exit 2
}

role="${SERVICE_ROLE:-}"
if [ -z "$role" ]; then
    case "${API_TYPE:-combined}" in
        combined) role=combined ;;
        http) role=api ;;
        websocket) role=websocket ;;
        *) fail "API_TYPE is $API_TYPE; it must be combined, http or websocket." ;;
    esac
fi

case "$role" in
    api)
        PORT="${PORT:-8000}"
        ;;
    websocket)
        PORT="${PORT:-8001}"
        ;;
    combined)
        PORT="${PORT:-8000}"
        # One port is what a container shows; set WEBSOCKET_PORT for two.
        WEBSOCKET_PORT="${WEBSOCKET_PORT:-same}"
        export WEBSOCKET_PORT
        ;;
    *)
        fail "SERVICE_ROLE is $role; it must be api or websocket, or unset for both in one."
        ;;
esac
export PORT

command="${1:-serve}"
[ $# -eq 0 ] || shift

case "$command" in
    serve)
        if [ "$role" != combined ] && [ -z "${REDIS_URL:-}" ]; then
            fail "The role $role needs REDIS_URL, by which its nodes find each other; for one container leave the role unset."
        fi
        ;;
    healthy)
        scheme=http
        [ -z "${PORTICO_TLS_CERT:-}" ] || scheme=https
        # Alive, and not ready: a node whose Redis is away keeps its clients, and would lose them by a restart.
        exec python -c '
import ssl, sys, urllib.request
anybody = ssl._create_unverified_context()  # it is ourselves, under no name of the certificate
no_proxy = urllib.request.ProxyHandler({})
opener = urllib.request.build_opener(no_proxy, urllib.request.HTTPSHandler(context=anybody))
try:
    opener.open(sys.argv[1], timeout=4).read()
except OSError as error:
    sys.exit(f"unhealthy: {error}")
' "$scheme://127.0.0.1:$PORT/livez"
        ;;
esac

# In its place, so that signals reach the gateway.
exec python -m service "$command" "$@"
