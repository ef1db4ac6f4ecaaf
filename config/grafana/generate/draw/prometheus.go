package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// points is the number of points in a line.
const points = 240

// source is a Prometheus server, with the period and the variables that a user of the
// dashboard would have chosen.
type source struct {
	url       string
	end       float64 // the end of the period, in seconds since 1970
	span      time.Duration
	variables *strings.Replacer
}

// answer has the members of Prometheus's JSON response that this program uses.
type answer struct {
	Error string `json:"error"`
	Data  struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	} `json:"data"`
}

// sample is a time and a value, as Prometheus writes them.
type sample [2]any

func (s sample) point() (point, error) {
	at, _ := s[0].(float64)
	text, _ := s[1].(string)
	value, err := strconv.ParseFloat(text, 64)
	return point{at, value}, err
}

// now returns the time of Prometheus, in seconds since 1970.
func (s *source) now(ctx context.Context) (float64, error) {
	var result sample
	if err := s.get(ctx, "query", url.Values{"query": {"time()"}}, &result); err != nil {
		return 0, err
	}
	p, err := result.point()
	return p.value, err
}

// currency returns the code of the currency, or a dash.
func (s *source) currency(ctx context.Context) string {
	var result []struct{ Metric map[string]string }
	if s.get(ctx, "query", url.Values{"query": {"farebox_currency_info"}}, &result) != nil || len(result) == 0 {
		return "-"
	}
	return result[0].Metric["currency"]
}

// query evaluates an expression. If instant is true, each series has one value, at the
// end of the period; otherwise it has values over the whole period. Values that are not
// numbers are left out, as in Grafana.
func (s *source) query(ctx context.Context, expr string, instant bool) ([]series, error) {
	var results []struct {
		Metric map[string]string
		Value  sample
		Values []sample
	}
	form := url.Values{"query": {s.variables.Replace(expr)}}
	path, at := "query", strconv.FormatFloat(s.end, 'f', 3, 64)
	if instant {
		form.Set("time", at)
	} else {
		path = "query_range"
		form.Set("end", at)
		form.Set("start", strconv.FormatFloat(s.end-s.span.Seconds(), 'f', 3, 64))
		form.Set("step", strconv.FormatFloat(max(s.span.Seconds()/points, 1), 'f', 3, 64))
	}
	if err := s.get(ctx, path, form, &results); err != nil {
		return nil, err
	}
	var all []series
	for _, r := range results {
		if instant {
			r.Values = []sample{r.Value}
		}
		line := series{labels: r.Metric}
		for _, v := range r.Values {
			p, err := v.point()
			if err != nil {
				return nil, err
			}
			if !math.IsNaN(p.value) && !math.IsInf(p.value, 0) {
				line.points = append(line.points, p)
			}
		}
		if len(line.points) > 0 {
			all = append(all, line)
		}
	}
	return all, nil
}

// get calls the API of Prometheus and decodes its result.
func (s *source) get(ctx context.Context, path string, form url.Values, v any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/v1/"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return fmt.Errorf("%s: %s: %w", path, resp.Status, err)
	}
	if a.Error != "" {
		return fmt.Errorf("%s: %s", form.Get("query"), a.Error)
	}
	return json.Unmarshal(a.Data.Result, v)
}
