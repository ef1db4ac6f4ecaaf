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
	{"internal/rollup", []string{"internal/ledger"}, "what is summed up, and how it is read, is the same for each store"},
	{"internal/archive", []string{"internal/ledger"}, "files that outlive a store are read without one"},
	{"internal/mcp", nil, "how messages are read depends on nothing"},
	{"internal/items", []string{"third party"}, "what a server offers has a name whatever it costs and whoever may use it; Unicode's normal forms need their tables"},
	{"internal/pricing", []string{"internal/items", "internal/ledger", "third party"}, "a price is an amount for a tool; expressions need a language, which is CEL"},
	{"internal/gate", []string{"internal/items", "internal/keys", "internal/ledger", "internal/mcp", "internal/pricing", "internal/trace"}, "decisions are made without a protocol, a store or a server in hand"},
	{"internal/coding", []string{"third party"}, "how a body is encoded has nothing to do with what is in it"},
	{"internal/intercept", []string{"internal/coding", "internal/gate", "internal/mcp"}, "a response is cut by what the gate settles and by nothing else"},
	{"internal/exchange", []string{"internal/callrecord", "internal/gate", "internal/hop", "internal/intercept", "internal/items", "internal/keys", "internal/ledger", "internal/mcp", "internal/registration", "internal/share", "internal/trace"}, "a request is served by decisions, messages and shares; the web server, the engine and the metrics are interfaces of its own, which tests replace"},
	{"internal/offer", []string{"internal/durable"}, "what a server offers is asked without a price in mind"},
	{"internal/issuer", []string{"internal/gate", "internal/keys", "internal/ledger", "internal/pricing", "internal/recent", "internal/share", "internal/weburl", "third party"}, "a token is verified without a store and a site in hand; CEL is compiled where prices are"},
	{"internal/upstream", []string{"internal/hop", "internal/mcp"}, "how a request is sent has nothing to do with what it costs"},
	{"internal/hop", nil, "it is used everywhere"},
	{"internal/weburl", nil, "it is used everywhere"},
	{"internal/stdio/lines", nil, "it is used on both sides of a pipe"},
	{"internal/bridge/sse", nil, "events are read without a meaning of their data"},
	{"internal/bridge/mirror", []string{"internal/mcp"}, "a header depends on the message alone"},
	{"internal/bridge/purse", []string{"internal/ledger"}, "money is counted without a message in hand"},
	{"internal/bridge/tokens", []string{"internal/durable", "third party"}, "tokens are kept without a meaning; keyrings and locks have libraries"},
	{"internal/bridge/login", []string{"internal/bridge/tokens", "internal/weburl", "third party"}, "a sign-in needs no message of MCP; OAuth's documents have a library"},
	{"internal/bridge", []string{"internal/bridge/mirror", "internal/bridge/purse", "internal/bridge/sse", "internal/ledger", "internal/mcp", "internal/stdio/lines", "internal/weburl"}, "a bridge belongs to a client: it knows nothing of the gateway but its protocol"},
	{"internal/stdio/process", []string{"internal/stdio/lines", "third party"}, "a process runs without a meaning of its messages; signals and users need the system's calls"},
	{"internal/stdio/server", []string{"internal/signal", "internal/stdio/lines", "internal/stdio/process", "third party"}, "a stdio server is served without a price and a web server at hand; strict JSON has a library"},
	{"internal/stdio/stdiotest", nil, "a server for tests knows nothing of its host"},
	{"internal/trace", []string{"third party"}, "a span knows nothing of the step that it describes; its library is OpenTelemetry's"},
	{"internal/signal", nil, "it is used everywhere"},
	{"internal/recent", nil, "it is used everywhere"},
	{"internal/syslog", nil, "a message is sent without a meaning of its text"},
	{"internal/durable", nil, "it is used everywhere"},
	{"internal/share", nil, "who may hold how much depends on nothing"},
	{"internal/wire", []string{"internal/keys", "internal/ledger"}, "what goes over the wire is written down once, for both ends, and decides nothing"},
	{"internal/keycache", []string{"internal/keys", "internal/recent", "third party"}, "the cache stands before any origin"},
	{"internal/schema", []string{"third party"}, "how migrations are numbered has nothing to do with what is in them"},
	{"internal/sqlitestore", []string{"internal/durable", "internal/keys", "internal/ledger", "internal/rollup", "internal/schema", "internal/sqltx", "third party"}, "a store implements its consumers' interfaces and knows none of them, and no other store"},
	{"internal/pgerr", []string{"third party"}, "an error of the database has a class whatever was asked"},
	{"internal/pgquery", []string{"internal/ledger", "internal/pgerr", "third party"}, "statements are sent and repeated without knowing their tables"},
	{"internal/pgdsn", []string{"third party"}, "the name of a database says nothing of what is in it"},
	{"internal/pgvalue", nil, "how a value is written depends on nothing"},
	{"internal/pgschema", []string{"internal/pgdsn", "internal/pgerr", "internal/schema", "third party"}, "a schema is brought up to date before there is a store"},
	{"internal/pgusage", []string{"internal/ledger", "internal/pgschema", "internal/pgvalue", "internal/rollup", "third party"}, "sums are kept beside a store, and know nothing of it"},
	{"internal/pgbinding", []string{"internal/ledger", "internal/pgquery", "internal/pgvalue", "third party"}, "bindings and locks are kept without keys and money at hand"},
	{"internal/pgalert", []string{"internal/ledger", "internal/pgquery", "internal/pgvalue", "third party"}, "alerts read the books of a store, and change nothing"},
	{"internal/pgnode", []string{"internal/keys", "internal/pgquery", "third party"}, "nodes are listed without a meaning of what they say about themselves"},
	{"internal/pgstore", []string{"internal/keys", "internal/ledger", "internal/pgalert", "internal/pgbinding", "internal/pgdsn", "internal/pgerr", "internal/pgnode", "internal/pgquery", "internal/pgrows", "internal/pgschema", "internal/pgusage", "internal/pgvalue", "internal/signal", "internal/sqltx", "third party"}, "a store implements its consumers' interfaces and knows none of them, and no other store"},
	{"internal/sqltx", []string{"internal/ledger"}, "rows are kept in a database without knowing its kind; each change has its audit row"},
	{"internal/pgrows", []string{"internal/ledger", "internal/pgschema", "internal/pgvalue", "internal/sqltx", "third party"}, "rows are read and changed without a meaning"},
	{"internal/people", []string{"internal/admin", "internal/identity", "internal/ledger", "internal/recent", "internal/weburl", "third party"}, "people are managed without HTTP and SQL; passkeys, OpenID and hashes have libraries"},
	{"internal/oauth", []string{"internal/admin", "internal/id", "internal/keys", "internal/ledger"}, "grants and tokens are managed without HTTP and SQL"},
	{"internal/oauthstore", []string{"internal/keys", "internal/ledger", "internal/oauth", "internal/oauth/client", "internal/sqltx"}, "the SQL of OAuth works on any store"},
	{"internal/peoplestore", []string{"internal/ledger", "internal/people", "internal/sqltx"}, "the SQL of people works on any store"},
	{"internal/alert", []string{"internal/admin", "internal/keys", "internal/ledger", "internal/recent"}, "alerts are judged without a store, a mail server and HTTP in hand"},
	{"internal/alertstore", []string{"internal/alert", "internal/ledger", "internal/sqltx"}, "the SQL of alerts works on any store"},
	{"internal/notify", []string{"internal/alert", "internal/weburl", "third party"}, "a message is sent without a meaning of its event; mail and signatures have libraries"},
	{"internal/oauth/server", []string{"internal/admin", "internal/gate", "internal/keys", "internal/ledger", "internal/oauth", "internal/oauth/client", "internal/oauth/fetch", "internal/oauth/rate"}, "the endpoints know no store and no web server"},
	{"internal/registration", []string{"internal/keys"}, "a registration is refused without a site at hand"},
	{"internal/oauth/rate", []string{"internal/recent"}, "events are counted without a meaning of their names"},
	{"internal/oauth/fetch", []string{"internal/oauth/rate", "internal/weburl"}, "a document is fetched without a meaning of its text"},
	{"internal/oauth/client", []string{"internal/ledger", "internal/oauth/fetch", "internal/oauth/rate", "internal/recent", "third party"}, "clients are known without a server and SQL in hand; signatures and strict JSON have libraries"},
	{"internal/oauth/clienttest", []string{"internal/ledger", "internal/oauth/client"}, "the suite of a store knows no store"},
	{"internal/smtptest", nil, "a mail server for tests knows nothing of its mail"},
	{"internal/pgserver", []string{"third party"}, "a server for tests and demonstrations is of no store"},
	{"internal/pgtest", []string{"internal/pgserver", "third party"}, "a database for tests is of no store"},
	{"internal/remotestore", []string{"internal/keys", "internal/ledger", "internal/signal", "internal/wire", "third party"}, "a gateway knows of a platform what goes over the wire, and nothing of how it is served"},
	{"internal/identity", []string{"internal/keys"}, "the author of a request is known before its operation is"},
	{"internal/callrecord", []string{"internal/ledger"}, "what a record has, and when it is written, is the same for each store"},
	{"internal/callstore", []string{"internal/callrecord", "internal/ledger", "internal/sqltx"}, "the SQL of records works on any store"},
	{"internal/admin", []string{"internal/archive", "internal/callrecord", "internal/identity", "internal/keys", "internal/ledger", "internal/signal", "third party"}, "operations work on any store"},
	{"internal/ops", []string{"internal/admin", "internal/alert", "internal/identity", "internal/keys", "internal/ledger", "internal/oauth", "internal/people", "internal/share", "internal/wire", "third party"}, "operations work on any store, and nothing in their table depends on its mounts"},
	{"internal/platform", []string{"internal/admin", "internal/alert", "internal/gate", "internal/identity", "internal/keys", "internal/ledger", "internal/ops", "internal/share", "internal/wire", "third party"}, "the API works on any store, and the shell brings the runtime"},
	{"internal/inprocess", nil, "any handler can be called in process"},
	{"internal/table", nil, "rows are printed without a meaning of their cells"},
	{"internal/scrape", []string{"third party"}, "metrics are read and compared without a meaning of their names"},
	{"internal/top", []string{"internal/gate", "internal/ledger", "internal/scrape", "third party"}, "figures are known without a terminal; gate has the codes of refusals"},
	{"internal/top/screen", []string{"internal/ledger", "internal/scrape", "internal/top", "third party"}, "a screen is drawn from figures, wherever they come from"},
	{"internal/cli/adding", []string{"internal/cli/reach", "internal/items", "internal/ledger", "internal/offer", "third party"}, "a site is made from a server's offer, and tried by the program's own host"},
	{"internal/cli/limits", []string{"internal/admin", "internal/ledger", "third party"}, "flags are read before a command runs"},
	{"internal/cli/progress", []string{"third party"}, "a bar is drawn whatever takes long"},
	{"internal/cli/connect", []string{"internal/bridge", "internal/bridge/login", "internal/bridge/purse", "internal/bridge/tokens", "internal/ledger", "third party"}, "an agent's command needs no operation of an operator"},
	{"internal/cli/reach", []string{"internal/admin", "internal/alert", "internal/engine", "internal/identity", "internal/inprocess", "internal/ledger", "internal/ops", "internal/people", "internal/sqlitestore"}, "commands reach a running server or the store, whatever they do there; sqlitestore reports that another process has its store open"},
	{"internal/cli", []string{"internal/admin", "internal/alert", "internal/archive", "internal/cli/adding", "internal/cli/connect", "internal/cli/limits", "internal/cli/progress", "internal/cli/reach", "internal/durable", "internal/engine", "internal/identity", "internal/inprocess", "internal/keys", "internal/ledger", "internal/ops", "internal/people", "internal/scrape", "internal/sqlitestore", "internal/table", "internal/top", "internal/top/screen", "internal/usagetable", "third party"}, "commands call operations and work on files; sqlitestore restores and migrates its own, engine finds the receipt keys. Programs bring configs and addresses"},
	{"internal/usagetable", []string{"internal/admin", "internal/table"}, "a report is printed without a server at hand"},
	{"caddymodule/alerts", []string{"caddymodule/grammar", "internal/alert", "internal/notify", "third party"}, "channels are configured without a store at hand"},
	{"caddymodule/callrecords", []string{"caddymodule/grammar", "internal/callrecord", "third party"}, "records are configured without a store at hand"},
	{"caddymodule/catalogue", []string{"caddymodule/grammar", "internal/keys", "third party"}, "scopes are declared without a key at hand"},
	{"caddymodule/grammar", []string{"third party"}, "how a block is read has nothing to do with its words"},
	{"caddymodule/pricebook", []string{"caddymodule/grammar", "internal/gate", "internal/items", "internal/ledger", "internal/mcp", "internal/pricing", "third party"}, "prices are configured without a site, a store or a request at hand"},
	{"caddymodule/help", []string{"caddymodule/grammar", "caddymodule/resource", "internal/gate", "internal/keys", "internal/oauth", "third party"}, "a refusal shows a link by what is known of its client"},
	{"caddymodule/resource", []string{"caddymodule/grammar", "internal/keys", "third party"}, "metadata is served without a store"},
	{"caddymodule/issuers", []string{"caddymodule/grammar", "internal/admin", "internal/gate", "internal/issuer", "internal/keys", "internal/ledger", "internal/pricing", "third party"}, "issuers are configured without a request at hand"},
	{"caddymodule/authserver", []string{"caddymodule/grammar", "caddymodule/health", "caddymodule/opening", "caddymodule/resource", "caddymodule/target", "internal/engine", "internal/keys", "internal/oauth", "internal/oauth/client", "internal/oauth/fetch", "internal/oauth/server", "third party"}, "tokens are issued without a site's prices at hand"},
	{"caddymodule/opening", []string{"caddymodule/health", "internal/engine", "internal/exchange", "internal/keys", "internal/share", "third party"}, "requests wait for a runtime, whatever they ask of it"},
	{"internal/console", []string{"internal/admin", "internal/alert", "internal/console/connect", "internal/console/format", "internal/console/formfill", "internal/identity", "internal/inprocess", "internal/keys", "internal/ledger", "internal/oauth", "internal/oauth/server", "internal/ops", "internal/people", "internal/table", "internal/top", "internal/usagetable", "third party"}, "pages show and do what operations can; they know no store and no web server"},
	{"internal/console/connect", nil, "how a client is connected depends on the client alone"},
	{"internal/console/format", []string{"internal/ledger", "third party"}, "a value looks the same on every page"},
	{"internal/console/formfill", []string{"third party"}, "a refused form is filled in whatever it is about"},
	{"caddymodule/offers", []string{"caddymodule/pricebook", "internal/gate", "internal/items", "internal/ledger", "internal/offer", "internal/ops", "internal/pricing"}, "an offer is compared with prices without a request or a store at hand"},
	{"caddymodule/console", []string{"caddymodule/authserver", "caddymodule/grammar", "caddymodule/health", "caddymodule/opening", "caddymodule/target", "internal/admin", "internal/console", "internal/engine", "internal/ledger", "internal/people", "internal/scrape", "internal/telemetry", "internal/top", "third party"}, "the console is served without a site's prices at hand"},
	{"caddymodule/health", []string{"internal/engine", "internal/ops", "third party"}, "health is read from the engine, and shown without a store or a site at hand"},
	{"caddymodule/stdio", []string{"caddymodule/grammar", "internal/stdio/process", "internal/stdio/server", "third party"}, "a program is run without a price at hand"},
	{"caddymodule/target", []string{"internal/upstream", "third party"}, "the way to a server has nothing to do with what its tools cost"},
	{"caddymodule/routes", []string{"caddymodule/target", "third party"}, "a route is read without a meaning of its handlers"},
	{"caddymodule/accesslog", []string{"internal/exchange", "internal/keys", "third party"}, "a record is written without a store"},
	{"caddymodule/calllog", []string{"internal/exchange", "internal/trace", "third party"}, "a record is written without a store"},
	{"caddymodule/auditlog", []string{"internal/ledger", "third party"}, "a record that is in the store is written by itself"},
	{"caddymodule/syslog", []string{"caddymodule/grammar", "internal/syslog", "third party"}, "a line of a log has no meaning here"},
	{"caddymodule/stores", []string{"internal/engine", "internal/ledger", "internal/pgdsn", "internal/pgstore", "internal/remotestore", "internal/sqlitestore", "third party"}, "the one place that knows all kinds of stores"},
	{"internal/telemetry", []string{"internal/callrecord", "internal/gate", "internal/ledger", "internal/share", "third party"}, "metrics watch, and are not asked"},
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

