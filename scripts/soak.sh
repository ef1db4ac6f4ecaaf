#!/usr/bin/env bash
# Runs every fuzz target for the time given, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
duration=${1:?usage: soak.sh DURATION, such as 2m}
go=${GO:-go}
for package in $("$go" list ./...); do
	for target in $("$go" test -run '^$' -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "== $package $target"
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" -fuzzminimizetime 20x "$package"
	done
done
