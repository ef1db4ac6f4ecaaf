package harness

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// suitePatience is the time limit for a run of the suite, which usually takes a
	// few seconds.
	suitePatience = 3 * time.Minute
	// scenarioTimeout is the suite's own time limit for a scenario, in milliseconds.
	scenarioTimeout = "20000"
)

// Conformance is the outcome of a run of the official conformance suite of MCP.
type Conformance struct {
	Exit   int // the suite's exit code: 0 if all scored checks passed
	Checks []Check
}

// Check is one check of a scenario, and its outcome.
type Check struct {
	Scenario string `json:"-"`
	ID       string `json:"id"`
	Status   string `json:"status"` // SUCCESS, FAILURE, WARNING, INFO or SKIPPED
	Message  string `json:"errorMessage"`
}

// Requirements returns the suite's flags for all scenarios that a revision of the
// specification requires. With these flags the suite also runs some more scenarios,
// without scoring them.
func Requirements(revision string) []string { return []string{"--requirements", revision} }

// Scenario returns the suite's flags for one scenario in the form of the given
// revision.
func Scenario(name, revision string) []string {
	return []string{"--scenario", name, "--spec-version", revision}
}

// ConformServer runs the suite against the server at the URL. selection comes from
// Requirements or Scenario. If secret is not "", each request carries the secret as its
// bearer token.
func (b *Binaries) ConformServer(t testing.TB, selection []string, url, secret string) Conformance {
	t.Helper()
	var preload, environment []string
	if secret != "" {
		preload = []string{"--import", filepath.Join(b.Root, "integration", "node", "bearer.mjs")}
		environment = []string{"FAREBOX_BEARER=" + secret}
	}
	return b.conform(t, preload, environment, append([]string{"server", "--url", url}, selection...)...)
}

// ConformClient runs the suite against a client program. selection comes from
// Requirements or Scenario. The program gets the URL of the suite's server as its last
// argument. No element of command may contain a space, because the suite gets the
// command as one string.
func (b *Binaries) ConformClient(t testing.TB, selection, environment []string, command ...string) Conformance {
	t.Helper()
	return b.conform(t, nil, environment, append([]string{"client", "--command", strings.Join(command, " ")}, selection...)...)
}

// authorizationURL matches the URL that the suite prints for a person.
var authorizationURL = regexp.MustCompile(`(?m)^https?://\S+\?\S*response_type=code\S*$`)

// ConformIssuer runs the suite's scenarios of authorization servers against an issuer,
// with a client that is registered there with http://127.0.0.1:port/callback. The suite
// asks for a token for the resource. person gets the authorization URL, and plays the
// part of a person in a browser up to the callback.
func (b *Binaries) ConformIssuer(t testing.TB, issuer, client, resource, port string, person func(url string)) Conformance {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	script := b.Module(t, "@modelcontextprotocol", "conformance", "dist", "index.js")
	p := Start(t, "conformance", filepath.Join(dir, "suite.log"), nil, b.Node(t), script, "authorization",
		"--url", issuer, "--client-id", client, "--resource", resource, "--port", port, "--output-dir", out)
	var url string
	p.Await(t, "an authorization URL", func() error {
		if url = authorizationURL.FindString(p.Output(t)); url == "" {
			return errors.New("no URL yet")
		}
		return nil
	})
	person(url)
	run := Conformance{Exit: p.WaitFor(t, suitePatience)}
	var err error
	if run.Checks, err = readChecks(out); err != nil {
		t.Fatalf("what the conformance suite found: %v\n%s", err, p.Tail())
	}
	return run
}

func (b *Binaries) conform(t testing.TB, preload, environment []string, args ...string) Conformance {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	script := b.Module(t, "@modelcontextprotocol", "conformance", "dist", "index.js")
	args = slices.Concat(preload, []string{script}, args, []string{"--timeout", scenarioTimeout, "--output-dir", out})
	p := Start(t, "conformance", filepath.Join(dir, "suite.log"), environment, b.Node(t), args...)
	run := Conformance{Exit: p.WaitFor(t, suitePatience)}
	var err error
	if run.Checks, err = readChecks(out); err != nil {
		t.Fatalf("what the conformance suite found: %v\n%s", err, p.Tail())
	}
	return run
}

