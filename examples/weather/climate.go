package main

import (
	"fmt"
	"slices"
	"strings"
)

// climate is the invented climate of a city.
type climate struct {
	City     string `json:"city"`
	Sky      string `json:"sky"`
	HighC    int    `json:"high_c"`
	LowC     int    `json:"low_c"`
	RainMM   int    `json:"rain_mm_per_year"`
	SunHours int    `json:"sun_hours_per_year"`
}

var atlas = map[string]climate{
	"berlin":    {"Berlin", "light rain", 14, 6, 570, 1730},
	"lisbon":    {"Lisbon", "clear", 24, 15, 690, 2800},
	"nairobi":   {"Nairobi", "scattered clouds", 25, 14, 870, 2500},
	"oslo":      {"Oslo", "snow showers", 1, -6, 800, 1670},
	"sao paulo": {"Sao Paulo", "thunderstorms", 27, 18, 1450, 1890},
	"tokyo":     {"Tokyo", "partly cloudy", 19, 11, 1530, 1880},
}

// lookUp finds a city by its name, ignoring case. The text of its error is meant for
// the model that asked, and suggests another request.
func lookUp(city string) (climate, error) {
	if c, ok := atlas[strings.ToLower(strings.TrimSpace(city))]; ok {
		return c, nil
	}
	return climate{}, fmt.Errorf("no such city: known are %s", strings.Join(cities(), ", "))
}

// cities returns the names of all cities, sorted.
func cities() []string {
	names := make([]string, 0, len(atlas))
	for _, c := range atlas {
		names = append(names, c.City)
	}
	slices.Sort(names)
	return names
}
