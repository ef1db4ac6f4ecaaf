package integration

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/ops"
)

const scripts = "testdata/script"

// TestScript runs the commands as operators do. Each script has its own gateway. In
// addition to the scripts' own checks, some rules hold for all commands. A command
// prints a secret only if it makes one. A refused command prints nothing to standard
// output. With --json, a command prints JSON. No file written by a gateway contains a
// secret.
//
// The scripts have testscript's commands and those of scriptCommands.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: scripts, RequireUniqueNames: true, Setup: setUpScript, Cmds: scriptCommands(),
	})
}

// scriptCommands returns the commands that are added to those of testscript:
//
//	gateway start|stop [config]   starts or stops a gateway, with $WORK/Caddyfile by default; start waits until it serves
//	weather                       starts the demonstration server, writes a Caddyfile that proxies to it, and sets WEATHER_URL
//	[!] farebox ARGS              runs "caddy farebox ARGS"
//	prints FILE                   checks that the output matches the file, see matchTemplate
//	complains TEXT                checks that standard error is exactly "Error: TEXT", or its JSON with --json
//	exits CODE                    checks the exit code of the last command
//	lives DURATION                checks that the key printed with --json expires this long after its creation
//	request METHOD PATH [TOKEN]   asks the admin endpoint, with a bearer token if one is given
//	call SECRET TOOL ARGUMENTS    calls a tool through the gateway
//	receipt NAME                  sets the environment variable NAME to the receipt in the output of call
//	accounts N                    creates N accounts
//	mode PERMISSIONS FILE         checks that the file has exactly these permissions, in octal digits
//	token NAME                    sets the environment variable NAME to the admin token
//	accept EMAIL                  accepts the invitation that was printed with --json, with a password
//	remember NAME PREFIX          sets the environment variable NAME to the first id in the output with the prefix
//	store STATEMENT               executes SQL on the store of a stopped gateway
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	commands := map[string]func(*testscript.TestScript, bool, []string){
		"farebox": func(ts *testscript.TestScript, neg bool, args []string) { deskOf(ts).farebox(ts, neg, args) },
	}
	for name, command := range map[string]struct {
		run   func(*desk, *testscript.TestScript, []string)
		least int // the least number of arguments
		most  int
	}{
		"gateway":   {(*desk).runGateway, 1, 2},
		"weather":   {(*desk).weather, 0, 0},
		"prints":    {(*desk).prints, 1, 1},
		"complains": {(*desk).complains, 1, 1},
		"exits":     {(*desk).exits, 1, 1},
		"lives":     {(*desk).lives, 1, 1},
		"request":   {(*desk).request, 2, 3},
		"call":      {(*desk).call, 3, 3},
		"receipt":   {(*desk).receipt, 1, 1},
		"accounts":  {(*desk).accounts, 1, 1},
		"mode":      {(*desk).mode, 2, 2},
		"token":     {(*desk).token, 1, 1},
		"accept":    {(*desk).accept, 1, 1},
		"remember":  {(*desk).remember, 2, 2},
		"store":     {(*desk).execute, 1, 1},
	} {
		commands[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) < command.least || len(args) > command.most {
				ts.Fatalf("usage: %s takes %d to %d arguments, and no !", name, command.least, command.most)
			}
			command.run(deskOf(ts), ts, args)
		}
	}
	return commands
}

// desk is the state of one script.
type desk struct {
	t       testing.TB
	dir     string // the directory that holds everything that gateways write
	gateway *harness.Process
	secrets []string // secrets that the script saw
	exit    int      // exit code of the last command
}

type deskKey struct{}

func deskOf(ts *testscript.TestScript) *desk { return ts.Value(deskKey{}).(*desk) }

func setUpScript(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return fmt.Errorf("testscript passed a %T, which is not a testing.TB", env.T())
	}
	d := &desk{t: t, dir: t.TempDir()}
	env.Values[deskKey{}] = d
	env.Defer(d.searchAll)
	port := harness.FreePort(t)
	data := filepath.Join(d.dir, "xdg-data")
	for name, value := range map[string]string{
		"CADDY_ADMIN": "127.0.0.1:" + port, "FAREBOX_PORT": harness.FreePort(t), "FAREBOX_DATA": filepath.Join(d.dir, "data"),
		"HOME": d.dir, "XDG_DATA_HOME": data, "XDG_CONFIG_HOME": filepath.Join(d.dir, "xdg-config"),
		"GORACE": "atexit_sleep_ms=0",
		// Only the scripts use these variables.
		"CADDY": binaries.Farebox, "NEWLINE": "\n", "ESCAPE": "\x1b",
		"ADMIN_PORT": port, "TOKEN_FILE": filepath.Join(data, "caddy", "farebox", "admin-127.0.0.1_"+port+".token"),
	} {
		env.Setenv(name, value)
	}
	// Nothing listens on port 1. A script that makes calls starts the demonstration
	// server first, which writes another Caddyfile.
	return writeCaddyfile(env.WorkDir, "http://127.0.0.1:1")
}

