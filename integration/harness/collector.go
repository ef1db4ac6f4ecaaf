package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Collector is OpenTelemetry's collector. It writes the spans that it receives to a
// file.
type Collector struct {
	address string // the address at which the collector receives OTLP by HTTP
	file    string
}

// collectors builds integration/otelcollector once for a test binary.
var collectors struct {
	once sync.Once
	err  error
}

// StartCollector starts a collector. The collector ends with the test.
func (b *Binaries) StartCollector(t testing.TB) *Collector {
	t.Helper()
	binary := filepath.Join(filepath.Dir(b.Farebox), "otelcollector")
	collectors.once.Do(func() {
		cmd := exec.Command("go", "build", "-o", binary, ".")
		cmd.Dir = filepath.Join(b.Root, "integration", "otelcollector")
		if out, err := cmd.CombinedOutput(); err != nil {
			collectors.err = fmt.Errorf("build the collector: %w\n%s", err, out)
		}
	})
	if collectors.err != nil {
		t.Fatal(collectors.err)
	}
	dir := t.TempDir()
	c := &Collector{address: "127.0.0.1:" + FreePort(t), file: filepath.Join(dir, "spans.json")}
	config := fmt.Sprintf(`
receivers: {otlp: {protocols: {http: {endpoint: %q}}}}
exporters: {file: {path: %q, flush_interval: 20ms}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [file]}}}
`, c.address, c.file)
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := Start(t, "otelcollector", filepath.Join(dir, "collector.log"), nil, binary, "--config", "file:config.yaml")
	p.Await(t, "its receiver", func() error {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return c
}

// Environment returns the variables with which a gateway exports its spans to the
// collector, soon after they end.
func (c *Collector) Environment() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.address, "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_SERVICE_NAME=farebox"}
}

// Received returns everything that the collector has received, in its own format: a
// JSON object in each line.
func (c *Collector) Received(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// CollectedSpan is a span as a collector has received it.
type CollectedSpan struct {
	Scope      string
	Trace      string // the id of the trace
	ID         string
	Parent     string // the id of the parent span; "" without a parent
	Name       string
	Kind       int // 1 for internal, 2 for a server, 3 for a client
	Began      time.Time
	Ended      time.Time
	Attributes map[string]string
	Links      []string // the linked spans, each in the form "trace/span"
	Error      bool
	Status     string // the description of the status
}

// Spans returns the spans that the collector has received, in the order in which they
// came. Spans of one gateway come in the order in which they ended.
func (c *Collector) Spans(t testing.TB) []CollectedSpan {
	t.Helper()
	var all []CollectedSpan
	text := c.Received(t)
	for line := range bytes.Lines(text[:bytes.LastIndexByte(text, '\n')+1]) { // the last line may be incomplete
		var batch collected
		if err := json.Unmarshal(line, &batch); err != nil {
			t.Fatalf("the collector wrote %q: %v", line, err)
		}
		for _, r := range batch.ResourceSpans {
			for _, s := range r.ScopeSpans {
				for i := range s.Spans {
					all = append(all, s.Spans[i].span(s.Scope.Name))
				}
			}
		}
	}
	return all
}

// collected is a line of the collector's file (OTLP, JSON encoding).
type collected struct {
	ResourceSpans []struct {
		ScopeSpans []struct {
			Scope struct{ Name string }
			Spans []collectedSpan
		}
	}
}

type collectedSpan struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int
	StartTimeUnixNano, EndTimeUnixNano  int64 `json:",string"`
	Attributes                          []struct {
		Key   string
		Value map[string]json.RawMessage
	}
	Links  []struct{ TraceID, SpanID string }
	Status struct {
		Message string
		Code    int
	}
}

func (s *collectedSpan) span(scope string) CollectedSpan {
	const statusError = 2
	c := CollectedSpan{
		Scope: scope, Trace: s.TraceID, ID: s.SpanID, Parent: s.ParentSpanID, Name: s.Name, Kind: s.Kind, Attributes: make(map[string]string),
		Began: time.Unix(0, s.StartTimeUnixNano), Ended: time.Unix(0, s.EndTimeUnixNano),
		Error: s.Status.Code == statusError, Status: s.Status.Message,
	}
	for _, a := range s.Attributes {
		for _, value := range a.Value { // a.Value has one member, named after the type of the value
			c.Attributes[a.Key] = string(bytes.Trim(value, `"`))
		}
	}
	for _, l := range s.Links {
		c.Links = append(c.Links, l.TraceID+"/"+l.SpanID)
	}
	return c
}
