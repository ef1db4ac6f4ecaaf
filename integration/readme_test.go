package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// TestReadme checks that the README's commands lead to a call with a key. The test runs
// the commands in an empty folder, unchanged except for the ports.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(binaries.Root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	caddyfile, port := blocks(string(text))[0], harness.FreePort(t)
	upstream := strings.TrimPrefix(binaries.StartWeather(t, "-stateless"), "http://")
	upstream, _, _ = strings.Cut(upstream, "/")
	ports := strings.NewReplacer("localhost:3001", upstream, ":8080", ":"+port)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(ports.Replace(caddyfile)), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "PATH="+filepath.Dir(binaries.Farebox)+":"+os.Getenv("PATH"))
	log := filepath.Join(dir, "log")
	var gateway *harness.Process
	key, ran := "", 0
	for _, block := range shellBlocks(string(text)) {
		for _, command := range strings.Split(strings.ReplaceAll(block, "\\\n", " "), "\n") {
			switch {
			case command == "" || strings.HasPrefix(command, "make ") || strings.HasPrefix(command, "export PATH"):
				continue // the test binaries are built already
			case command == "farebox run":
				gateway = harness.Start(t, "farebox", log, environment, "sh", "-c", "cd "+dir+" && exec farebox run")
				gateway.Await(t, "the gateway", func() error {
					if !strings.Contains(gateway.Output(t), "serving initial configuration") {
						return errors.New("it is starting")
					}
					return nil
				})
				continue
			}
			ran++
			out := ""
			try := func() error {
				cmd := exec.Command("bash", "-ec", ports.Replace(command))
				cmd.Dir, cmd.Env = dir, append(environment, "KEY="+key)
				text, err := cmd.CombinedOutput()
				out = string(text)
				return err
			}
			if err := try(); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
			wants := map[string]string{
				"farebox validate": "Valid configuration", "farebox key create": "sk_live_",
				"curl http://localhost:8080/api/v1/balance": `"5.00"`, "farebox server check": "get_forecast",
			}
			switch {
			case strings.Contains(command, "tools/list"):
				wants[command] = `"get_forecast"`
			case strings.Contains(command, "tools/call"):
				wants[command] = "dev.farebox/receipt"
			}
			for begins, want := range wants {
				if strings.HasPrefix(command, begins) && !strings.Contains(out, want) {
					t.Errorf("%s printed %s; want %s", command, out, want)
				}
			}
			if strings.HasPrefix(command, "farebox key create") {
				key = regexp.MustCompile(`sk_live_[0-9a-f]{64}`).FindString(out)
			}
		}
	}
	if gateway == nil || key == "" || ran < 7 {
		t.Fatal(errors.New("the README has no way to a call any more"))
	}
}

// shellBlocks returns the blocks of shell commands in a Markdown document.
func shellBlocks(document string) []string {
	return blocks(strings.ReplaceAll(strings.ReplaceAll(document, "```caddyfile\n", "```other\n"), "```sh\n", "```caddyfile\n"))
}
