package harness

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// search looks for secrets and for reports of data races, and fails the test if it
// finds one. It searches the texts, and the files in the working directory (logs,
// database, saved config), which it adds to the texts. The admin token is a secret,
// too, except in its own file.
func (g *Gateway) search(t testing.TB, texts map[string][]byte) {
	t.Helper()
	err := filepath.WalkDir(g.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".token") {
			g.AddSecret(string(bytes.TrimSpace(text)))
			return nil
		}
		texts[path] = text
		return nil
	})
	if err != nil {
		t.Errorf("search the gateway's files: %v", err)
	}
	for _, finding := range Findings(texts, g.secrets) {
		t.Error(finding)
	}
}

// commandAnswers is the name under which the searched texts have the output of
// commands. The output may show the secret of an invitation, because a command prints
// this secret once.
const commandAnswers = "an answer to a command"

// peopleSecret matches the secrets of invitations, sessions and ceremonies.
// They are made at run time, so they are found by their form.
var peopleSecret = regexp.MustCompile(`\bfb[isc]_[A-Za-z0-9_-]{43}`)

// firstLink matches the line of the log with the link for the first operator. The link
// has the only secret that a log may contain.
var firstLink = regexp.MustCompile(`(?m)^.*"nobody can sign in to the console yet: .*$`)

// Findings describes each secret and each report of a data race in the texts. It
// shows only the first characters of a secret.
func Findings(texts map[string][]byte, secrets []string) []string {
	const shownOfSecret, shownOfRace = 12, 4 << 10
	var found []string
	for place, text := range texts {
		if _, report, ok := bytes.Cut(text, []byte("WARNING: DATA RACE")); ok {
			found = append(found, fmt.Sprintf("%s has the report of a data race:%s", place, report[:min(len(report), shownOfRace)]))
		}
		if place != commandAnswers {
			if secret := peopleSecret.Find(firstLink.ReplaceAll(text, nil)); secret != nil {
				found = append(found, fmt.Sprintf("%s has a secret of people in it: %s...", place, secret[:shownOfSecret]))
			}
		}
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				found = append(found, fmt.Sprintf("%s has a secret in it: %s...", place, secret[:min(len(secret), shownOfSecret)]))
			}
		}
	}
	return found
}