// scriptScopes declares the scopes that scripts can give to keys.
const scriptScopes = `scopes {
			billing.read "Read invoices"
			billing.write "Change invoices"
			mail.read
			mail.write
		}`

// writeCaddyfile writes the script's Caddyfile.
func writeCaddyfile(dir, upstream string) error {
	text := harness.Site(upstream, "server weather", "provider acme", "environments live test",
		"price get_forecast 0.01", "price climate_report 1.00", "price read_station 0.02", "free list_cities")
	text = strings.Replace(text, "currency USD\n", "currency USD\n\t\t"+scriptScopes+"\n", 1)
	return os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(text), 0o600)
}

func (d *desk) runGateway(ts *testscript.TestScript, args []string) {
	switch {
	case args[0] == "stop" && len(args) == 1 && d.gateway != nil:
		d.gateway.Stop(d.t)
		d.gateway = nil
	case args[0] == "start" && d.gateway == nil:
		config := ts.MkAbs("Caddyfile")
		if len(args) > 1 {
			config = ts.MkAbs(args[1])
		}
		d.startGateway(ts, config)
	default:
		ts.Fatalf("usage: gateway start [config], or gateway stop when it runs")
	}
}

func (d *desk) startGateway(ts *testscript.TestScript, config string) {
	var environment []string
	for _, name := range []string{"CADDY_ADMIN", "FAREBOX_PORT", "FAREBOX_DATA", "HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "GORACE"} {
		environment = append(environment, name+"="+ts.Getenv(name))
	}
	d.gateway = harness.Start(d.t, "farebox", filepath.Join(d.dir, "farebox.log"), environment,
		binaries.Farebox, "run", "--config", config, "--adapter", "caddyfile")
	ts.Setenv("GATEWAY_PID", strconv.Itoa(d.gateway.PID()))
	d.gateway.Await(d.t, "an answer of its admin endpoint", func() error {
		cmd := exec.Command(binaries.Farebox, "farebox", "account", "list")
		cmd.Env = append(os.Environ(), environment...)
		if output, err := cmd.CombinedOutput(); err != nil && !bytes.Contains(output, []byte("no store of its own")) {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	})
}

func (d *desk) weather(ts *testscript.TestScript, _ []string) {
	url := binaries.StartWeather(d.t, "-stateless")
	ts.Setenv("WEATHER_URL", url)
	ts.Check(writeCaddyfile(ts.Getenv("WORK"), url))
}

// secretForm matches the secrets of keys.
var secretForm = regexp.MustCompile(`(?:sk|pat)_(?:live|test)_[0-9a-f]{64}`)

// farebox runs a command and makes the checks that TestScript makes for every
// command.
func (d *desk) farebox(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(binaries.Farebox, append([]string{"farebox"}, args...)...)
	var exited *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exited):
		ts.Fatalf("%v", err)
	case neg && err == nil:
		ts.Fatalf("the command succeeded")
	case !neg && err != nil:
		ts.Fatalf("the command failed: %v", err)
	case neg && (exited.ExitCode() < 1 || exited.ExitCode() > 5):
		ts.Fatalf("exit code %d; want a documented one, 1 to 5", exited.ExitCode())
	}
	d.exit = 0
	if neg {
		d.exit = exited.ExitCode()
	}
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	command := strings.Join(args[:min(2, len(args))], " ")
	if neg && stdout != "" && command != "ledger verify" && command != "server check" {
		ts.Fatalf("a refused command printed to standard output")
	}
	if slices.Contains(args, "--json") && !validJSON(map[bool]string{false: stdout, true: stderr}[neg]) {
		ts.Fatalf("--json printed no JSON")
	}
	if !neg && (command == "key create" || command == "key rotate") {
		d.secrets = append(d.secrets, secretForm.FindAllString(stdout, -1)...)
		stdout = ""
	}
	if found := secretForm.FindString(stdout + stderr); found != "" {
		ts.Fatalf("it printed the secret %s", found)
	}
	if found := harness.Findings(map[string][]byte{"the command": []byte(stderr)}, nil); len(found) > 0 {
		ts.Fatalf("%s", found[0])
	}
}

