#!/usr/bin/env bash
# Prints a shift for the process clock (internal/clock) as a duration. The
# shift moves the present time to a year from now, or to a minute before the
# end of this month or of this year, in UTC. In December, it moves to the
# end of January instead of the end of the month.
set -euo pipefail

now=$(date -u +%s)
month=$(date -u +%Y-%m-01)
case "${1:-}" in
year) at=$(date -u -d "+1 year" +%s) ;;
month-end)
	ahead=1
	[ "$(date -u +%m)" != 12 ] || ahead=2
	at=$(($(date -u -d "$month +$ahead months" +%s) - 60))
	;;
year-end) at=$(($(date -u -d "$(date -u +%Y)-01-01 +1 year" +%s) - 60)) ;;
*)
	echo "usage: clock.sh year|month-end|year-end" >&2
	exit 2
	;;
esac
echo "$((at - now))s"
