// Package archtest tests rules about the whole source tree, such as the imports that a
// package may have. Each rule about imports has its reason beside it. To change a wrong
// rule, change it here and add a decision record in docs/adr.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fareboxhq/farebox/"

// pkg is a package as `go list` describes it. Imports does not include the imports of
// test files, which may import anything.
type pkg struct {
	ImportPath string
	Imports    []string
	Doc        string
	GoFiles    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Doc,GoFiles", module+"...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// standard reports whether a package belongs to the standard library.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// everywhere lists the packages that every package may import.
var everywhere = []string{"internal/clock", "internal/id"}

// onlyInternal lists, for each package of the core, the packages of this module that
// it may import. The entry "third party" also allows packages of other modules.
var onlyInternal = []struct {
	pkg     string
	imports []string
	reason  string
}{
	{"internal/keys", nil, "what a key is depends on nothing"},
	{"internal/ledger", nil, "what charging means depends on nothing"},
	{"internal/archive", []string{"internal/ledger"}, "files that outlive a store are read without one"},
	{"internal/mcp", nil, "how messages are read depends on nothing"},
	{"internal/items", []string{"third party"}, "what a server offers has a name whatever it costs and whoever may use it; Unicode's normal forms need their tables"},
	{"internal/pricing", []string{"internal/items", "internal/ledger", "third party"}, "a price is an amount for a tool; expressions need a language, which is CEL"},
	{"internal/gate", []string{"internal/items", "internal/keys", "internal/ledger", "internal/mcp", "internal/pricing"}, "decisions are made without a protocol, a store or a server in hand"},
	{"internal/coding", []string{"third party"}, "how a body is encoded has nothing to do with what is in it"},
	{"internal/intercept", []string{"internal/coding", "internal/gate", "internal/mcp"}, "a response is cut by what the gate settles and by nothing else"},
	{"internal/exchange", []string{"internal/gate", "internal/hop", "internal/intercept", "internal/items", "internal/keys", "internal/ledger", "internal/mcp", "internal/share"}, "a request is served by decisions, messages and shares; the web server, the engine and the metrics are interfaces of its own, which tests replace"},
	{"internal/offer", []string{"internal/durable"}, "what a server offers is asked without a price in mind"},
	{"internal/upstream", []string{"internal/hop", "internal/mcp"}, "how a request is sent has nothing to do with what it costs"},
	{"internal/hop", nil, "it is used everywhere"},
	{"internal/signal", nil, "it is used everywhere"},
	{"internal/recent", nil, "it is used everywhere"},
	{"internal/durable", nil, "it is used everywhere"},
	{"internal/share", nil, "who may hold how much depends on nothing"},
	{"internal/wire", []string{"internal/keys", "internal/ledger"}, "what goes over the wire is written down once, for both ends, and decides nothing"},
	{"internal/keycache", []string{"internal/keys", "internal/recent", "third party"}, "the cache stands before any origin"},
	{"internal/schema", []string{"third party"}, "how migrations are numbered has nothing to do with what is in them"},
	{"internal/sqlitestore", []string{"internal/durable", "internal/keys", "internal/ledger", "internal/schema", "third party"}, "a store implements its consumers' interfaces and knows none of them, and no other store"},
	{"internal/pgerr", []string{"third party"}, "an error of the database has a class whatever was asked"},
	{"internal/pgdsn", []string{"third party"}, "the name of a database says nothing of what is in it"},
	{"internal/pgvalue", nil, "how a value is written depends on nothing"},
	{"internal/pgschema", []string{"internal/pgdsn", "internal/pgerr", "internal/schema", "third party"}, "a schema is brought up to date before there is a store"},
	{"internal/pgstore", []string{"internal/keys", "internal/ledger", "internal/pgdsn", "internal/pgerr", "internal/pgschema", "internal/pgvalue", "internal/signal", "third party"}, "a store implements its consumers' interfaces and knows none of them, and no other store"},
	{"internal/pgserver", []string{"third party"}, "a server for tests and demonstrations is of no store"},
	{"internal/pgtest", []string{"internal/pgserver", "third party"}, "a database for tests is of no store"},
	{"internal/remotestore", []string{"internal/keys", "internal/ledger", "internal/signal", "internal/wire", "third party"}, "a gateway knows of a platform what goes over the wire, and nothing of how it is served"},
	{"internal/identity", []string{"internal/keys"}, "the author of a request is known before its operation is"},
	{"internal/admin", []string{"internal/archive", "internal/identity", "internal/keys", "internal/ledger", "third party"}, "operations work on any store"},
	{"internal/ops", []string{"internal/admin", "internal/identity", "internal/keys", "internal/ledger", "internal/share", "internal/wire", "third party"}, "operations work on any store, and nothing in their table depends on its mounts"},
	{"internal/platform", []string{"internal/admin", "internal/gate", "internal/identity", "internal/keys", "internal/ledger", "internal/ops", "internal/share", "internal/wire", "third party"}, "the API works on any store, and the shell brings the runtime"},
	{"internal/inprocess", nil, "any handler can be called in process"},
	{"internal/cli", []string{"internal/admin", "internal/archive", "internal/durable", "internal/engine", "internal/identity", "internal/inprocess", "internal/keys", "internal/ledger", "internal/ops", "internal/sqlitestore", "third party"}, "commands call operations and work on files; sqlitestore restores and migrates its own, engine finds the receipt keys. Programs bring configs and addresses"},
	{"caddymodule/grammar", []string{"third party"}, "how a block is read has nothing to do with its words"},
	{"caddymodule/pricebook", []string{"caddymodule/grammar", "internal/gate", "internal/items", "internal/ledger", "internal/mcp", "internal/pricing", "third party"}, "prices are configured without a site, a store or a request at hand"},
	{"caddymodule/resource", []string{"caddymodule/grammar", "internal/keys", "third party"}, "metadata is served without a store"},
	{"caddymodule/target", []string{"internal/upstream", "third party"}, "the way to a server has nothing to do with what its tools cost"},
	{"caddymodule/routes", []string{"caddymodule/target", "third party"}, "a route is read without a meaning of its handlers"},
	{"caddymodule/accesslog", []string{"internal/exchange", "internal/keys", "third party"}, "a record is written without a store"},
	{"caddymodule/stores", []string{"internal/engine", "internal/ledger", "internal/pgdsn", "internal/pgstore", "internal/remotestore", "internal/sqlitestore", "third party"}, "the one place that knows all kinds of stores"},
	{"internal/telemetry", []string{"internal/gate", "internal/ledger", "internal/share", "third party"}, "metrics watch, and are not asked"},
}

// TestImports checks that the packages of the core import only the packages that
// onlyInternal allows.
func TestImports(t *testing.T) {
	packages := make(map[string]pkg)
	for _, p := range list(t) {
		packages[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	for _, rule := range onlyInternal {
		p, ok := packages[rule.pkg]
		if !ok {
			t.Errorf("%s: there is a rule for it, but no such package", rule.pkg)
		}
		allowed := make(map[string]bool)
		for _, name := range rule.imports {
			allowed[name] = true
		}
		for _, path := range p.Imports {
			inner, ours := strings.CutPrefix(path, module)
			if standard(path) || ours && (allowed[inner] || slices.Contains(everywhere, inner)) || !ours && allowed["third party"] {
				continue
			}
			t.Errorf("%s imports %s: %s", rule.pkg, path, rule.reason)
		}
	}
}

// The list named only has the packages that not every package of this module may
// import. The field may has the packages that may import them. A path stands for all
// packages that begin with it.
var only = []struct {
	path   string
	may    []string
	reason string
}{
	{"github.com/caddyserver/caddy/", []string{"caddymodule", "caddymodule/accesslog", "caddymodule/grammar", "caddymodule/pricebook", "caddymodule/resource", "caddymodule/routes", "caddymodule/stores", "caddymodule/target", "xcaddy"}, "what Farebox does must be testable and usable without Caddy"},
	{"go.uber.org/zap", []string{"caddymodule", "caddymodule/accesslog", "xcaddy"}, "the other packages log with log/slog"},
	{"database/sql", []string{"internal/sqlitestore", "internal/pgschema"}, "SQL stays in the stores"},
	{"github.com/jackc/pgx", []string{"internal/pgdsn", "internal/pgerr", "internal/pgschema", "internal/pgstore", "internal/pgserver", "internal/pgtest"}, "PostgreSQL is one store's affair; the others make databases for tests and demonstrations"},
	{module + "internal/pgtest", nil, "it makes databases for tests alone"},
	{module + "internal/pgserver", []string{"internal/pgtest", "examples/postgres", "integration/bench"}, "it starts servers for tests, demonstrations and measurements, and no program that is deployed may"},
	{"github.com/prometheus/", []string{"internal/telemetry"}, "collectors are made in one place, once a process"},
	{"cel.dev/", []string{"internal/pricing"}, "expressions are compiled, bounded and judged in one place"},
	{"github.com/danielgtaylor/huma", []string{"internal/ops"}, "one package describes an API and checks requests by it"},
	{"github.com/schollz/progressbar", []string{"internal/cli"}, "only commands have a user who watches"},
	{"golang.org/x/term", []string{"internal/cli"}, "only commands have a terminal"},
	{"github.com/spf13/cobra", []string{"internal/cli", "caddymodule", "xcaddy"}, "commands are in internal/cli; Caddy's interface to them is a cobra command"},
	{"github.com/spf13/pflag", []string{"internal/cli"}, "flags belong to commands"},
	{module + "internal/cli", []string{"caddymodule", "xcaddy"}, "commands stand above all operations"},
	{"github.com/sony/gobreaker", []string{"internal/remotestore"}, "what fails at once while the platform is down is decided where the platform is asked"},
	{"github.com/cenkalti/backoff", []string{"internal/pgstore", "internal/remotestore"}, "only what goes under an id may be sent again"},
	{"github.com/klauspost/compress", []string{"internal/coding"}, "what is decoded is bounded in one place"},
	{"github.com/andybalholm/brotli", []string{"internal/coding"}, "what is decoded is bounded in one place"},
	{"github.com/dgraph-io/ristretto", []string{"internal/keycache"}, "its pitfalls are handled in one place"},
}

// TestForeignImports checks that no package of this module breaks a rule of the list
// above.
func TestForeignImports(t *testing.T) {
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, path := range p.Imports {
			for _, rule := range only {
				if strings.HasPrefix(path, rule.path) && !slices.Contains(rule.may, name) {
					t.Errorf("%s imports %s: %s", name, path, rule.reason)
				}
			}
		}
	}
}

// TestPackageComments checks that every package has a package comment.
func TestPackageComments(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
