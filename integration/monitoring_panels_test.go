package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/integration/harness"
)

// expression is an expression of a dashboard, a rule or an alert.
type expression struct {
	where string
	text  string
}

// panelExpressions returns the expressions of all panels and annotations. Each
// variable is replaced by a choice of a user: all nodes and servers of one job.
func panelExpressions(t *testing.T, job string) (all []expression) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(binaries.Root, "config", "grafana", "dashboards", "*.json"))
	if err != nil || len(files) != 5 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	variables := strings.NewReplacer("$__rate_interval", "10s", "$__range", "5m", "[1h]", "[5m]",
		"$job", job, "$node", ".*", "$server", ".*", "$environment", "live")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Title       string
			Panels      []struct{ Title, Targets json.RawMessage }
			Annotations struct{ List []struct{ Name, Expr string } }
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatal(err)
		}
		for _, p := range board.Panels {
			var targets []struct{ RefID, Expr string }
			if len(p.Targets) == 0 { // the heading of a row
				continue
			}
			if err := json.Unmarshal(p.Targets, &targets); err != nil {
				t.Fatal(err)
			}
			for _, target := range targets {
				where := fmt.Sprintf("%s, %s, %s", board.Title, p.Title, target.RefID)
				all = append(all, expression{strings.ReplaceAll(where, `"`, ""), variables.Replace(target.Expr)})
			}
		}
	}
	if len(all) < 100 {
		t.Fatalf("only %d expressions", len(all))
	}
	return all
}

// silent lists by job the panels that must have no data, because they show something
// that the store of that job does not have.
var silent = map[string][]string{
	sqliteJob: {
		"Farebox / Keys, Revocation lag, A",
		"Farebox / Keys, Revocation lag by node, B",
		"Farebox / Store, Nodes at the database, A",
		"Farebox / Store, Nodes at the database, B",
		"Farebox / Store, Connections, A",
		"Farebox / Store, Connections, B",
		"Farebox / Store, Waiting for a connection, A",
	},
	postgresJob: {
		"Farebox / Store, Disk free, A",
		"Farebox / Store, Free disk, A",
	},
}

// panelsHaveData waits until each panel has data in both jobs, except the panels in the
// list silent, which must have no data.
func (m *monitored) panelsHaveData(t *testing.T) {
	t.Helper()
	for _, job := range []string{sqliteJob, postgresJob} {
		expressions := panelExpressions(t, job)
		harness.Eventually(t, "data in all panels of "+job, func() error {
			var wrong []error
			for _, e := range expressions {
				samples, err := m.prometheus.Query(e.text)
				switch mute := slices.Contains(silent[job], e.where); {
				case err != nil:
					t.Fatal(err)
				case len(samples) == 0 && !mute:
					wrong = append(wrong, fmt.Errorf("%s: no data: %s", e.where, e.text))
				case len(samples) > 0 && mute:
					wrong = append(wrong, fmt.Errorf("%s: it has data, although %s cannot have any", e.where, job))
				}
			}
			return errors.Join(wrong...)
		})
		t.Logf("%s: %d expressions of panels", job, len(expressions))
	}
}

// metric matches the name of a metric or a recording rule, with its matchers.
var metric = regexp.MustCompile(`\b([a-z_]+:)?(?:farebox|process|caddy)_[a-z0-9_:]+(?:\{[^}]*\})?`)

// rulesHaveData checks that each recording rule has series, and that each series in the
// expression of an alert exists. An alert itself has no result as long as all is well.
func (m *monitored) rulesHaveData(t *testing.T) {
	t.Helper()
	queries := map[string]string{}
	for _, r := range readRules(t) {
		for _, name := range append(metric.FindAllString(r.Expr, -1), r.Record) {
			if name != "" {
				queries[r.Alert+r.Record+", "+name] = name
			}
		}
	}
	harness.Eventually(t, "data for all rules", func() error {
		var wrong []error
		for where, query := range queries {
			samples, err := m.prometheus.Query(query)
			if err == nil && len(samples) == 0 {
				err = errors.New("no data")
			}
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", where, err))
			}
		}
		return errors.Join(wrong...)
	})
	t.Logf("%d queries of rules", len(queries))
}
