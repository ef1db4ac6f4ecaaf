#!/usr/bin/env bash
# Prints the shift of the process clock (internal/clock) that moves now to
# another date, as a duration: to a year from now, or to a minute before
# the end of this month (of January in December) or of this year, in UTC.
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
