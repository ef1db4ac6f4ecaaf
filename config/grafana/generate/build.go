package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	sdktable "github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// tag marks the dashboards of Farebox. The links from one dashboard to the others find
// them by this tag.
const tag = "farebox"

// docs is the address of the documentation.
const docs = "https://github.com/fareboxhq/farebox/blob/main/docs/"

var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

// expand replaces the abbreviations in a query, such as <node>, by variables of
// Grafana.
var expand = strings.NewReplacer(
	"<node>", `job=~"$job", instance=~"$node"`,
	"<server>", `job=~"$job", instance=~"$node", server=~"$server"`,
	"<money>", `job=~"$job", instance=~"$node", server=~"$server", environment=~"$environment"`,
	"[rate]", "[$__rate_interval]",
	"[range]", "[$__range]",
)

// build returns the dashboard as Grafana reads it, in the classic model. The library
// prefers a newer model, which only Grafana 12 and later can read.
func (b board) build() (dashboard.Dashboard, error) {
	d := dashboard.NewDashboardBuilder(b.title).
		Uid(b.uid).
		Description(b.description).
		Tags([]string{tag}).
		Time("now-3h", "now").
		Refresh("30s").
		Timezone(common.TimeZoneBrowser).
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Variables(b.variables()).
		Links(links()).
		Annotation(restarts())
	id := uint32(0)
	next := func() uint32 { id++; return id }
	for _, r := range b.rows {
		d.WithRow(dashboard.NewRowBuilder(r.title).Id(next()))
		for _, p := range r.panels {
			d.WithPanel(p.build(next()))
		}
	}
	return d.Build()
}

// links returns the links at the top of a dashboard. They lead to the documentation and
// to the other dashboards. A link to another dashboard keeps the chosen nodes and the
// chosen period.
func links() []cog.Builder[dashboard.DashboardLink] {
	return []cog.Builder[dashboard.DashboardLink]{
		dashboard.NewDashboardLinkBuilder("Farebox").Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{tag}).IncludeVars(true).KeepTime(true),
		dashboard.NewDashboardLinkBuilder("Metrics").Type(dashboard.DashboardLinkTypeLink).
			Url(docs + "metrics.md").Icon("doc").Tooltip("The meaning of each metric").TargetBlank(true),
		dashboard.NewDashboardLinkBuilder("Runbook").Type(dashboard.DashboardLinkTypeLink).
			Url(docs + "runbook.md").Icon("doc").Tooltip("The meaning of each alert, and a remedy").TargetBlank(true),
	}
}

// restarts returns an annotation that marks the start of each gateway in all panels.
func restarts() cog.Builder[dashboard.AnnotationQuery] {
	return dashboard.NewAnnotationQueryBuilder().
		Name("Restarts").Datasource(source).Enable(true).IconColor("blue").
		Expr(expand.Replace(`resets(process_cpu_seconds_total{<node>}[1m]) > 0`)).
		TitleFormat("Restart").TextFormat("{{instance}} was started").Step("30s")
}

// variables returns the variables of the dashboard, which Grafana shows as choices
// above the panels.
func (b board) variables() []cog.Builder[dashboard.VariableModel] {
	all := []cog.Builder[dashboard.VariableModel]{
		dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"),
		labels("job", "Job", `label_values(farebox_build_info, job)`).
			Description("The deployment: all gateways with one store"),
		labels("node", "Node", `label_values(farebox_build_info{job=~"$job"}, instance)`).
			Description("The gateway"),
	}
	if b.servers {
		all = append(all, labels("server", "Server", `label_values(farebox_requests_total{job=~"$job"}, server)`).
			AllValue(".*").Description("The MCP server, by its name in the config"))
	}
	if b.money {
		live := dashboard.VariableOption{Text: list("live"), Value: list("live")}
		all = append(all,
			dashboard.NewCustomVariableBuilder("environment").Label("Environment").
				Description("Live credits, or those of test keys").
				Values(dashboard.StringOrMap{String: cog.ToPtr("live,test")}).
				Multi(true).Current(live),
			dashboard.NewQueryVariableBuilder("currency").Datasource(source).Hide(dashboard.VariableHideHideVariable).
				Query(dashboard.StringOrMap{String: cog.ToPtr(`label_values(farebox_currency_info{job=~"$job"}, currency)`)}).
				Refresh(dashboard.VariableRefreshOnDashboardLoad))
	}
	return all
}

