#!/bin/sh
# The client that the conformance suite runs with the URL of its server as the
# last argument. It calls that server through the gateway at $CONFORMANCE_GATEWAY,
# which takes the server's port from the path; or by its own URL if there is none.
# Scenarios about OAuth are passed over: in them the server is the one that asks
# for tokens, and behind a gateway it is not.
case "$MCP_CONFORMANCE_SCENARIO" in auth/*) exit 0 ;; esac
if [ -n "$CONFORMANCE_GATEWAY" ]; then
	exec "$CONFORMANCE_CLIENT" "$CONFORMANCE_GATEWAY/to/${1#http://localhost:}"
fi
exec "$CONFORMANCE_CLIENT" "$1"
