#!/bin/sh
# Runs after the files are removed. The data is never removed, because it is money.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
case "$1" in
purge | 0)
	if [ -d /var/lib/farebox ]; then
		echo "farebox: /var/lib/farebox stays, with the accounts, the keys and the ledger, and so does its user, farebox."
		echo "To remove both for good: rm -r /var/lib/farebox && userdel farebox"
	fi
	;;
esac