// labels returns a variable with the values of a label. At first all values are chosen.
func labels(name, title, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(title).Datasource(source).
		Query(dashboard.StringOrMap{String: &query}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortNaturalAsc).
		Multi(true).IncludeAll(true).
		Current(dashboard.VariableOption{Text: list("All"), Value: list("$__all")})
}

func list(values ...string) dashboard.StringOrArrayOfString {
	return dashboard.StringOrArrayOfString{ArrayOfString: values}
}

// built is a panel in Grafana's form.
type built dashboard.Panel

// Build implements cog.Builder.
func (b built) Build() (dashboard.Panel, error) { return dashboard.Panel(b), nil }

// failed is a panel that could not be built.
type failed struct{ err error }

// Build implements cog.Builder.
func (f failed) Build() (dashboard.Panel, error) { return dashboard.Panel{}, f.err }

// build returns the panel in Grafana's form, with the given id.
func (p panel) build(id uint32) cog.Builder[dashboard.Panel] {
	var shaped cog.Builder[dashboard.Panel]
	switch p.shape {
	case lines:
		shaped = p.lines()
	case value:
		shaped = stat.NewPanelBuilder().Orientation(common.VizOrientationAuto).ColorMode(common.BigValueColorModeValue).GraphMode(common.BigValueGraphModeArea).
			ReduceOptions(last())
	case bars:
		shaped = bargauge.NewPanelBuilder().Orientation(common.VizOrientationHorizontal).DisplayMode(common.BarGaugeDisplayModeBasic).
			NamePlacement(common.BarGaugeNamePlacementLeft).ValueMode(common.BarGaugeValueModeText).ShowUnfilled(true).
			ReduceOptions(last())
	case table:
		shaped = p.table()
	}
	panel, err := shaped.Build()
	if err != nil {
		return failed{err}
	}
	panel.Id = &id
	panel.Title, panel.Description, panel.Datasource = &p.title, &p.description, &source
	panel.GridPos = &dashboard.GridPos{W: p.width, H: p.height}
	panel.Targets = p.targets()
	if panel.FieldConfig == nil {
		panel.FieldConfig = dashboard.NewFieldConfigSource()
	}
	p.field(&panel.FieldConfig.Defaults)
	for _, name := range slices.Sorted(maps.Keys(p.styles)) {
		panel.FieldConfig.Overrides = append(panel.FieldConfig.Overrides, override(name, p.styles[name]))
	}
	return built(panel)
}

// last returns the option that makes a panel show the last value of each series.
func last() cog.Builder[common.ReduceDataOptions] {
	return common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})
}

// lines returns a builder for a line chart, with the settings that only line charts
// have.
func (p panel) lines() *timeseries.PanelBuilder {
	b := timeseries.NewPanelBuilder().
		LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom))
	if p.stacked {
		b.FillOpacity(40).Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal).Group("A"))
	}
	if len(p.steps) > 0 {
		b.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return b
}

// targets returns the queries of the panel. Their names are A, B, C, …
func (p panel) targets() (all []variants.Dataquery) {
	for i, q := range p.queries {
		target := prometheus.Dataquery{
			RefId: cog.ToPtr(letter(i)), Datasource: &source, Expr: expand.Replace(q.expr),
			EditorMode: cog.ToPtr(prometheus.QueryEditorModeCode), LegendFormat: cog.ToPtr(q.legend),
			Instant: cog.ToPtr(q.now || p.shape == table), Range: cog.ToPtr(!q.now && p.shape != table),
		}
		if p.shape == table {
			target.Format = cog.ToPtr(prometheus.PromQueryFormatTable)
		}
		all = append(all, target)
	}
	return all
}

// letter returns the name of the query with the given index: A, B, C, …
func letter(i int) string { return string(rune('A' + i)) }

// field sets the unit, the decimals, the limits, the texts and the colors of the
// panel's values.
func (p panel) field(f *dashboard.FieldConfig) {
	f.Unit = &p.unit
	f.Decimals = p.decimals
	if !p.free && p.shape != table {
		f.Min = cog.ToPtr(0.0)
	}
	if p.full != 0 {
		f.Max = &p.full
	}
	if p.empty != "" {
		f.NoValue = &p.empty
	}
	f.Mappings = mappings(p.texts)
	f.Thresholds = thresholds(p.below, p.steps)
	mode := dashboard.FieldColorModeIdThresholds
	if p.shape == lines {
		mode = dashboard.FieldColorModeIdPaletteClassicByName
	}
	f.Color = &dashboard.FieldColor{Mode: mode}
}

