package integration

import (
	"os/exec"
	"sync"
	"testing"
)

// openTogether connects n clients through bridges that start at the same time, and lets
// each make a call. It returns the number of clients that worked.
func (d *userDesk) openTogether(n int, endpoint string) int {
	d.t.Helper()
	var group sync.WaitGroup
	var mu sync.Mutex
	worked := 0
	for i := range n {
		cmd := d.command(endpoint, "--no-browser")
		group.Go(func() {
			session, err := connectThrough(d.t, cmd, revisions[i%len(revisions)])
			if err != nil {
				return // the program may have been killed
			}
			defer session.Close()
			if payForecast(session, d.t) == nil {
				mu.Lock()
				worked++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return worked
}

// TestConnectLoginOfMany checks that a host that starts several bridges for one server,
// as desktop clients do, shows its user one page: all bridges work after that, those that
// start later work without a page, and none waits at a server that needs no sign-in.
func TestConnectLoginOfMany(t *testing.T) {
	t.Parallel()
	weather := binaries.StartWeather(t, "-stateless")
	g := binaries.StartGateway(t, ownIssuerSite(weather))
	agent, _ := g.NewAgent(t, "agent", "10.00")
	d := newUserDesk(t, g.NewKey(t, agent.Name, "--scope", "cities.read").Secret)
	const many = 5
	if worked := d.openTogether(many, g.Endpoint()); worked != many || d.asked() != 1 {
		t.Errorf("%d of %d bridges work; the person was asked %d times\n%s", worked, many, d.asked(), d.notes.String())
	}
	if worked := d.openTogether(3, g.Endpoint()); worked != 3 || d.asked() != 1 {
		t.Errorf("later, %d of 3 bridges work; the person was asked %d times\n%s", worked, d.asked(), d.notes.String())
	}
	var grants []any
	g.CLI(t, &grants, "grant", "list", "--account", "agent")
	if len(grants) != 1 {
		t.Errorf("%d grants", len(grants))
	}
	if n := len(g.Charges(t, agent.Name)); n != many+3 {
		t.Errorf("%d charges for %d calls", n, many+3)
	}
	if worked := d.openTogether(3, weather+"/mcp"); worked != 3 || d.asked() != 1 {
		t.Errorf("at a public server, %d of 3 bridges work; the person was asked %d times\n%s", worked, d.asked(), d.notes.String())
	}
	g.VerifyLedger(t)
}

// TestConnectLoginIsTakenOver checks that the other bridges of a host sign in if the one
// that showed the page is killed before the person has answered.
func TestConnectLoginIsTakenOver(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, ownIssuerSite(binaries.StartWeather(t, "-stateless")))
	agent, _ := g.NewAgent(t, "agent", "10.00")
	d := newUserDesk(t, g.NewKey(t, agent.Name, "--scope", "cities.read").Secret)
	first := make(chan struct{}, 1)
	first <- struct{}{}
	d.answer = func(program *exec.Cmd, page string) {
		select {
		case <-first:
			_ = program.Process.Kill() // it runs, because it has just written the page
		default:
			d.allow(page)
		}
	}
	const many = 3
	if worked := d.openTogether(many, g.Endpoint()); worked != many-1 || d.asked() != 2 {
		t.Errorf("%d of %d bridges work; the person was asked %d times\n%s", worked, many-1, d.asked(), d.notes.String())
	}
	if n := len(g.Charges(t, agent.Name)); n != many-1 {
		t.Errorf("%d charges", n)
	}
}
