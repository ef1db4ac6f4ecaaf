package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mistake is a common error in a Caddyfile, with parts of the message that
// "validate" prints for it: the fault, its place and the remedy.
type mistake struct {
	name string
	file string   // the Caddyfile; "HERE" marks the line the message must name
	says []string // texts that the message must contain
	warn bool     // true if the config is valid and the message is only a warning
}

// inSite returns a Caddyfile with a farebox block that has a server, a provider,
// a price and these lines.
func inSite(lines string) string {
	return fmt.Sprintf(mistakenSite, "", "server weather\n\t\tprovider acme\n\t\tprice get_forecast 0.01\n\t\t"+lines)
}

// inServer returns a Caddyfile with a farebox block that has only these lines.
func inServer(lines string) string { return fmt.Sprintf(mistakenSite, "", lines) }

// inOption returns a Caddyfile with a global option farebox that has these
// lines.
func inOption(lines string) string {
	return fmt.Sprintf(mistakenSite, lines, "server weather\n\t\tprovider acme\n\t\tprice get_forecast 0.01")
}

// inFile returns a Caddyfile with these global options and sites.
func inFile(options, sites string) string {
	return "{\n\tadmin off\n" + options + "\n}\n" + sites + "\n"
}

const (
	mistakenSite = `{
	admin off
	farebox {
		store sqlite farebox.db
		%s
	}
}
:8099 {
	farebox {
		%s
	}
	reverse_proxy localhost:3001
}
`
	soundStore = "\tfarebox {\n\t\tstore sqlite farebox.db\n\t}\n"
	soundSite  = `:8099 {
	farebox { # HERE
		server weather
		provider acme
		price get_forecast 0.01
	}
	reverse_proxy localhost:3001
}
`
)