// adminOff is the end of the message of a command that reaches no server.
const adminOff = "\na server whose config says \"admin off\" cannot be reached by commands: stop it and use --offline, or give it an admin address"

func (d *desk) complains(ts *testscript.TestScript, args []string) {
	got := strings.TrimPrefix(ts.ReadFile("stderr"), "Error: ")
	var told struct{ Error struct{ Message string } }
	if json.Unmarshal([]byte(got), &told) == nil { // the command ran with --json
		got = told.Error.Message
	}
	if got = strings.TrimSuffix(strings.TrimSpace(got), adminOff); got != args[0] {
		ts.Fatalf("standard error has %q, want %q", got, args[0])
	}
}

func (d *desk) exits(ts *testscript.TestScript, args []string) {
	if want, err := strconv.Atoi(args[0]); err != nil || d.exit != want {
		ts.Fatalf("exit code %d, want %s", d.exit, args[0])
	}
}

func (d *desk) prints(ts *testscript.TestScript, args []string) {
	found, err := matchTemplate(ts.ReadFile(args[0]), ts.ReadFile("stdout"), ts.Getenv)
	if err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	for name, text := range found {
		ts.Setenv(name, text)
	}
}

// lives checks the time between the creation and the expiry of a key. It accepts a
// time that is up to harness.Patience longer than its argument DURATION, because the
// expiry may have been set by a change a while after the creation.
func (d *desk) lives(ts *testscript.TestScript, args []string) {
	var key admin.KeyView
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &key))
	want, err := time.ParseDuration(args[0])
	ts.Check(err)
	if key.ExpiresAt == nil {
		ts.Fatalf("the key does not expire")
	}
	if life := key.ExpiresAt.Sub(key.CreatedAt); life < want || life > want+harness.Patience {
		ts.Fatalf("the key lives %s; want %s", life, want)
	}
}

// adminClient returns a client for the admin endpoint at $CADDY_ADMIN, and the
// host to name in requests.
func adminClient(ts *testscript.TestScript) (client *http.Client, host string) {
	network, address := "tcp", ts.Getenv("CADDY_ADMIN")
	host = address
	if path, ok := strings.CutPrefix(address, "unix/"); ok {
		network, address, host = "unix", path, "127.0.0.1"
	}
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}, host
}

func (d *desk) request(ts *testscript.TestScript, args []string) {
	client, host := adminClient(ts)
	r, err := http.NewRequest(args[0], "http://"+host+args[1], nil)
	ts.Check(err)
	if len(args) > 2 {
		r.Header.Set("Authorization", "Bearer "+args[2])
	}
	resp, err := client.Do(r)
	ts.Check(err)
	defer resp.Body.Close()
	fmt.Fprintln(ts.Stdout(), resp.Status)
	ts.Check(resp.Header.Write(ts.Stdout()))
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
}

func (d *desk) call(ts *testscript.TestScript, args []string) {
	g := harness.Gateway{Port: ts.Getenv("FAREBOX_PORT")}
	answer, err := g.Post(context.Background(), http.DefaultClient, args[0], harness.ToolCall(1, args[1], args[2]))
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), answer.Status, answer.Body)
}

var receiptForm = regexp.MustCompile(`"dev\.farebox/receipt":"([^"]+)"`)

func (d *desk) receipt(ts *testscript.TestScript, args []string) {
	found := receiptForm.FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("there is no receipt in it")
	}
	ts.Setenv(args[0], found[1])
}

// accounts creates this number of accounts, faster than the commands would.
func (d *desk) accounts(ts *testscript.TestScript, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	client, host := adminClient(ts)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range n {
		group.Go(func() error {
			c := ops.Client{HTTP: client, Host: host, Token: func() (string, error) { return admin.ReadToken(ts.Getenv("TOKEN_FILE")) }}
			_, err := c.Do(context.Background(), http.MethodPost, "accounts", map[string]string{"name": fmt.Sprintf("many-%04d", i)})
			return err
		})
	}
	ts.Check(group.Wait())
}

func (d *desk) mode(ts *testscript.TestScript, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] || !info.Mode().IsRegular() {
		ts.Fatalf("the mode is %s", got)
	}
}

