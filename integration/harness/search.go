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

// search looks for secrets and for reports of data races, and fails the test if it
// finds one. It searches the files in the working directory (logs, database, saved
// config) and the texts in the parameter shown. The admin token is a secret, too,
// except in its own file.
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

// Findings describes each secret and each report of a data race in the texts. It
// shows only the first characters of a secret.
func Findings(texts map[string][]byte, secrets []string) []string {
	const shownOfSecret, shownOfRace = 12, 4 << 10
	var found []string
	for place, text := range texts {
		if _, report, ok := bytes.Cut(text, []byte("WARNING: DATA RACE")); ok {
			found = append(found, fmt.Sprintf("%s has the report of a data race:%s", place, report[:min(len(report), shownOfRace)]))
		}
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				found = append(found, fmt.Sprintf("%s has a secret in it: %s...", place, secret[:min(len(secret), shownOfSecret)]))
			}
		}
	}
	return found
}
