// Command xcaddy is Caddy with its standard modules and Farebox: the build
// that is released. An operator who needs other plugins builds their own with
// the tool of the same name, from github.com/fareboxhq/farebox/caddymodule.
package main

import (
	_ "time/tzdata" // where the system has no time zones

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/fareboxhq/farebox/caddymodule"
)

func main() { caddycmd.Main() }
