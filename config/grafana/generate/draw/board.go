package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
)

// board has the parts of a dashboard's JSON that this program draws.
type board struct {
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Panels      []*panel `json:"panels"`
}

// panel is a panel, or the heading of a row, in Grafana's JSON.
type panel struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		RefID        string `json:"refId"`
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
		Instant      bool   `json:"instant"`
	} `json:"targets"`
	FieldConfig struct {
		Defaults  field `json:"defaults"`
		Overrides []struct {
			Matcher struct {
				Options string `json:"options"`
			} `json:"matcher"`
			Properties []struct {
				ID    string          `json:"id"`
				Value json.RawMessage `json:"value"`
			} `json:"properties"`
		} `json:"overrides"`
	} `json:"fieldConfig"`
	Transformations []struct {
		ID      string `json:"id"`
		Options struct {
			Exclude map[string]bool   `json:"excludeByName"`
			Index   map[string]int    `json:"indexByName"`
			Rename  map[string]string `json:"renameByName"`
		} `json:"options"`
	} `json:"transformations"`

	series []series // the results of the panel's queries
}

// field is the part of a panel's JSON that says how values are shown.
type field struct {
	Unit       string    `json:"unit"`
	Decimals   *int      `json:"decimals"`
	Min        *float64  `json:"min"`
	Max        *float64  `json:"max"`
	NoValue    string    `json:"noValue"`
	Mappings   []mapping `json:"mappings"`
	Thresholds struct {
		Steps []struct {
			Value *float64 `json:"value"`
			Color string   `json:"color"`
		} `json:"steps"`
	} `json:"thresholds"`
	Custom struct {
		Stacking struct {
			Mode string `json:"mode"`
		} `json:"stacking"`
	} `json:"custom"`
}

// mapping replaces values by texts.
type mapping struct {
	Options map[string]struct {
		Text  string `json:"text"`
		Color string `json:"color"`
	} `json:"options"`
}

// series is one line of a panel, one bar, or one value.
type series struct {
	target string // the letter of the query that the series comes from
	name   string
	labels map[string]string
	points []point // ordered by time
}

type point struct{ at, value float64 }

// last returns the latest value of the series.
func (s series) last() float64 { return s.points[len(s.points)-1].value }

// load reads a dashboard.
func load(file string) (*board, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	b := new(board)
	if err := json.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return b, nil
}

var label = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// fill queries the source for the data of all panels.
func (b *board) fill(ctx context.Context, source *source) error {
	for _, p := range b.Panels {
		p.Title = source.variables.Replace(p.Title)
		for _, target := range p.Targets {
			found, err := source.query(ctx, target.Expr, target.Instant)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Title, err)
			}
			for _, s := range found {
				s.target = target.RefID
				s.name = label.ReplaceAllStringFunc(target.LegendFormat, func(m string) string {
					return s.labels[label.FindStringSubmatch(m)[1]]
				})
				p.series = append(p.series, s)
			}
		}
	}
	return nil
}

// gaps returns the titles of the panels that have no data, and no text to show instead.
func (b *board) gaps() (titles []string) {
	for _, p := range b.Panels {
		if p.Type != "row" && len(p.series) == 0 && p.FieldConfig.Defaults.NoValue == "" {
			titles = append(titles, b.Title+", "+p.Title)
		}
	}
	return titles
}

// property looks for the override of the series or column with the given name. In that
// override, it looks for the property with the id, and decodes it into v. It reports
// whether the property exists.
func (p *panel) property(name, id string, v any) bool {
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if o.Matcher.Options == name && property.ID == id && json.Unmarshal(property.Value, v) == nil {
				return true
			}
		}
	}
	return false
}
