package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	defaultSteps = 3
	maxSteps     = 100
)

type cityInput struct {
	City string `json:"city" jsonschema:"name of a city, as list_cities gives it"`
}

type stormInput struct {
	City  string `json:"city" jsonschema:"name of a city, as list_cities gives it"`
	Steps int    `json:"steps,omitempty" jsonschema:"how many observations to wait for, 1 to 100; 3 by default"`
}

// newServer returns an MCP server with five tools. The server has no state, so all
// sessions may share it. The tool "watch_storm" makes one observation per interval of
// length pace.
func newServer(pace time.Duration) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "weather", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{
		Name: "list_cities", Description: "List the cities that this server knows.",
	}, listCities)
	mcp.AddTool(server, &mcp.Tool{
		Name: "get_forecast", Description: "Tomorrow's weather in a city.",
	}, getForecast)
	mcp.AddTool(server, &mcp.Tool{
		Name: "climate_report", Description: "The long report on a city's climate.",
	}, climateReport)
	mcp.AddTool(server, &mcp.Tool{
		Name: "read_station", Description: "Read a city's weather station. The stations are out of order: this tool always fails.",
	}, readStation)
	mcp.AddTool(server, &mcp.Tool{
		Name: "watch_storm", Description: "Watch a storm pass a city, with a progress notification for each observation.",
	}, watchStorm(pace))
	return server
}

func listCities(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	return text(strings.Join(cities(), ", ")), nil, nil
}

func getForecast(_ context.Context, _ *mcp.CallToolRequest, in cityInput) (*mcp.CallToolResult, climate, error) {
	c, err := lookUp(in.City)
	if err != nil {
		return nil, climate{}, err
	}
	return text(fmt.Sprintf("%s: %s, %d to %d °C", c.City, c.Sky, c.LowC, c.HighC)), c, nil
}

func climateReport(_ context.Context, _ *mcp.CallToolRequest, in cityInput) (*mcp.CallToolResult, any, error) {
	c, err := lookUp(in.City)
	if err != nil {
		return nil, nil, err
	}
	return text(fmt.Sprintf("Climate of %s\nRain:     %d mm a year\nSunshine: %d hours a year\nTypical:  %s, %d to %d °C",
		c.City, c.RainMM, c.SunHours, c.Sky, c.LowC, c.HighC)), nil, nil
}

// readStation always fails. The SDK turns its error into a tool result that is
// marked as an error, so that the model can read it. A protocol error would not
// reach the model.
func readStation(_ context.Context, _ *mcp.CallToolRequest, in cityInput) (*mcp.CallToolResult, any, error) {
	c, err := lookUp(in.City)
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, fmt.Errorf("the station in %s does not answer", c.City)
}

func watchStorm(pace time.Duration) mcp.ToolHandlerFor[stormInput, any] {
	return func(ctx context.Context, req *mcp.CallToolRequest, in stormInput) (*mcp.CallToolResult, any, error) {
		c, err := lookUp(in.City)
		if err != nil {
			return nil, nil, err
		}
		steps := in.Steps
		if steps == 0 {
			steps = defaultSteps
		}
		if steps < 1 || steps > maxSteps {
			return nil, nil, fmt.Errorf("steps is %d: want 1 to %d", steps, maxSteps)
		}
		for step := 1; step <= steps; step++ {
			if err := observe(ctx, req, c, step, steps, pace); err != nil {
				return nil, nil, err
			}
		}
		return text(fmt.Sprintf("The storm has passed %s after %d observations.", c.City, steps)), nil, nil
	}
}

// observe waits for one observation. It sends the client a progress notification if
// the client asked for progress.
func observe(ctx context.Context, req *mcp.CallToolRequest, c climate, step, steps int, pace time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pace):
	}
	token := req.Params.GetProgressToken()
	if token == nil {
		return nil
	}
	return req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
		ProgressToken: token,
		Progress:      float64(step),
		Total:         float64(steps),
		Message:       fmt.Sprintf("%s: wind %d km/h", c.City, 40+5*step),
	})
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}
