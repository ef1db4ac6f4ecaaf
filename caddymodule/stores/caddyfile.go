package stores

import "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

// Parse reads the arguments of the subdirective store. The dispenser's current token
// must be the name of the subdirective.
func Parse(d *caddyfile.Dispenser) (*Store, error) {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return nil, d.Err("store: want a kind and where it is, as in: store sqlite farebox.db")
	}
	s := &Store{Driver: args[0]}
	switch args[0] {
	case SQLite:
		if len(args) != 2 {
			return nil, d.Err("store: want a kind and where it is, as in: store sqlite farebox.db")
		}
		s.Path = args[1]
	case Postgres:
		if len(args) != 2 {
			return nil, d.Err("store: want a kind and where it is, as in: store postgres {env.FAREBOX_DSN}; a DSN with spaces stands in quotes")
		}
		s.DSN = args[1]
	case Remote:
		if len(args) != 3 {
			return nil, d.Err("store: want the platform's address and a gateway key of it, as in: store remote https://platform.example.com {env.FAREBOX_GATEWAY_KEY}")
		}
		s.URL, s.Key = args[1], args[2]
	default:
		return nil, d.Errf("store: unknown kind %q; known: %s", args[0], drivers)
	}
	return s, nil
}
