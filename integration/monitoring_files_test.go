package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rule is a rule of config/prometheus.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

// readRules returns all rules of config/prometheus.
func readRules(t *testing.T) (all []rule) {
	t.Helper()
	for _, name := range []string{"recording.yml", "alerts.yml"} {
		text, err := os.ReadFile(filepath.Join(binaries.Root, "config", "prometheus", "rules", name))
		if err != nil {
			t.Fatal(err)
		}
		var file struct{ Groups []struct{ Rules []rule } }
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		for _, group := range file.Groups {
			all = append(all, group.Rules...)
		}
	}
	return all
}

// promtool runs promtool in the directory of the config of Prometheus.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(binaries.PrometheusTool(t, "promtool"), args...)
	cmd.Dir = filepath.Join(binaries.Root, "config", "prometheus")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestPrometheusFiles checks the config, the rules and the alerts by promtool. Each
// alert must have a test, a severity and a row in docs/monitoring.md. It must link to a
// paragraph of docs/runbook.md.
func TestPrometheusFiles(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "config", "prometheus.yml")
	promtool(t, "check", "rules", "rules/recording.yml", "rules/alerts.yml")
	var tests string
	files, err := filepath.Glob(filepath.Join(binaries.Root, "config", "prometheus", "tests", "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		promtool(t, "test", "rules", file)
		tests += readText(t, file)
	}
	runbook, page := readText(t, filepath.Join(binaries.Root, "docs", "runbook.md")), readText(t, filepath.Join(binaries.Root, "docs", "monitoring.md"))
	var headings []string
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(runbook, -1) {
		headings = append(headings, m[1])
	}
	const url = "https://github.com/fareboxhq/farebox/blob/main/docs/runbook.md#"
	var names []string
	for _, r := range readRules(t) {
		if r.Alert == "" {
			continue
		}
		names = append(names, r.Alert)
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: its severity is %q", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["runbook_url"] != url+strings.ToLower(r.Alert) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: annotations %v", r.Alert, r.Annotations)
		}
		if !strings.Contains(page, "| `"+r.Alert+"` | "+r.Labels["severity"]+" |") {
			t.Errorf("docs/monitoring.md has no row of %s with its severity", r.Alert)
		}
		fires := regexp.MustCompile(`alertname: ` + r.Alert + `\n +exp_alerts:`)
		quiet := regexp.MustCompile(`alertname: ` + r.Alert + `\n(\n| +- |# |$)`)
		if !fires.MatchString(tests) || len(quiet.FindAllString(tests, -1)) < 2 {
			t.Errorf("config/prometheus/tests has no test in which %s fires, is quiet, and stops", r.Alert)
		}
		_, paragraph, _ := strings.Cut(runbook, "## "+r.Alert+"\n")
		paragraph, _, _ = strings.Cut(paragraph, "\n## ")
		for _, part := range []string{"**Meaning.** ", "**Look at", "**Do.** "} {
			if !strings.Contains(paragraph, part) {
				t.Errorf("docs/runbook.md, %s: no part %s", r.Alert, part)
			}
		}
		if severity := "**Meaning.** " + strings.ToUpper(r.Labels["severity"][:1]) + r.Labels["severity"][1:] + ". "; !strings.Contains(paragraph, severity) {
			t.Errorf("docs/runbook.md, %s: its meaning does not begin with its severity", r.Alert)
		}
	}
	slices.Sort(headings)
	slices.Sort(names)
	if !slices.Equal(headings, names) {
		t.Errorf("docs/runbook.md has paragraphs of %v, the alerts are %v", headings, names)
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
