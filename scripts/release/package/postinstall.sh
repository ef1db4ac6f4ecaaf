#!/bin/sh
# Runs after the files are installed. dpkg passes the argument "configure" and the
# version that was installed before. rpm passes the number of versions that are now
# installed.
set -e

case "$1" in
configure) before=$2 ;;
1) before= ;;
[2-9]*) before=yes ;;
*) exit 0 ;;
esac

getent group farebox >/dev/null || groupadd --system farebox
getent passwd farebox >/dev/null || useradd --system --gid farebox --no-create-home \
	--home-dir /var/lib/farebox --shell /usr/sbin/nologin --comment "Farebox gateway" farebox
[ -d /var/lib/farebox ] || install -d -m 0700 -o farebox -g farebox /var/lib/farebox

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	if [ -n "$before" ]; then
		systemctl try-restart farebox.service || echo "farebox did not start again: see journalctl -u farebox" >&2
	fi
fi
if [ -z "$before" ]; then
	echo "farebox is installed, and not started yet: edit /etc/farebox/Caddyfile, then run"
	echo "  systemctl enable --now farebox"
fi