func mistakes() []mistake {
	amount := "want digits and at most one point, as in 0.01"
	return []mistake{
		// Mistakes in the directive itself.
		{name: "a subdirective is misspelt", file: inSite("prise x 1 # HERE"), says: []string{`no subdirective "prise"`, `did you mean "price"? It has: call_log, cap,`}},
		{name: "the directive is misspelt", file: inFile(soundStore, ":8099 {\n\tfairbox {\n\t}\n}"), says: []string{"unrecognized directive: fairbox"}},
		{name: "the directive has an argument", file: inFile(soundStore, ":8099 {\n\tfarebox weather # HERE\n}"), says: []string{"takes a block and no arguments", `"weather"`}},
		{name: "the block is empty", file: inServer(""), says: []string{"needs a server: the name of the MCP server, as in: server weather"}},
		{name: "no server", file: inServer("provider acme"), says: []string{"needs a server"}},
		{name: "no provider", file: inServer("server weather"), says: []string{"needs a provider: the name of the account that earns, as in: provider acme"}},
		{name: "the server's name has a space", file: inServer(`server "wea ther" # HERE`), says: []string{`"wea ther"`, "1 to 64 letters, digits"}},
		{name: "the server's name is a URL", file: inServer(`server http://localhost:3001 # HERE`), says: []string{"a server needs a name"}},
		{name: "two servers in one block", file: inSite("server maps # HERE"), says: []string{"server is given twice"}},
		{name: "one server of two providers", file: inFile(soundStore, soundSite+strings.NewReplacer("8099", "8098", "acme", "other", " # HERE", "").Replace(soundSite)),
			says: []string{`server "weather" is configured twice`, "differ in provider, prices"}},
		{name: "an environment is unknown", file: inSite("environments prod # HERE"), says: []string{`unknown environment "prod"`, "want live or test"}},

		// Mistakes in prices.
		{name: "a price without an amount", file: inSite("price x # HERE"), says: []string{"want a tool and an amount, as in: price get_forecast 0.01"}},
		{name: "a price below zero", file: inSite("price x -1 # HERE"), says: []string{`amount "-1" is below zero`}},
		{name: "a price of seven places", file: inSite("price x 0.0000001 # HERE"), says: []string{"7 decimal places: at most 6"}},
		{name: "a price with its currency", file: inSite("price x 0.01USD # HERE"), says: []string{`"0.01USD" is not an amount`, amount}},
		{name: "a price with a sign", file: inSite("price x $0.01 # HERE"), says: []string{`"$0.01" is not an amount`, amount}},
		{name: "a price with a comma", file: inSite("price x 0,01 # HERE"), says: []string{`"0,01" is not an amount`, amount}},
		{name: "a price out of range", file: inSite("price x 99999999999999999 # HERE"), says: []string{"amount out of range: at most"}},
		{name: "a price with more behind it", file: inSite("price x 1 2 # HERE"), says: []string{"after the amount comes", `"2"`}},
		{name: "a tool is priced twice", file: inSite("price get_forecast 0.02 # HERE"), says: []string{`"get_forecast" is named twice`}},
		{name: "a tool is priced and free", file: inSite("free get_forecast # HERE"), says: []string{`"get_forecast" is named twice`}},
		{name: "an earlier pattern takes all", file: inSite("price a* 1\n\t\tprice ab* 2 # HERE"), says: []string{`"ab*" can never match`, `"a*", which stands before it`}},
		{name: "an earlier pattern takes all of a class", file: inSite("price a? 1\n\t\tprice a[bc] 2 # HERE"), says: []string{`"a[bc]" can never match`, `"a?", which stands before it`}},
		{name: "names with commas between them", file: inSite("free x, y # HERE"), warn: true, says: []string{"its name begins or ends with a comma", `"price":"x,"`, "separate names by spaces alone"}},
		{name: "a URI that is not in normal form", file: inSite("price resource:Docs://* 1 # HERE"), warn: true, says: []string{"its URI is not in normal form", "in lower case"}},
		{name: "no tool has a price", file: inServer("server weather\n\t\tprovider acme\n\t\tprice prompt:essay 1"), warn: true, says: []string{"no tool of this server can be called", "unpriced free"}},
		{name: "charge_if cannot be read", file: inSite(`charge_if "result." # HERE`), says: []string{"charge_if: its expression cannot be read", "Syntax error"}},
		{name: "charge_if of another type", file: inSite(`price x 1 charge_if "size(result)" # HERE`), says: []string{"charge_if: its expression gives int: it has to give bool"}},
		{name: "charge_if where the start is charged", file: inSite(`price x 1 charge_on started charge_if "true" # HERE`), says: []string{"charge_on started charges before there is one"}},
		{name: "a pattern cannot be read", file: inSite("price [a 1 # HERE"), says: []string{`the pattern "[a" cannot be read`}},
		{name: "a method among the prices", file: inSite("price method:foo/bar 1 # HERE"), says: []string{"write methods as in: method foo/bar 0.01"}},
		{name: "free without a tool", file: inSite("free # HERE"), says: []string{"free: want one argument or more"}},
		{name: "an expression without a most", file: inSite(`price x cel "1" # HERE`), says: []string{"the most it may ask", "max 0.05"}},
		{name: "an expression that cannot be read", file: inSite(`price x cel "1 +" max 1 # HERE`), says: []string{`price of "x": its expression cannot be read`, "Syntax error"}},
		{name: "an expression of another type", file: inSite(`price x cel "true" max 1 # HERE`), says: []string{"its expression gives bool: write micro-units as int"}},
		{name: "an expression with an unknown name", file: inSite(`price x cel "argz.a" max 1 # HERE`), says: []string{"undeclared reference to 'argz'"}},
		{name: "charge_on of a server is misspelt", file: inSite("charge_on sucess # HERE"), says: []string{`unknown "sucess"; known: success, tool_error`}},
		{name: "charge_on of a price is misspelt", file: inSite("price x 1 charge_on nope # HERE"), says: []string{`unknown "nope"; known: success, tool_error`}},
		{name: "unpriced is a wrong word", file: inSite("unpriced block # HERE"), says: []string{`want deny, free or an amount, not "block"`}},
		{name: "unpriced is below zero", file: inSite("unpriced -1 # HERE"), says: []string{"below zero"}},
		{name: "a method that has its price by name", file: inSite("method tools/call 1 # HERE"), says: []string{`method "tools/call"`, "use price"}},
		{name: "a method with a wrong word", file: inSite("method foo/bar maybe # HERE"), says: []string{`method "foo/bar": want free or an amount`}},

		// Mistakes in caps, quotas, fees and rates.
		{name: "a cap for an unknown time", file: inSite("cap hour 1 # HERE"), says: []string{`unknown period "hour"; known: call, day, month`}},
		{name: "a cap below a price", file: inSite("cap call 0.001"), warn: true, says: []string{"no account can ever pay it", `"price_of":"get_forecast"`, `"at":"Caddyfile:9"`}},
		{name: "caps exchanged", file: inSite("cap call 5\n\t\tcap day 1"), warn: true, says: []string{"bounds nothing: they may be exchanged", `"at":"Caddyfile:9"`}},
		{name: "a quota without its time", file: inSite("free_quota 100 # HERE"), says: []string{`free_quota "100"`, "as in 100/day"}},
		{name: "a quota of nothing", file: inSite("free_quota 0/day # HERE"), says: []string{`free_quota "0/day"`, "as in 100/day"}},
		{name: "a fee without %", file: inSite("fee 5 operator # HERE"), says: []string{`"5" is not a share`, "as in 2.5%"}},
		{name: "a fee of more than all", file: inSite("fee 101% operator # HERE"), says: []string{`"101%" is not a share`, "0% to 100%"}},
		{name: "a fee for the provider", file: inSite("fee 5% acme"), says: []string{"the account is the provider", "Caddyfile:9"}},
		{name: "a rate without its time", file: inSite("rate_limit 60 # HERE"), says: []string{`rate "60"`, "as in: 60/1m burst 100"}},
		{name: "a rate with a word for its time", file: inSite("rate_limit 60/minute # HERE"), says: []string{`rate "60/minute"`, "as in: 60/1m burst 100"}},
		{name: "a rate with a wrong burst", file: inSite("rate_limit 60/1m burst x # HERE"), says: []string{"as in: 60/1m burst 100"}},

		// Mistakes in scopes and OAuth.
		{name: "a scope that is not declared", file: inSite("scope get_forecast wether:read # HERE"), says: []string{`unknown scope "wether:read"`, "declare it in the global option farebox"}},
		{name: "a scope rule without scopes", file: inSite("scope get_forecast # HERE"), says: []string{"want what it is for and the scopes"}},
		{name: "a required scope that is not declared", file: inSite("require nosuch:scope # HERE"), says: []string{`unknown scope "nosuch:scope"`}},
		{name: "scopes that include each other", file: inOption("scopes {\n\t\t\ta:b includes c:d # HERE\n\t\t\tc:d includes a:b\n\t\t}"), says: []string{"comes around to itself"}},
		{name: "an issuer without an audience", file: inSite("issuer https://idp.example.com {\n\t\t\taccount sub\n\t\t}"), says: []string{"issuer https://idp.example.com: want audience", "server \"weather\""}},
		{name: "an issuer without an account", file: inSite("issuer https://idp.example.com # HERE"), says: []string{"issuer: want account: the claim that names the account, as in: account sub"}},
		{name: "an issuer by plain http", file: inSite("issuer http://idp.example.com { # HERE\n\t\t\taccount sub\n\t\t}"), says: []string{"want https; http is for loopback hosts alone"}},
		{name: "an issuer with shared secrets", file: inSite("issuer https://idp.example.com {\n\t\t\taccount sub\n\t\t\talgorithms HS256 # HERE\n\t\t}"), says: []string{"algorithm \"HS256\" is not accepted: want RS256"}},
		{name: "a trusted account that is made", file: inSite("issuer https://idp.example.com { # HERE\n\t\t\taccount sub trusted\n\t\t\tcreate\n\t\t}"), says: []string{"a trusted account is one that exists"}},
		{name: "an issuer with a misspelled option", file: inSite("issuer https://idp.example.com {\n\t\t\taudiences x # HERE\n\t\t}"), says: []string{"did you mean \"audience\"?"}},
		{name: "an issuer of another environment", file: inSite("issuer https://idp.example.com {\n\t\t\taudience x\n\t\t\taccount sub\n\t\t\tenvironment test\n\t\t}"), says: []string{"the server does not admit test"}},
		{name: "oauth without a resource", file: inSite("oauth {\n\t\t\tauthorization_servers https://a.example\n\t\t}"), says: []string{"oauth: want a resource: the public URL", "Caddyfile:1"}},
		{name: "oauth by plain http", file: inSite("oauth {\n\t\t\tresource http://a.example/mcp # HERE\n\t\t\tauthorization_servers https://a.example\n\t\t}"), says: []string{"want https; http is for loopback hosts alone"}},
		{name: "oauth that nothing serves", file: inSite("oauth {\n\t\t\tresource https://a.example/mcp\n\t\t\tauthorization_servers https://a.example\n\t\t}"),
			says: []string{"Caddyfile:9", "nothing serves its metadata: add the line farebox_metadata to the site"}},

		// Mistakes in farebox_health.
		{name: "health at a path without a slash", file: inFile(soundStore, ":8099 {\n\tfarebox_health readyz # HERE\n}"), says: []string{`path "readyz": want an exact path, as /readyz`}},
		{name: "health at a pattern", file: inFile(soundStore, ":8099 {\n\tfarebox_health /health* # HERE\n}"), says: []string{`path "/health*": want an exact path, as /readyz`}},
		{name: "health at one path for both", file: inFile(soundStore, ":8099 {\n\tfarebox_health /livez # HERE\n}"), says: []string{"/livez cannot be the path of both", "defaults: /readyz /livez"}},
		{name: "health at three paths", file: inFile(soundStore, ":8099 {\n\tfarebox_health /a /b /c # HERE\n}"), says: []string{"takes two paths at most, as in: farebox_health /readyz /livez"}},
		{name: "health with a block", file: inFile(soundStore, ":8099 {\n\tfarebox_health {\n\t\tready /a # HERE\n\t}\n}"), says: []string{"has no block: its paths stand on its line"}},
		{name: "stdio without a command", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio # HERE\n}"), says: []string{"want the command that starts the server, as in: farebox_stdio npx -y"}},
		{name: "stdio with a secret among the arguments", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true --key {env.API_KEY} # HERE\n}"), says: []string{"other users of the machine can see arguments", "use env NAME {env.API_KEY}"}},
		{name: "stdio with an unknown option", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true {\n\t\tmemry 1GiB # HERE\n\t}\n}"), says: []string{`did you mean "memory"?`}},
		{name: "stdio with a variable without a value", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true {\n\t\tenv API_KEY # HERE\n\t}\n}"), says: []string{"want a name and a value, as in: env API_KEY {env.API_KEY}"}},
		{name: "stdio with a variable twice", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true {\n\t\tenv A 1\n\t\tenv A 2 # HERE\n\t}\n}"), says: []string{"env: A is given twice"}},
		{name: "stdio with a variable that is not set", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true { # HERE\n\t\tenv A {env.NO_SUCH_VARIABLE}\n\t}\n}"), says: []string{"env A:", "NO_SUCH_VARIABLE"}},
		{name: "stdio with a wrong sharing", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true {\n\t\tper user # HERE\n\t}\n}"), says: []string{`want session, account or shared, not "user"`}},
		{name: "stdio with instances of a session", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true {\n\t\tinstances 3\n\t}\n}"), says: []string{"instances is for shared processes: add per shared"}},
		{name: "stdio in no directory", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true { # HERE\n\t\tdir /no/such/directory\n\t}\n}"), says: []string{"dir: stat /no/such/directory"}},
		{name: "stdio by an unknown user", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true { # HERE\n\t\tuser nobody-of-that-name\n\t}\n}"), says: []string{`there is no user "nobody-of-that-name"`}},
		{name: "stdio with a wrong time", file: inFile(soundStore, ":8099 {\n\tfarebox_stdio /bin/true {\n\t\tidle 1x # HERE\n\t}\n}"), says: []string{"idle: want a time, such as 60s"}},
		{name: "console without an address", file: inFile(soundStore, ":8099 {\n\tfarebox_console # HERE\n}"), says: []string{"want the URL at which people open the console, as in: farebox_console https://gateway.example.com/console"}},
		{name: "console at a path", file: inFile(soundStore, ":8099 {\n\tfarebox_console /console # HERE\n}"), says: []string{"want the URL at which people open the console"}},
		{name: "console without TLS", file: inFile(soundStore, ":8099 {\n\tfarebox_console http://gateway.example.com/console # HERE\n}"), says: []string{"without TLS, passwords and sessions could be read on their way", "use https, or a loopback address"}},
		{name: "console with an unknown option", file: inFile(soundStore, ":8099 {\n\tfarebox_console http://localhost:8099/console {\n\t\tsession_idl 1h # HERE\n\t}\n}"), says: []string{`did you mean "session_idle"?`}},
		{name: "console with a signup for anybody", file: inFile(soundStore, ":8099 {\n\tfarebox_console http://localhost:8099/console {\n\t\tsignup {\n\t\t\tcredit 0.50\n\t\t}\n\t} # HERE\n}"), says: []string{"signup needs a code, or oidc beside it"}},
		{name: "console with a provider without a client", file: inFile(soundStore, ":8099 {\n\tfarebox_console http://localhost:8099/console {\n\t\toidc https://login.example.com # HERE\n\t}\n}"), says: []string{"want the issuer, the client's id and its secret"}},
		{name: "console with a member of no role", file: inFile(soundStore, ":8099 {\n\tfarebox_console http://localhost:8099/console {\n\t\toidc https://login.example.com farebox {\n\t\t\tmember domain example.com acme # HERE\n\t\t}\n\t}\n}"), says: []string{"want a domain or a group, an account and a role"}},
		{name: "console with links that last too long", file: inFile(soundStore, ":8099 {\n\tfarebox_console http://localhost:8099/console {\n\t\tinvitation_life 90d\n\t} # HERE\n}"), says: []string{"invitation_life is at most 30 days"}},
		{name: "console with sessions that end before they are idle", file: inFile(soundStore, ":8099 {\n\tfarebox_console http://localhost:8099/console {\n\t\tsession_life 6h\n\t\tsession_idle 12h\n\t} # HERE\n}"), says: []string{"session_idle 12h0m0s is longer than session_life, which is 6h0m0s"}},
		{name: "health for a matcher that is not there", file: inFile(soundStore, ":8099 {\n\tfarebox_health @balancer # HERE\n}"), says: []string{"unrecognized matcher name: @balancer"}},

		// Mistakes in alerts.
		{name: "alerts to a webhook without a secret", file: inOption("alerts {\n\t\t\twebhook https://a.example\n\t\t} # HERE"), says: []string{"a webhook needs a secret", "openssl rand"}},
		{name: "alerts to a webhook without TLS", file: inOption("alerts {\n\t\t\twebhook http://a.example {\n\t\t\t\tsecret whsec_TXlTZWNyZXRJc0xvbmdFbm91Z2hGb3JIbWFjU2hh\n\t\t\t}\n\t\t} # HERE"), says: []string{"a.example would get alerts without TLS"}},
		{name: "alerts with a short secret", file: inOption("alerts {\n\t\t\twebhook https://a.example {\n\t\t\t\tsecret whsec_c2hvcnQ=\n\t\t\t}\n\t\t} # HERE"), says: []string{"24 to 64 bytes in base64", "openssl rand"}},
		{name: "alerts by a mail server without a port", file: inOption("alerts {\n\t\t\temail {\n\t\t\t\tsmtp mail.example.com\n\t\t\t\tfrom a@example.com\n\t\t\t}\n\t\t} # HERE"), says: []string{"want a host and a port, as in: smtp mail.example.com:587"}},
		{name: "alerts without a sender", file: inOption("alerts {\n\t\t\temail {\n\t\t\t\tsmtp mail.example.com:587\n\t\t\t}\n\t\t} # HERE"), says: []string{"email needs a sender, as in: from alerts@example.com"}},
		{name: "alerts for nobody", file: inOption("alerts {\n\t\t\temail {\n\t\t\t\tsmtp mail.example.com:587\n\t\t\t\tfrom a@example.com\n\t\t\t\towners off\n\t\t\t}\n\t\t} # HERE"), says: []string{"email has no recipients"}},
		{name: "alerts of a gateway without a store", file: inFile("\tfarebox { # HERE\n\t\tstore remote https://x.example sk_live_x\n\t\talerts {\n\t\t\tevery 1m\n\t\t}\n\t}", ""), says: []string{"alerts needs a store of its own"}},
		{name: "alerts too often", file: inOption("alerts {\n\t\t\tevery 1ms\n\t\t} # HERE"), says: []string{"every is from 1s to 1h0m0s"}},
		{name: "alerts by an unknown channel", file: inOption("alerts {\n\t\t\tslack x # HERE\n\t\t}"), says: []string{`alerts has no subdirective "slack"`, "email, every, webhook"}},

		// Mistakes in other subdirectives.
		{name: "an unknown style of errors", file: inSite("error_style json # HERE"), says: []string{`want mcp or http, not "json"`}},
		{name: "a size with a space", file: inSite("max_body 4 MB # HERE"), says: []string{"max_body: want exactly one argument"}},
		{name: "a size that is too large", file: inSite("max_body 2GiB # HERE"), says: []string{"want a size up to 1GiB, such as 4MiB"}},
		{name: "a time without its unit", file: inSite("max_call 10 # HERE"), says: []string{`want a time, such as 60s, 5m or 1h, not "10"`}},
		{name: "a pause in words", file: inOption("verify_every never # HERE"), says: []string{"verify_every", "or 0 for never"}},
		{name: "a time in words", file: inSite("keepalive never # HERE"), says: []string{"or 0 for never"}},
		{name: "an origin with a path", file: inSite("origins https://a.example/x # HERE"), says: []string{"want a scheme and a host, as https://app.example.com"}},
		{name: "all origins", file: inSite("origins * # HERE"), says: []string{`origin "*"`, "as https://app.example.com"}},
		{name: "keys in a cookie", file: inSite("credentials cookie x # HERE"), says: []string{"as in: credentials header X-API-Key"}},
		{name: "keys in Authorization, twice", file: inSite("credentials header Authorization # HERE"), says: []string{"Authorization has another meaning"}},
		{name: "a switch with a wrong word", file: inSite("receipts yes # HERE"), says: []string{`want on or off, not "yes"`}},
		{name: "a call log with a file", file: inSite("call_log /var/log/calls.jsonl # HERE"), says: []string{`call_log: want on or off, not "/var/log/calls.jsonl"`}},
		{name: "a secret that is not set", file: inSite("upstream_authorization {env.NOPE_NOT_SET}"), says: []string{"Caddyfile:9", "{env.NOPE_NOT_SET} is empty"}},

		// Mistakes in the global option.
		{name: "the option is misspelt", file: "{\n\tfarbox {\n\t}\n}\n", says: []string{"unrecognized global option: farbox", "Caddyfile:2"}},
		{name: "the option has an argument", file: "{\n\tfarebox sqlite # HERE\n}\n", says: []string{"takes a block and no arguments"}},
		{name: "the option stands twice", file: "{\n\tfarebox {\n\t}\n\tfarebox { # HERE\n\t}\n}\n", says: []string{"given twice"}},
		{name: "a price among the options", file: inOption("price x 1 # HERE"), says: []string{`no subdirective "price"`, "it has: alerts, cache,"}},
		{name: "an unknown kind of store", file: "{\n\tfarebox {\n\t\tstore mysql x # HERE\n\t}\n}\n", says: []string{`unknown kind "mysql"; known: sqlite, postgres, remote`}},
		{name: "a store without its place", file: "{\n\tfarebox {\n\t\tstore sqlite # HERE\n\t}\n}\n", says: []string{"as in: store sqlite farebox.db"}},
		{name: "a DSN that cannot be read", file: inFile("\tfarebox {\n\t\tstore postgres host\n\t}", ""), says: []string{"Caddyfile:3: store: the DSN of the database cannot be read", "postgres://user:password@host:port/database"}},
		{name: "a platform by ftp", file: inFile("\tfarebox {\n\t\tstore remote ftp://x key\n\t}", ""), says: []string{"Caddyfile:3: store", `begins with "ftp": want https`}},
		{name: "a platform within a gateway without a store", file: inFile("\tfarebox {\n\t\tstore remote https://x.example sk_live_x\n\t}\n\torder farebox_platform first", ":8099 {\n\tfarebox_platform\n}"),
			says: []string{"the store of this config is another platform's", "take farebox_platform out"}},
		{name: "a currency in small letters", file: inOption("currency usd # HERE"), says: []string{`currency "usd": want three capital letters, as USD`}},
		{name: "a currency in words", file: inOption("currency dollars # HERE"), says: []string{"want three capital letters, as USD"}},
		{name: "a currency that nobody has", file: inOption("currency XXQ"), warn: true, says: []string{"no currency of ISO 4217 has this code", "XXQ"}},
		{name: "records of calls for minutes", file: inOption("call_records 10m # HERE"), says: []string{"call_records: want off, or a time from 1h to 3650d"}},
		{name: "records of calls that are off and kept", file: inOption("call_records off 30d # HERE"), says: []string{"call_records off takes nothing more"}},
		{name: "records of calls for two times", file: inOption("call_records 30d 7d # HERE"), says: []string{"call_records takes one argument"}},
		{name: "records of calls with an unknown option", file: inOption("call_records {\n\t\t\tfre on # HERE\n\t\t}"), says: []string{`did you mean "free"?`}},
		{name: "records of no calls", file: inOption("call_records {\n\t\t\tmost 0 # HERE\n\t\t}"), says: []string{"most"}},
		{name: "a cache of a wrong size", file: inOption("cache {\n\t\t\tsize many # HERE\n\t\t}"), says: []string{`want a number of keys, not "many"`}},
		{name: "a cache of a wrong time", file: inOption("cache {\n\t\t\tttl 60 # HERE\n\t\t}"), says: []string{`want a time, such as 60s, 5m or 1h, not "60"`}},
		{name: "a prefix in capitals", file: inOption("secrets {\n\t\t\tprefix SK\n\t\t}"), says: []string{"Caddyfile:3", `prefix "SK" of secrets is not allowed`, "a-z"}},
		{name: "memory in words", file: inOption("limits {\n\t\t\tmemory lots # HERE\n\t\t}"), says: []string{`want a size, such as 256MiB, not "lots"`}},
		{name: "memory below what a body takes", file: inOption("limits {\n\t\t\tmemory 1MiB\n\t\t}"), says: []string{"raise limits memory or lower max_body", "Caddyfile:11"}},

		// Mistakes in logs to a syslog server.
		{name: "a syslog server without an address", file: inFile("\tlog {\n\t\toutput farebox_syslog # HERE\n\t}\n"+soundStore, soundSite), says: []string{"farebox_syslog: want exactly one argument"}},
		{name: "a syslog server by TLS", file: inFile("\tlog {\n\t\toutput farebox_syslog tls/logs.example.com:6514 # HERE\n\t}\n"+soundStore, soundSite), says: []string{`address "tls/logs.example.com:6514": want udp/host:port, tcp/host:port, unixgram//path or unix//path`}},
		{name: "a syslog server without a network", file: inFile("\tlog {\n\t\toutput farebox_syslog logs.example.com # HERE\n\t}\n"+soundStore, soundSite), says: []string{"want udp/host:port"}},
		{name: "a facility that does not exist", file: inFile("\tlog {\n\t\toutput farebox_syslog udp/localhost {\n\t\t\tfacility audits # HERE\n\t\t}\n\t}\n"+soundStore, soundSite), says: []string{`unknown facility "audits"; known: kern, user`}},
		{name: "a severity that does not exist", file: inFile("\tlog {\n\t\toutput farebox_syslog udp/localhost {\n\t\t\tseverity error # HERE\n\t\t}\n\t}\n"+soundStore, soundSite), says: []string{`unknown severity "error"; known: emerg, alert, crit, err`}},
		{name: "an app name with a space", file: inFile("\tlog {\n\t\toutput farebox_syslog udp/localhost {\n\t\t\tapp_name \"my gateway\" # HERE\n\t\t}\n\t}\n"+soundStore, soundSite), says: []string{`app name "my gateway": want 1 to 48 printable ASCII characters`}},
		{name: "an option of syslog is misspelt", file: inFile("\tlog {\n\t\toutput farebox_syslog udp/localhost {\n\t\t\tfacilty auth # HERE\n\t\t}\n\t}\n"+soundStore, soundSite), says: []string{`did you mean "facility"?`}},

		// Mistakes in the part of the Caddyfile around farebox.
		{name: "keys in the log", file: inFile("\tservers {\n\t\tlog_credentials\n\t}\n"+soundStore, soundSite), says: []string{"log_credentials is on", "take it out of the global option servers"}},
		{name: "nothing behind it", file: inFile(soundStore, strings.Replace(soundSite, "\treverse_proxy localhost:3001\n", "", 1)), says: []string{`server "weather"`, "nothing after it answers: want upstream"}},
		{name: "upstream without an address", file: inSite("price x 1\n\t\tupstream # HERE"), says: []string{"want the address of the MCP server, as in: upstream localhost:3001"}},
		{name: "upstream with a path", file: inSite("price x 1\n\t\tupstream localhost:3001/mcp # HERE"), says: []string{`an address has no path, unlike "localhost:3001/mcp"`}},
		{name: "upstream with a wrong option", file: inSite("price x 1\n\t\tupstream localhost:3001 {\n\t\t\tlb_polici first # HERE\n\t\t}"), says: []string{"unrecognized subdirective lb_polici"}},
		{name: "behind what answers", file: inFile(soundStore, ":8099 {\n\troute {\n\t\trespond hi\n\t\tfarebox { # HERE\n\t\t\tserver weather\n\t\t\tprovider acme\n\t\t\tfree *\n\t\t}\n\t\treverse_proxy localhost:3001\n\t}\n}"),
			says: []string{"no call ever comes to it: static_response has answered before"}},
		{name: "behind its own proxy", file: inFile(soundStore, ":8099 {\n\troute {\n\t\treverse_proxy localhost:3001\n\t\tfarebox { # HERE\n\t\t\tserver weather\n\t\t\tprovider acme\n\t\t\tfree *\n\t\t}\n\t}\n}"),
			says: []string{"no call ever comes to it: reverse_proxy has answered before"}},
		{name: "another site goes past it", file: inFile(soundStore, soundSite+":8098 {\n\treverse_proxy 127.0.0.1:3001\n}"), warn: true,
			says: []string{"reaches a server past farebox", `"server":"weather"`, `"farebox":"Caddyfile:9"`, `"reverse_proxy":"Caddyfile:17"`, "put a farebox before that reverse_proxy"}},
		{name: "another route goes past it", file: inFile(soundStore, ":8099 {\n\thandle /mcp {\n\t\tfarebox {\n\t\t\tserver weather\n\t\t\tprovider acme\n\t\t\tfree *\n\t\t}\n\t\treverse_proxy localhost:3001\n\t}\n\thandle {\n\t\treverse_proxy localhost:3001\n\t}\n}"), warn: true,
			says: []string{"reaches a server past farebox", `"reverse_proxy":"Caddyfile:18"`}},
		{name: "an expression without quotes", file: inSite("price x 1 charge_if result.ok == true # HERE"), says: []string{`not "=="`, "an expression with spaces stands in quotes"}},
		{name: "a socket in a directory that is not there", file: "{\n\tadmin unix//nowhere-at-all/admin.sock|0600\n" + soundStore + "}\n" + soundSite, warn: true,
			says: []string{"the directory of the socket of its admin endpoint is not there", "mkdir -m 0700 /nowhere-at-all"}},
		{name: "admin for everybody", file: "{\n\tadmin 0.0.0.0:2999\n" + soundStore + "}\n" + soundSite, warn: true, says: []string{"admin endpoint is a TCP port", "admin unix//"}},
	}
}

// TestMistakes checks that "farebox validate" reports each mistake, with the line
// number if the mistake has a line in the Caddyfile. A doubtful setting gets a warning.
func TestMistakes(t *testing.T) {
	t.Parallel()
	rows := mistakes()
	if len(rows) < 71 {
		t.Errorf("%d rows", len(rows))
	}
	if said, err := validated(t, inFile(soundStore, soundSite)); err != nil || strings.Contains(said, `"level":"warn"`) {
		t.Errorf("a config without mistakes: %v, output %s", err, said)
	}
	for _, m := range rows {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			said, err := validated(t, m.file)
			if (err == nil) != m.warn {
				t.Errorf("validate returned %v", err)
			}
			if before, _, found := strings.Cut(m.file, "HERE"); found && !m.warn {
				m.says = append(m.says, fmt.Sprintf("Caddyfile:%d", strings.Count(before, "\n")+1))
			}
			if m.warn {
				m.says = append(m.says, `"level":"warn"`)
			}
			for _, part := range m.says {
				if !strings.Contains(said, part) {
					t.Errorf("%q is missing in: %s", part, said)
				}
			}
		})
	}
}

// validated runs "farebox validate" on a Caddyfile and returns its output
// without the notes on formatting, and with the quotes unescaped.
func validated(t *testing.T, text string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binaries.Farebox, "validate", "--config", "Caddyfile")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	lines := slices.DeleteFunc(strings.Split(out.String(), "\n"), func(line string) bool { return strings.Contains(line, "Caddyfile input is not formatted") })
	return strings.ReplaceAll(strings.Join(lines, "\n"), `\"`, `"`), err
}