// mappings returns, in Grafana's form, the texts that are shown in place of values.
func mappings(texts map[string]style) []dashboard.ValueMapping {
	if len(texts) == 0 {
		return nil
	}
	options := map[string]dashboard.ValueMappingResult{}
	for value, s := range texts {
		options[value] = dashboard.ValueMappingResult{Text: &s.text, Color: &s.color}
	}
	return []dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: options}}}
}

// thresholds returns the thresholds of a panel in Grafana's form. Values less than the
// first step have the given color, or green if the color is empty.
func thresholds(below string, steps []step) *dashboard.ThresholdsConfig {
	if below == "" {
		below = green
	}
	all := []dashboard.Threshold{{Color: below}}
	for _, s := range steps {
		all = append(all, dashboard.Threshold{Value: &s.from, Color: s.color})
	}
	return &dashboard.ThresholdsConfig{Mode: dashboard.ThresholdsModeAbsolute, Steps: all}
}

// override returns an override in Grafana's form that gives the style to the series
// with the name.
func override(name string, s style) dashboard.DashboardFieldConfigSourceOverrides {
	properties := []dashboard.DynamicConfigValue{{Id: "color", Value: map[string]string{"mode": "fixed", "fixedColor": s.color}}}
	if s.dashed {
		properties = append(properties,
			dashboard.DynamicConfigValue{Id: "custom.lineStyle", Value: map[string]any{"fill": "dash", "dash": []int{10, 10}}},
			dashboard.DynamicConfigValue{Id: "custom.fillOpacity", Value: 0},
			dashboard.DynamicConfigValue{Id: "custom.stacking", Value: map[string]string{"mode": "none", "group": "B"}})
	}
	return dashboard.DashboardFieldConfigSourceOverrides{
		Matcher: dashboard.MatcherConfig{Id: "byName", Options: name}, Properties: properties,
	}
}

// table returns a builder with the settings that only tables have. Its transformations
// join the queries by their labels, and give the columns their order and titles. Before
// that, the values of query A are in a column called "Value #A".
func (p panel) table() *sdktable.PanelBuilder {
	b := sdktable.NewPanelBuilder().CellHeight(common.TableCellHeightSm)
	if p.sort != "" {
		b.SortBy([]cog.Builder[common.TableSortByFieldState]{common.NewTableSortByFieldStateBuilder().DisplayName(p.sort).Desc(true)})
	}
	hidden := map[string]bool{"Time": true}
	order, titles := map[string]int{}, map[string]string{}
	for i, c := range p.columns {
		name := c.label
		if c.letter != "" {
			name = "Value #" + c.letter
		}
		order[name], titles[name] = i, c.title
		b.OverrideByName(c.title, c.properties())
	}
	for i := range p.queries {
		name := "Value #" + letter(i)
		if _, shown := order[name]; !shown {
			hidden[name] = true
		}
	}
	b.WithTransformation(dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}})
	b.WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
		"excludeByName": hidden, "indexByName": order, "renameByName": titles,
	}})
	return b
}

// properties returns the unit, the texts and the colors of the values in a column, as
// properties of Grafana.
func (c column) properties() []dashboard.DynamicConfigValue {
	all := []dashboard.DynamicConfigValue{}
	if c.unit != "" {
		all = append(all, dashboard.DynamicConfigValue{Id: "unit", Value: c.unit})
	}
	if c.decimals != nil {
		all = append(all, dashboard.DynamicConfigValue{Id: "decimals", Value: c.decimals})
	}
	if len(c.texts) > 0 {
		all = append(all, dashboard.DynamicConfigValue{Id: "mappings", Value: mappings(c.texts)})
	}
	if len(c.steps) > 0 || len(c.texts) > 0 {
		all = append(all,
			dashboard.DynamicConfigValue{Id: "thresholds", Value: thresholds("", c.steps)},
			dashboard.DynamicConfigValue{Id: "custom.cellOptions", Value: map[string]string{"type": "color-text"}})
	}
	return all
}
