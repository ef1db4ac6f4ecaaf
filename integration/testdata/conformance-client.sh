#!/bin/sh
# The conformance suite runs this client with the URL of the suite's server as the
# last argument. If CONFORMANCE_GATEWAY is set, the client calls the server
# through the gateway at this URL, which takes the server's port from the path.
# Otherwise it calls the server directly. Scenarios about OAuth are skipped,
# because in them the server itself asks for tokens, and a server behind a gateway
# does not.
case "$MCP_CONFORMANCE_SCENARIO" in auth/*) exit 0 ;; esac
if [ -n "$CONFORMANCE_GATEWAY" ]; then
	exec "$CONFORMANCE_CLIENT" "$CONFORMANCE_GATEWAY/to/${1#http://localhost:}"
fi
exec "$CONFORMANCE_CLIENT" "$1"
