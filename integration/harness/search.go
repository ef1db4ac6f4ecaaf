package harness

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// search fails the test if anything in the working directory (logs, database,
// saved config) or in the shown texts has a secret in it, or reports a race.
// The admin token is a secret, too, except in the file that it lives in.
func (g *Gateway) search(t testing.TB, shown map[string][]byte) {
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
		shown[path] = text
		return nil
	})
	if err != nil {
		t.Errorf("search the gateway's files: %v", err)
	}
	for _, finding := range Findings(shown, g.secrets) {
		t.Error(finding)
	}
}

// Findings reports, for every text, the secrets found in it, by their first
// characters, and whether it is the report of a data race.
func Findings(texts map[string][]byte, secrets []string) []string {
	const shownOfSecret, shownOfRace = 12, 4 << 10
	var found []string
	for place, text := range texts {
		if _, report, ok := bytes.Cut(text, []byte("WARNING: DATA RACE")); ok {
			found = append(found, fmt.Sprintf("%s tells of a data race:%s", place, report[:min(len(report), shownOfRace)]))
		}
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				found = append(found, fmt.Sprintf("%s has a secret in it: %s...", place, secret[:min(len(secret), shownOfSecret)]))
			}
		}
	}
	return found
}
