package screen

import (
	"context"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/fareboxhq/farebox/internal/scrape"
)

// Terminal is the terminal that the live screen uses.
type Terminal struct {
	In, Out *os.File
}

// Watch shows the gateway live until the operator quits, SIGTERM or SIGINT arrives, or
// ctx ends, and then restores the terminal. The first sample is shown at once. When
// Watch has returned, no request is running.
func Watch(ctx context.Context, terminal Terminal, address string, interval time.Duration, first *scrape.Sample, ask Scrape) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the waits and requests that are still running when the screen ends
	program := tea.NewProgram(newModel(ctx, address, interval, first, ask),
		tea.WithInput(terminal.In), tea.WithOutput(terminal.Out), tea.WithFilter(quitOnInterrupt))
	// If an interrupt or the context given to Bubble Tea ends the program, a goroutine
	// that reads from the terminal is left running. After Quit, no goroutine is left
	// running, so call Quit when ctx ends.
	stop := context.AfterFunc(ctx, program.Quit)
	defer stop()
	_, err := program.Run()
	return err
}

// quitOnInterrupt makes SIGINT end the screen as SIGTERM does.
func quitOnInterrupt(_ tea.Model, msg tea.Msg) tea.Msg {
	if _, ok := msg.(tea.InterruptMsg); ok {
		return tea.QuitMsg{}
	}
	return msg
}
