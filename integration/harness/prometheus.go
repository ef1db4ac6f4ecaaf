package harness

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// Prometheus is a running Prometheus server.
type Prometheus struct {
	URL string

	process *Process
}

// Sample is one element of the result of an expression.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// PrometheusTool returns the path of a program of Prometheus. The program is either
// installed on the system or was unpacked by scripts/tools.sh.
func (b *Binaries) PrometheusTool(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path := filepath.Join(b.Root, "bin", "prometheus", "usr", "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run \"make tools\"", err)
	}
	return path
}

// StartPrometheus starts Prometheus with the config file, which is in a directory that
// the test may write to. The server ends with the test.
func (b *Binaries) StartPrometheus(t testing.TB, config string) *Prometheus {
	t.Helper()
	dir, address := filepath.Dir(config), "127.0.0.1:"+FreePort(t)
	p := &Prometheus{URL: "http://" + address}
	p.process = Start(t, "prometheus", filepath.Join(dir, "prometheus.log"), nil, b.PrometheusTool(t, "prometheus"),
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "series"), "--web.listen-address="+address)
	p.process.Await(t, "readiness", func() error {
		_, err := fetch(p.URL + "/-/ready")
		return err
	})
	return p
}

// Query evaluates an expression now. It leaves out values that are not numbers.
func (p *Prometheus) Query(expr string) ([]Sample, error) {
	resp, err := http.PostForm(p.URL+"/api/v1/query", url.Values{"query": {expr}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	var found []struct {
		Metric map[string]string
		Value  [2]any
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("%s: the result is a %s", expr, answer.Data.ResultType)
	}
	if err := json.Unmarshal(answer.Data.Result, &found); err != nil {
		return nil, err
	}
	var samples []Sample
	for _, f := range found {
		text, _ := f.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		if !math.IsNaN(value) && !math.IsInf(value, 0) {
			samples = append(samples, Sample{f.Metric, value})
		}
	}
	return samples, nil
}
