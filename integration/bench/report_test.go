package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// measured returns a bench with two rounds of made-up turns.
func measured() *bench {
	list := []row{rows[0], rows[1], {name: "paid", title: "paid & <quick>", server: sqliteServer, base: caddyRow}}
	b := &bench{options: options{rounds: 2, seconds: 1, connections: 16}, rows: list}
	b.rounds = [][]turn{
		{turnAt(directRow, 90000, 0), turnAt(caddyRow, 1000, 80), turnAt("paid", 500, 200), turnAt(caddyRow, 1000, 80)},
		{turnAt(caddyRow, 3000, 100), turnAt("paid", 900, 400), turnAt(caddyRow, 3000, 100), turnAt(directRow, 70000, 0)},
	}
	b.open = []map[string]openTurn{
		{caddyRow: {wanted: 1000, reached: 1000, p50: time.Millisecond, p99: 2 * time.Millisecond}, "paid": {wanted: 400, reached: 200, p50: 2 * time.Millisecond, p99: 5 * time.Millisecond}},
		{caddyRow: {wanted: 1000, reached: 1000, p50: time.Millisecond, p99: 4 * time.Millisecond}, "paid": {wanted: 400, reached: 300, p50: 2 * time.Millisecond, p99: 6 * time.Millisecond}},
	}
	return b
}

// TestReport checks the medians and the ratios. A ratio must be computed within each
// round, and the report must show the median of these ratios, here 0.4. The ratio of
// the two medians would be wrong, here 0.35.
func TestReport(t *testing.T) {
	r := measured().report()
	paid, ok := r.find("paid")
	if !ok || paid.Rate != (spread{700, 500, 900}) || !near(paid.Ratio, spread{0.4, 0.3, 0.5}) || !near(paid.CPURatio, spread{3.25, 2.5, 4}) {
		t.Errorf("got %+v", paid)
	}
	if paid.CPU[gatewayRole] != 300 || paid.CPU[clientRole] != 1000 {
		t.Errorf("CPU: got %v", paid.CPU)
	}
	if o := paid.Open; o.Wanted != 400 || o.Reached != 250 || o.P99 != (spread{5.5, 5, 6}) || !near(o.P99Ratio, spread{2, 1.5, 2.5}) {
		t.Errorf("open loop: got %+v", o)
	}
	if caddy, _ := r.find(caddyRow); caddy.Ratio != (spread{}) || caddy.Rate.Median != 2000 {
		t.Errorf("the base: got %+v", caddy)
	}
}

func near(a, b spread) bool {
	const small = 1e-9
	return math.Abs(a.Median-b.Median) < small && math.Abs(a.Low-b.Low) < small && math.Abs(a.High-b.High) < small
}

// TestNotes checks that the notes name each row with figures that may be wrong: because
// the client was too busy, or because the open loop did not reach its rate.
func TestNotes(t *testing.T) {
	r := measured().report()
	r.Rows[1].Busy = 0.95
	notes := strings.Join(r.notes(), "\n")
	for _, want := range []string{
		"80000 calls/s directly at the upstream, 40.0 times the fastest gateway (caddy)",
		"caddy: the client used 95% of its core",
		"paid: open loop reached 250 of 400 calls/s",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("no %q in\n%s", want, notes)
		}
	}
	if strings.Contains(notes, "caddy: open loop") || strings.Contains(notes, "paid: the client") {
		t.Errorf("too much is reported:\n%s", notes)
	}
}

// TestSave checks that bench.txt, bench.json and bench.svg are written and can be read.
func TestSave(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "performance")
	r := measured().report()
	r.LeftOut = []string{"nginx is not there"}
	if err := r.save(dir); err != nil {
		t.Fatal(err)
	}
	if back := readReport(t, filepath.Join(dir, "bench.json")); len(back.Rows) != 3 || back.Rows[2].Ratio != r.Rows[2].Ratio {
		t.Errorf("bench.json: %+v", back)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bench.txt"))
	if err != nil || !strings.Contains(string(text), "0.40 (0.30-0.50)") || !strings.Contains(string(text), "nginx is not there") {
		t.Errorf("bench.txt: %v\n%s", err, text)
	}
	if _, err := os.Stat(filepath.Join(dir, "bench.svg")); err != nil {
		t.Error(err)
	}
}

func readReport(t *testing.T, path string) (r report) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestChart checks that the chart is well-formed XML, and that texts are escaped. The
// lengths of the bars are in proportion to the rates. The direct row is left out,
// because it would make all other bars short.
func TestChart(t *testing.T) {
	var svg bytes.Buffer
	if err := measured().report().writeChart(&svg); err != nil {
		t.Fatal(err)
	}
	var widths []float64
	var texts []string
	for d := xml.NewDecoder(bytes.NewReader(svg.Bytes())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg.Bytes())
		}
		switch v := token.(type) {
		case xml.CharData:
			texts = append(texts, string(v))
		case xml.StartElement:
			if attribute(v, "class") != "bar" {
				continue
			}
			width, err := strconv.ParseFloat(attribute(v, "width"), 64)
			if err != nil {
				t.Fatal(err)
			}
			widths = append(widths, width)
		}
	}
	// The rates of the two bars are 2000 and 700. A bar of the length barMax stands for
	// the highest rate, which is 3000.
	if len(widths) != 2 || math.Abs(widths[0]-barMax*2.0/3) > 0.1 || math.Abs(widths[1]-barMax*0.7/3) > 0.1 {
		t.Errorf("widths %v", widths)
	}
	for _, want := range []string{"paid & <quick>", "700 (0.40 of Caddy)", "2000"} {
		if !slices.Contains(texts, want) {
			t.Errorf("no text %q in %q", want, texts)
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
