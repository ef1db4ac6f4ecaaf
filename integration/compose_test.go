package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// compose is the part of a Compose file that the test reads. The fields that the test
// does not use are declared because unknown fields are errors.
type compose struct {
	Name     string
	Services map[string]struct {
		Image       string
		Build       struct{ Context, Dockerfile string }
		Command     []string
		DependsOn   any `yaml:"depends_on"`
		Environment map[string]string
		ExtraHosts  []string `yaml:"extra_hosts"`
		Ports       []string
		Volumes     []string
		Tmpfs       []string
		ReadOnly    bool     `yaml:"read_only"`
		CapDrop     []string `yaml:"cap_drop"`
		SecurityOpt []string `yaml:"security_opt"`
		StopGrace   string   `yaml:"stop_grace_period"`
		ShmSize     string   `yaml:"shm_size"`
		Restart     string
		Healthcheck struct {
			Test              []string
			Interval, Timeout string
			Retries           int
		}
	}
	Volumes map[string]any
}

// TestCompose checks that compose.yaml can be read. Each file and folder that it mounts
// or builds from must exist, and each volume must be declared. The variables without a
// default must be exactly the variables in .env.example. All ports must be open to this
// machine only.
func TestCompose(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(binaries.Root, "config", "docker")
	text, err := os.ReadFile(filepath.Join(dir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file compose
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"farebox", "postgres", "prometheus", "grafana"} {
		if file.Services[name].Image == "" {
			t.Errorf("there is no service %s with an image", name)
		}
	}
	for name, service := range file.Services {
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(source, ".") {
				if _, err := os.Stat(filepath.Join(dir, source)); err != nil {
					t.Errorf("%s mounts %v", name, err)
				}
			} else if _, ok := file.Volumes[source]; !ok {
				t.Errorf("%s mounts the volume %s, which is not declared", name, source)
			}
		}
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s publishes %s to the network", name, port)
			}
		}
	}
	build := file.Services["farebox"].Build
	if _, err := os.Stat(filepath.Join(dir, build.Context, build.Dockerfile)); err != nil {
		t.Error(err)
	}
	checkVariables(t, dir, string(text), file.Services["farebox"].Environment)
}

// checkVariables checks that .env.example has each variable that compose.yaml asks for,
// and that the gateway gets each variable that its Caddyfile uses.
func checkVariables(t *testing.T, dir, text string, environment map[string]string) {
	t.Helper()
	example, err := os.ReadFile(filepath.Join(dir, ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`\$\{(\w+)`).FindAllStringSubmatch(text, -1) {
		if !slices.ContainsFunc(strings.Split(string(example), "\n"), func(line string) bool { return strings.HasPrefix(line, found[1]+"=") }) {
			t.Errorf(".env.example lacks %s", found[1])
		}
	}
	caddyfile, err := os.ReadFile(filepath.Join(dir, "compose.Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`\{(?:env\.|\$)(\w+)`).FindAllStringSubmatch(string(caddyfile), -1) {
		if _, ok := environment[found[1]]; !ok {
			t.Errorf("the gateway does not get %s", found[1])
		}
	}
}