func (d *desk) token(ts *testscript.TestScript, args []string) {
	token := strings.TrimSpace(ts.ReadFile(ts.Getenv("TOKEN_FILE")))
	d.secrets = append(d.secrets, token)
	ts.Setenv(args[0], token)
}

func (d *desk) execute(ts *testscript.TestScript, args []string) {
	db, err := sql.Open("sqlite", filepath.Join(ts.Getenv("FAREBOX_DATA"), "farebox.db"))
	ts.Check(err)
	_, err = db.Exec(args[0])
	ts.Check(errors.Join(err, db.Close()))
}

// searchAll stops the gateway, and searches all files that gateways wrote for
// the secrets that the script saw, including admin tokens.
func (d *desk) searchAll() {
	if d.gateway != nil {
		d.gateway.Stop(d.t)
	}
	texts := map[string][]byte{}
	err := filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.HasSuffix(path, ".token") {
			d.secrets = append(d.secrets, string(bytes.TrimSpace(text)))
		} else {
			texts[path] = text
		}
		return err
	})
	if err != nil {
		d.t.Errorf("search the gateway's files: %v", err)
	}
	for _, finding := range harness.Findings(texts, d.secrets) {
		d.t.Error(finding)
	}
}

// remember keeps an id from the last output.
func (d *desk) remember(ts *testscript.TestScript, args []string) {
	found := regexp.MustCompile(regexp.QuoteMeta(args[1]) + `[0-9a-f-]{36}`).FindString(ts.ReadFile("stdout"))
	if found == "" {
		ts.Fatalf("the output has no id with the prefix %s", args[1])
	}
	ts.Setenv(args[0], found)
}

// accept opens the link of the invitation in the last output, and signs a person up
// with a password.
func (d *desk) accept(ts *testscript.TestScript, args []string) {
	var invitation ops.InvitationView
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &invitation))
	form := url.Values{"email": {args[0]}, "password": {"four odd horses walked past"}}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.PostForm(invitation.Link, form)
	ts.Check(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		body, _ := io.ReadAll(resp.Body) // needed only for the error message
		ts.Fatalf("the invitation was not accepted: %s\n%s", resp.Status, body)
	}
}

// validJSON reports whether a text is one JSON value, or several values as in an
// export.
func validJSON(text string) bool {
	for d, n := json.NewDecoder(strings.NewReader(text)), 0; ; n++ {
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return errors.Is(err, io.EOF) && n > 0
		}
	}
}

// TestScriptsCoverEveryCommand checks that, for every command in the help, the scripts
// have a plain use, a use with --json, and a refused use.
func TestScriptsCoverEveryCommand(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(scripts, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Split(string(text), "\n")...)
	}
	commands := leaves(t)
	if len(commands) < 10 {
		t.Fatalf("the help names only %q", commands)
	}
	for _, command := range commands {
		var plain, asJSON, refused bool
		for _, line := range all {
			line, failing := strings.CutPrefix(line, "! ")
			rest, ok := strings.CutPrefix(line, "farebox "+command)
			if !ok || rest != "" && rest[0] != ' ' {
				continue
			}
			json := strings.Contains(rest, "--json")
			plain, asJSON, refused = plain || !failing && !json, asJSON || !failing && json, refused || failing
		}
		asJSON = asJSON || command == "connect" // its output is always JSON: the messages of MCP
		if command == "connect login" {
			plain, asJSON = true, true // needs a person: TestConnectLoginAtTerminal
		}
		if !plain || !asJSON || !refused {
			t.Errorf("%s: tried plain: %t, with --json: %t, refused: %t", command, plain, asJSON, refused)
		}
	}
}

// leaves returns the commands that have no subcommands themselves. It starts at the
// command "caddy farebox ARGS".
func leaves(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command(binaries.Farebox, append(append([]string{"farebox"}, args...), "--help")...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	help, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(help), "Available Commands:\n")
	if !ok {
		return []string{strings.Join(args, " ")}
	}
	list, _, _ = strings.Cut(list, "\n\n")
	var found []string
	for line := range strings.Lines(list) {
		name := strings.Fields(line)[0]
		found = append(found, leaves(t, append(slices.Clone(args), name)...)...)
	}
	return found
}

