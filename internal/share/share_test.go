package share

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/clock"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// take calls c.Take with the same piece until it is refused. It returns the amount that
// it took and the limit that was reached.
func take(t *testing.T, c *Allocation, piece int64) (got int64, why Class) {
	t.Helper()
	for {
		if err := c.Take(piece); err != nil {
			return got, ClassOf(err)
		}
		if got += piece; got > 1<<30 {
			t.Fatal("there is no end")
		}
	}
}

// TestAlone checks that a single key gets a fifth of the total, that a single account
// gets a quarter with any number of keys, and that closed allocations hold nothing.
func TestAlone(t *testing.T) {
	b := New(6400, nil)
	var keys [8]Allocation
	for i := range keys {
		b.Open(&keys[i], Holder{Account: "a", Lineage: fmt.Sprint(i), Paid: true})
	}
	if got, why := take(t, &keys[0], 10); got < 1260 || got > 1290 || why != Key {
		t.Errorf("one key got %d, refused by %s", got, why)
	}
	why := Class("")
	for i := range keys {
		_, why = take(t, &keys[i], 10)
	}
	if used := b.Used(); used < 1580 || used > 1610 || why != Account {
		t.Errorf("one account got %d, refused by %s", used, why)
	}
	for i := range keys {
		keys[i].Close()
	}
	if b.Used() != 0 || len(b.held) != 0 || b.unpaid != 0 {
		t.Errorf("%d are used, %d holders are left", b.Used(), len(b.held))
	}
}

// TestTenAgainstOne checks that an eleventh key still gets its share, 1/64 of the
// total, after ten keys of ten paying accounts have taken all they can.
func TestTenAgainstOne(t *testing.T) {
	b := New(6400, nil)
	var attack [10]Allocation
	for i := range attack {
		b.Open(&attack[i], Holder{Account: fmt.Sprint(i), Lineage: fmt.Sprint(i), Paid: true})
	}
	for range 100 { // the keys take in turns, until none of them gets more
		for i := range attack {
			take(t, &attack[i], 10)
		}
	}
	var victim Allocation
	b.Open(&victim, Holder{Account: "v", Lineage: "v", Paid: true})
	if got, _ := take(t, &victim, 10); got < 6400/64 {
		t.Errorf("beside ten greedy keys one gets %d", got)
	}
}

// TestUnpaid checks that any number of accounts that have not paid hold at most three
// quarters of the total together, and at most half of the total from one address. All
// IPv6 addresses of a /64 count as one. Accounts that have paid are not limited by
// address, because agents behind a proxy share its address.
func TestUnpaid(t *testing.T) {
	b := New(6400, nil)
	from := func(address, who string, paid bool) (int64, Class) {
		c := new(Allocation)
		b.Open(c, Holder{Address: addr(address), Account: who, Lineage: who, Paid: paid})
		return take(t, c, 10)
	}
	total, why := int64(0), Class("")
	for i := range 100 {
		got := int64(0)
		got, why = from(fmt.Sprintf("2001:db8::%x", i+1), fmt.Sprint("a", i), false)
		total += got
	}
	if total != 3200 || why != Address {
		t.Errorf("one network got %d, refused by %s", total, why)
	}
	for i := range 100 {
		_, why = from(fmt.Sprintf("2001:db8:%x::1", i+1), fmt.Sprint("b", i), false)
	}
	if b.Used() != 4800 || why != Unpaid {
		t.Errorf("they got %d, refused by %s", b.Used(), why)
	}
	if got, why := from("2001:db8::1", "v", true); got < 310 || why != Key {
		t.Errorf("one who pays got %d, refused by %s", got, why)
	}
}

// TestUnpaidOfOneAddress checks ten keys at one address that take all they can. Their
// accounts have not paid, and no allocation may be cut. An eleventh key at that
// address, which belongs to another account that has not paid, still gets its share,
// 1/64 of the total.
func TestUnpaidOfOneAddress(t *testing.T) {
	b := New(6400, nil)
	for round := range 2 {
		for i := range 10 {
			c := new(Allocation)
			b.Open(c, Holder{Address: addr("10.0.0.1"), Account: fmt.Sprint(i), Lineage: fmt.Sprint(i)})
			if got, why := take(t, c, 10); why != Key || got == 0 && round == 0 {
				t.Errorf("key %d got %d, refused by %s", i, got, why)
			}
		}
	}
	victim := new(Allocation)
	b.Open(victim, Holder{Address: addr("10.0.0.1"), Account: "v", Lineage: "v"})
	if got, _ := take(t, victim, 10); got < 6400/keyFloor {
		t.Errorf("another one got %d", got)
	}
}

