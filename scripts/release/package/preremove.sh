#!/bin/sh
# Runs before the files are removed. The first argument is "remove" or "upgrade" from
# dpkg, and 0 or 1 from rpm. During an upgrade, the service keeps running until the new
# version is installed.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --quiet disable --now farebox.service || true
	fi
	;;
esac
