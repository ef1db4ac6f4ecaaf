package demo

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
)

// Servers holds the processes of a demonstration. It is not safe for concurrent use.
type Servers struct {
	Binaries Binaries
	Data     string // directory for the logs

	running []*Process     // the servers in reverse order of their start
	after   []func() error // functions to call after all servers have ended
}

// After adds a function that Stop calls as soon as all servers have ended.
func (s *Servers) After(do func() error) { s.after = append(s.after, do) }

// start starts a server and waits until it answers at the URL.
func (s *Servers) start(ctx context.Context, name, log, url string, environment []string, binary string, args ...string) (*Process, error) {
	p, err := Spawn(name, filepath.Join(s.Data, log), environment, binary, args...)
	if err != nil {
		return nil, err
	}
	s.running = slices.Insert(s.running, 0, p)
	return p, p.Await(ctx, Answers(url))
}

// StartWeather starts the demonstration MCP server and waits until it answers.
func (s *Servers) StartWeather(ctx context.Context, port string, flags ...string) error {
	address := "127.0.0.1:" + port
	_, err := s.start(ctx, "the weather server", "weather.log", "http://"+address+"/healthz", nil,
		s.Binaries.Weather, append(flags, "-listen", address)...)
	return err
}

// StartCaddy starts Farebox with a Caddyfile and waits until it answers at the URL,
// with any status. Farebox may open its store a moment later.
func (s *Servers) StartCaddy(ctx context.Context, name, log, config, url string, environment []string) (*Process, error) {
	return s.start(ctx, name, log, url, environment, s.Binaries.Farebox, "run", "--config", config, "--adapter", "caddyfile")
}

// Stop ends all servers in reverse order of their start, so that a gateway ends
// before its upstream. Then it calls the functions given to After.
func (s *Servers) Stop() error {
	var errs []error
	for _, p := range s.running {
		errs = append(errs, p.Stop())
	}
	for _, do := range s.after {
		errs = append(errs, do())
	}
	return errors.Join(errs...)
}

// Wait waits until the context ends, and then returns nil. It returns an error as
// soon as a server ends.
func (s *Servers) Wait(ctx context.Context) error {
	ended := make(chan *Process, len(s.running))
	for _, p := range s.running {
		go func() {
			select {
			case <-p.done:
				ended <- p
			case <-ctx.Done():
			}
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case p := <-ended:
		return p.ended()
	}
}