// only is the list of packages that most packages of this module must not import. Each
// entry has the beginning of the import paths, and the packages that may nonetheless
// import them.
var only = []struct {
	path   string
	may    []string
	reason string
}{
	{"github.com/caddyserver/caddy/", []string{"caddymodule", "caddymodule/accesslog", "caddymodule/alerts", "caddymodule/authserver", "caddymodule/calllog", "caddymodule/callrecords", "caddymodule/catalogue", "caddymodule/console", "caddymodule/grammar", "caddymodule/health", "caddymodule/help", "caddymodule/issuers", "caddymodule/opening", "caddymodule/pricebook", "caddymodule/resource", "caddymodule/routes", "caddymodule/stdio", "caddymodule/stores", "caddymodule/syslog", "caddymodule/target", "xcaddy"}, "what Farebox does must be testable and usable without Caddy"},
	{"go.uber.org/zap", []string{"caddymodule", "caddymodule/accesslog", "caddymodule/auditlog", "caddymodule/calllog", "xcaddy"}, "the other packages log with log/slog"},
	{"database/sql", []string{"internal/sqlitestore", "internal/pgschema"}, "SQL stays in the stores"},
	{"github.com/jackc/pgx", []string{"internal/pgalert", "internal/pgbinding", "internal/pgdsn", "internal/pgerr", "internal/pgnode", "internal/pgquery", "internal/pgrows", "internal/pgschema", "internal/pgserver", "internal/pgstore", "internal/pgtest", "internal/pgusage"}, "PostgreSQL is one store's affair; the others make databases for tests and demonstrations"},
	{module + "internal/oauth/clienttest", []string{"internal/storetest"}, "it tests stores"},
	{module + "internal/smtptest", nil, "it receives mail for tests alone"},
	{"github.com/wneessen/go-mail", []string{"internal/notify"}, "mail is sent in one place"},
	{"github.com/standard-webhooks/", []string{"internal/notify"}, "requests to strangers are signed in one place"},
	{module + "internal/pgtest", nil, "it makes databases for tests alone"},
	{module + "internal/pgserver", []string{"internal/pgtest", "examples/postgres", "integration/bench"}, "it starts servers for tests, demonstrations and measurements, and no program that is deployed may"},
	{"github.com/prometheus/", []string{"internal/telemetry", "internal/scrape"}, "collectors are made in one place, once a process; the other place only reads"},
	{"cel.dev/", []string{"internal/pricing"}, "expressions are compiled, bounded and judged in one place"},
	{"github.com/danielgtaylor/huma", []string{"internal/ops"}, "one package describes an API and checks requests by it"},
	{"github.com/schollz/progressbar", []string{"internal/cli/progress"}, "only commands have a user who watches"},
	{"golang.org/x/term", []string{"internal/cli", "internal/cli/progress"}, "only commands have a terminal"},
	{"charm.land/", []string{"internal/top/screen"}, "one command draws the whole screen"},
	{"github.com/charmbracelet/", []string{"internal/cli", "internal/top/screen"}, "only commands have a terminal"},
	{"github.com/spf13/cobra", []string{"internal/cli/adding", "internal/cli/limits", "internal/cli", "internal/cli/connect", "caddymodule", "xcaddy"}, "commands are in internal/cli; Caddy's interface to them is a cobra command"},
	{"github.com/spf13/pflag", []string{"internal/cli"}, "flags belong to commands"},
	{module + "internal/cli", []string{"internal/cli/adding", "caddymodule", "internal/cli", "xcaddy"}, "commands stand above all operations"},
	{"github.com/sony/gobreaker", []string{"internal/remotestore"}, "what fails at once while the platform is down is decided where the platform is asked"},
	{"github.com/cenkalti/backoff", []string{"internal/pgstore", "internal/remotestore"}, "only what goes under an id may be sent again"},
	{"go.opentelemetry.io/", []string{"internal/trace"}, "spans are named and described in one place, and cost nothing where nobody traces"},
	{"github.com/klauspost/compress", []string{"internal/coding"}, "what is decoded is bounded in one place"},
	{"github.com/andybalholm/brotli", []string{"internal/coding"}, "what is decoded is bounded in one place"},
	{"github.com/go-webauthn/", []string{"internal/people"}, "passkeys are verified in one place"},
	{"github.com/coreos/go-oidc", []string{"internal/people"}, "users of a provider are verified in one place"},
	{"github.com/go-jose/", []string{"internal/issuer", "internal/oauth/client"}, "signatures are verified where their algorithms are fixed"},
	{"github.com/zalando/go-keyring", []string{"internal/bridge/tokens"}, "the waits for a keyring are bounded in one place"},
	{"golang.org/x/crypto/argon2", []string{"internal/people"}, "the memory of hashing is bounded in one place"},
	{"github.com/dgraph-io/ristretto", []string{"internal/keycache"}, "its pitfalls are handled in one place"},
}

// TestForeignImports checks that no package of this module breaks one of the rules
// above, which restrict imports to a few packages.
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