// resultDir matches the name of a directory with a scenario's results: the prefix
// "server-" in tests of servers and "authorization-server-" in those of issuers, the
// scenario's name, and the time of the run.
var resultDir = regexp.MustCompile(`^(?:server-|authorization-server-)?(.+)-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z$`)

// readChecks reads the results that the suite wrote to the directory. It returns an
// error if there are no checks.
func readChecks(out string) ([]Check, error) {
	var all []Check
	err := filepath.WalkDir(out, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "checks.json" {
			return err
		}
		name, err := filepath.Rel(out, filepath.Dir(path))
		if err != nil {
			return err
		}
		match := resultDir.FindStringSubmatch(name)
		if match == nil {
			return fmt.Errorf("%s: its directory is not named after a scenario and a time", path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var checks []Check
		if err := json.Unmarshal(text, &checks); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, check := range checks {
			check.Scenario = match[1]
			all = append(all, check)
		}
		return nil
	})
	if err == nil && len(all) == 0 {
		err = errors.New("no scenario was run")
	}
	return all, err
}

// Scenarios returns the number of scenarios that have at least one check.
func (c Conformance) Scenarios() int {
	seen := make(map[string]bool)
	for _, check := range c.Checks {
		seen[check.Scenario] = true
	}
	return len(seen)
}

// Count returns the number of checks with that status.
func (c Conformance) Count(status string) int {
	n := 0
	for _, check := range c.Checks {
		if check.Status == status {
			n++
		}
	}
	return n
}

// Without returns the outcome of the run, except for the scenarios that have a name
// with this prefix.
func (c Conformance) Without(prefix string) Conformance {
	c.Checks = slices.DeleteFunc(slices.Clone(c.Checks), func(check Check) bool {
		return strings.HasPrefix(check.Scenario, prefix)
	})
	return c
}

// Difference describes a check that had different outcomes in two runs: one directly
// and one through the gateway. If a scenario has several checks of the same name,
// one Difference describes all of them.
type Difference struct {
	Name            string
	Direct, Through []Check
}

// String describes both outcomes.
func (d Difference) String() string {
	return fmt.Sprintf("%s: directly %s; through the gateway %s", d.Name, tell(d.Direct), tell(d.Through))
}

// Better reports whether all checks failed directly and succeeded through the
// gateway.
func (d Difference) Better() bool {
	all := func(checks []Check, status string) bool {
		return !slices.ContainsFunc(checks, func(c Check) bool { return c.Status != status })
	}
	return len(d.Direct) == len(d.Through) && all(d.Direct, "FAILURE") && all(d.Through, "SUCCESS")
}

// Differences compares a direct run with one through the gateway.
func (c Conformance) Differences(through Conformance) []Difference {
	direct, other := c.group(), through.group()
	for name := range other {
		if _, ok := direct[name]; !ok {
			direct[name] = nil
		}
	}
	var found []Difference
	for _, name := range slices.Sorted(maps.Keys(direct)) {
		if !slices.EqualFunc(direct[name], other[name], sameOutcome) {
			found = append(found, Difference{Name: name, Direct: direct[name], Through: other[name]})
		}
	}
	return found
}

// group returns the checks by scenario and id. A scenario may have several checks
// with the same id, in any order, so group sorts them.
func (c Conformance) group() map[string][]Check {
	groups := make(map[string][]Check)
	for _, check := range c.Checks {
		name := check.Scenario + ": " + check.ID
		groups[name] = append(groups[name], check)
	}
	for _, group := range groups {
		slices.SortFunc(group, func(a, b Check) int {
			return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Message, b.Message))
		})
	}
	return groups
}

// address matches the address of a server in the message of a check.
var address = regexp.MustCompile(`(localhost|127\.0\.0\.1):\d+`)

func sameOutcome(a, b Check) bool {
	return a.Status == b.Status && address.ReplaceAllString(a.Message, "server") == address.ReplaceAllString(b.Message, "server")
}

func tell(checks []Check) string {
	if len(checks) == 0 {
		return "no such check"
	}
	var told []string
	for _, check := range checks {
		text := check.Status
		if check.Message != "" {
			text += " (" + check.Message + ")"
		}
		told = append(told, text)
	}
	return strings.Join(told, ", ")
}