// placeholders match the parts of templates that differ from run to run.
var placeholders = map[string]string{
	"uuid":    `[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`, // a UUID of version 7
	"time":    `20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`,
	"stamp":   `20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z`,
	"random":  `[0-9a-f]{64}`,
	"last4":   `[0-9a-f]{4}`,
	"kid":     `[A-Za-z0-9_-]{16}`, // the id of a public receipt key
	"public":  `[A-Za-z0-9_-]{43}`, // a public receipt key
	"seconds": `[0-9]{10}`,
	"port":    `[0-9]{1,5}`,
	"number":  `[0-9]+(?:\.[0-9]+)?`,
	"used":    `(?:null|"20[^"]*Z")`, // null or a time, because the use of a key is recorded with a delay
}

var placeholder = regexp.MustCompile(`<(uuid|time|stamp|random|last4|kid|public|seconds|port|number|used)(?::([A-Z]+))?>`)

// matchTemplate compares a text with a template, line by line and with every space.
// <uuid> and the other placeholders match any text of their form. A named placeholder
// such as <uuid:NAME> matches the same text wherever the name appears. If known(NAME)
// returns a text, the placeholder matches only this text. matchTemplate returns the
// texts of the named placeholders, by name.
func matchTemplate(template, text string, known func(string) string) (map[string]string, error) {
	found := map[string]string{}
	want, got := strings.Split(template, "\n"), strings.Split(text, "\n")
	for i, line := range want {
		if i >= len(got) {
			return nil, fmt.Errorf("line %d is missing: %s", i+1, line)
		}
		names, form := lineForm(line, func(name string) string {
			if text, ok := found[name]; ok {
				return text
			}
			return known(name)
		})
		groups := form.FindStringSubmatch(got[i])
		if groups == nil {
			return nil, fmt.Errorf("line %d:\n got %s\nwant %s", i+1, got[i], line)
		}
		for j, name := range names {
			if text, ok := found[name]; ok && text != groups[j+1] {
				return nil, fmt.Errorf("line %d: %s is %s and %s", i+1, name, text, groups[j+1])
			}
			found[name] = groups[j+1]
		}
	}
	if len(got) > len(want) {
		return nil, fmt.Errorf("line %d is superfluous: %s", len(want)+1, got[len(want)])
	}
	return found, nil
}

// lineForm returns the regular expression for a line of a template, and the
// names of its groups.
func lineForm(line string, known func(string) string) (names []string, form *regexp.Regexp) {
	var pattern strings.Builder
	rest := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(line, -1) {
		pattern.WriteString(regexp.QuoteMeta(line[rest:at[0]]))
		rest = at[1]
		kind := placeholders[line[at[2]:at[3]]]
		switch {
		case at[4] < 0:
			pattern.WriteString(kind)
		case known(line[at[4]:at[5]]) != "":
			pattern.WriteString(regexp.QuoteMeta(known(line[at[4]:at[5]])))
		default:
			names = append(names, line[at[4]:at[5]])
			pattern.WriteString("(" + kind + ")")
		}
	}
	pattern.WriteString(regexp.QuoteMeta(line[rest:]))
	return names, regexp.MustCompile("^" + pattern.String() + "$")
}

// TestMatchTemplate checks that a template matches spaces exactly, and that a named
// placeholder has one value throughout.
func TestMatchTemplate(t *testing.T) {
	t.Parallel()
	const a, b = "01a20110-6c36-7b79-85e9-34441e67a827", "01a20110-6d1b-7b3c-9410-c4e6ebd5df70"
	for _, test := range []struct {
		template, text string
		matches        bool
	}{
		{"a  b\n", "a  b\n", true},
		{"a  b\n", "a b\n", false},
		{"a\n", "a\nb\n", false},
		{"a\nb\n", "a\n", false},
		{"a.b", "axb", false},
		{"<uuid> <uuid>", a + " " + b, true},
		{"<uuid:X>\n<uuid:X>", a + "\n" + a, true},
		{"<uuid:X>\n<uuid:X>", a + "\n" + b, false},
		{"<uuid:X> <uuid:X>", a + " " + b, false},
		{"<uuid:KNOWN>", a, true},
		{"<uuid:KNOWN>", b, false},
		{"<time>", "2026-11-22T02:23:30Z", true},
		{"<time>", "2026-11-22T02:23:30.1Z", false},
		{"<other>", "<other>", true},
	} {
		known := func(name string) string { return map[string]string{"KNOWN": a}[name] }
		if _, err := matchTemplate(test.template, test.text, known); (err == nil) != test.matches {
			t.Errorf("%q and %q: %v; want a match: %t", test.template, test.text, err, test.matches)
		}
	}
}