// TestCut checks that, when a limit is reached, the oldest allocation of the accounts
// that have not paid is cut. If the limit is that of an address, the oldest such
// allocation at that address is cut. The allocation of an account that has paid is
// never cut for an account that has not paid.
func TestCut(t *testing.T) {
	refused := map[Class]int{}
	b := New(64, func(c Class) { refused[c]++ })
	var cut []string
	body := func(who, address string, paid bool, n int64) *Allocation {
		t.Helper()
		c := new(Allocation)
		b.Open(c, Holder{Address: addr(address), Paid: paid})
		for range n {
			if err := c.Take(1); err != nil {
				t.Fatalf("%s: %v", who, err)
			}
		}
		c.Cuttable(func() { cut = append(cut, who) })
		return c
	}
	expect := func(want string) {
		t.Helper()
		if got := strings.Join(cut, " "); got != want {
			t.Errorf("cut were %q, want %q", got, want)
		}
		cut = nil
	}
	first := body("first", "10.0.0.1", false, 16)
	body("second", "10.0.0.1", false, 16)
	expect("")
	body("third", "10.0.0.1", false, 1)
	expect("first")
	if !first.WasCut() || ClassOf(first.Take(1)) != Cut || refused[Cut] == 0 {
		t.Error("a cut allocation still works")
	}
	first.Close()
	b.Open(first, Holder{Address: addr("10.0.0.8")})
	if err := first.Take(1); err != nil || first.WasCut() {
		t.Errorf("a cut allocation that was opened again: %v", err)
	}
	first.Close()
	body("fourth", "10.0.0.2", false, 10)
	body("fifth", "10.0.0.3", false, 21)
	expect("")
	body("sixth", "10.0.0.4", false, 4)
	expect("second")
	kept := body("kept", "10.0.0.5", false, 0)
	kept.Keep()
	for i := range 90 { // the paid allocations first fill the rest of the budget, then replace the unpaid ones, and then each other
		body(fmt.Sprint("paid", i), "10.0.0.6", true, 1)
	}
	if text := strings.Join(cut, " "); !strings.HasPrefix(text, "third fourth fifth sixth paid0 paid1 ") || strings.Contains(text, "kept") {
		t.Errorf("cut were %q", text)
	}
	cut = nil
	late := new(Allocation)
	b.Open(late, Holder{Address: addr("10.0.0.7")})
	if err := late.Take(1); ClassOf(err) != All {
		t.Errorf("one who is not known: %v", err)
	}
	expect("")
}

// TestRace checks that under concurrent use everything is given back, and that no
// allocation is cut after its Keep has returned.
func TestRace(t *testing.T) {
	b := New(200, nil)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 500 {
				var c Allocation
				b.Open(&c, Holder{Address: addr(fmt.Sprintf("10.0.0.%d", i)), Account: fmt.Sprint(i), Lineage: fmt.Sprint(i), Paid: i%2 == 0})
				ended := false
				c.Cuttable(func() {
					if ended {
						t.Error("cut after its end")
					}
				})
				for n := 0; n < 10 && c.Take(3) == nil; n++ {
				}
				c.Keep()
				ended = true
				c.Close()
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 || b.unpaid != 0 || len(b.held) != 0 || b.cuts[0].first != nil || b.cuts[1].first != nil {
		t.Errorf("left: %d used, %d unpaid, %d holders", b.used, b.unpaid, len(b.held))
	}
}

// drip is a body that arrives piece by piece.
type drip struct {
	pieces   []string
	pause    time.Duration
	deadline time.Time
}

func (d *drip) Read(p []byte) (int, error) {
	if len(d.pieces) == 0 {
		return 0, io.EOF
	}
	at := clock.Deadline(d.pause)
	if !d.deadline.IsZero() && d.deadline.Before(at) {
		time.Sleep(d.deadline.Sub(clock.Deadline(0))) // deadlines use the system's clock, which clock.Until does not
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(d.pause)
	n := copy(p, d.pieces[0])
	if d.pieces[0] = d.pieces[0][n:]; d.pieces[0] == "" {
		d.pieces = d.pieces[1:]
	}
	return n, nil
}

func (d *drip) SetReadDeadline(at time.Time) error {
	d.deadline = at
	return nil
}

// TestReadAll checks that a body that arrives more slowly than the minimum rate is
// refused, and that a body takes memory for the bytes that have arrived, not for its
// announced length. Without a minimum rate, only the time for the whole body is
// bounded.
func TestReadAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(16<<20, nil)
		rate := int64(DefaultRate)
		read := func(d *drip, length int64) (int, time.Duration, int64, error) {
			var c Allocation
			b.Open(&c, Holder{Account: "a", Lineage: "a", Paid: true})
			defer c.Close()
			began := clock.Now()
			body, err := c.ReadAll(d, Body{Length: length, Source: d, Time: time.Minute, Rate: rate})
			return len(body), clock.Since(began), b.Used(), err
		}
		block := strings.Repeat("x", Window)
		n, _, used, err := read(&drip{pieces: []string{block, block, "y"}, pause: time.Second / 4}, 2*Window+1)
		if n != 2*Window+1 || err != nil || used > 2*Window+2*firstChunk {
			t.Errorf("%d bytes, %v, %d held", n, err, used)
		}
		n, _, used, err = read(&drip{pieces: []string{"small"}}, 4<<20)
		if n != 5 || err != nil || used > firstChunk+1 {
			t.Errorf("%d bytes, %v, %d held", n, err, used)
		}
		_, took, _, err := read(&drip{pieces: strings.Split(strings.Repeat("z", 1000), ""), pause: time.Second}, 1000)
		if ok := took > 6*time.Second && took < 9*time.Second; !ok || err == nil || !strings.Contains(err.Error(), "too slowly") {
			t.Errorf("a byte a second: %v after %s", err, took)
		}
		slow := make([]string, 100)
		for i := range slow {
			slow[i] = block
		}
		if _, took, _, err = read(&drip{pieces: slow, pause: time.Second}, 100*Window); took > time.Minute+time.Second || err == nil {
			t.Errorf("a long body: %v after %s", err, took)
		}
		rate = 0
		if n, took, _, err = read(&drip{pieces: strings.Split("slowly", ""), pause: 9 * time.Second}, 6); n != 6 || took != 54*time.Second || err != nil {
			t.Errorf("without a minimum rate: %d bytes, %v after %s", n, err, took)
		}
		if _, took, _, err = read(&drip{pieces: strings.Split("too slowly", ""), pause: 9 * time.Second}, 10); took != time.Minute || !errors.Is(err, ErrSlow) {
			t.Errorf("without a minimum rate, a long body: %v after %s", err, took)
		}
		if b.Used() != 0 {
			t.Errorf("%d held", b.Used())
		}
	})
}

// TestPayers checks that a paying account is remembered for at least one day and at
// most two.
func TestPayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPayers(clock.Now)
		p.Note("a")
		if !p.Paid("a") || p.Paid("b") {
			t.Error("a payment was not recorded")
		}
		time.Sleep(payerTime)
		p.Note("b")
		if !p.Paid("a") || !p.Paid("b") {
			t.Error("it is forgotten too soon")
		}
		time.Sleep(payerTime)
		p.Note("b")
		if p.Paid("a") || !p.Paid("b") {
			t.Error("it is not forgotten")
		}
		time.Sleep(2 * payerTime)
		if p.Paid("b") {
			t.Error("it is not forgotten without others")
		}
		p.Note("c")
		if p.Paid("b") {
			t.Error("it counts as paying again when another account pays")
		}
		time.Sleep(2*payerTime - time.Second)
		p.Note("d")
		if !p.Paid("c") {
			t.Error("it is forgotten too soon when another account pays")
		}
		time.Sleep(time.Second)
		if p.Paid("c") {
			t.Error("it is remembered for longer than two days")
		}
		for i := range 3 * maxPayers {
			p.Note(fmt.Sprint(i))
		}
		if n := len(p.current.accounts) + len(p.previous.accounts); n > 2*maxPayers {
			t.Errorf("%d are kept", n)
		}
	})
}

// BenchmarkClaim measures the allocation for one call: opening, taking and closing. It
// must not allocate memory.
func BenchmarkClaim(b *testing.B) {
	budget := New(256<<20, nil)
	who := Holder{Address: addr("192.0.2.1"), Account: "acct_0198f2c4", Lineage: "key_0198f2c5"}
	for _, paid := range []bool{true, false} {
		who.Paid = paid
		b.Run(fmt.Sprintf("paid=%v", paid), func(b *testing.B) {
			b.ReportAllocs()
			var c Allocation
			for b.Loop() {
				budget.Open(&c, who)
				_ = c.Take(700)
				c.Close()
			}
		})
	}
}
