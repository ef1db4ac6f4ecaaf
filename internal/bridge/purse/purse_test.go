package purse

import (
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func limited(budget ledger.Amount) *Purse { return New(Limits{Budget: &budget}) }

// TestBudgetHolds checks that no order of reservations and settlements takes the sum
// beyond the budget, with listed, unlisted and varying prices, and concurrently.
func TestBudgetHolds(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const budget = 1000
	p := limited(budget)
	p.Learn("fixed", Price{Most: 7})
	p.Learn("varies", Price{Most: 50, Varies: true})
	p.Learn("free", Price{})
	var group sync.WaitGroup
	for caller := range 8 {
		random := rand.New(rand.NewPCG(seed, uint64(caller)))
		group.Go(func() {
			for range 500 {
				h, err := p.Reserve([]string{"fixed", "varies", "free", "unlisted"}[random.IntN(4)])
				if err != nil {
					continue
				}
				most, _ := h.Max() // the gateway charges no more
				switch random.IntN(4) {
				case 0:
					h.Charged(ledger.Amount(random.Int64N(int64(most) + 1)))
				case 1:
					h.Free()
				case 2:
					h.InDoubt()
				case 3:
					h.Unstamped(random.IntN(2) == 0)
				}
				h.Charged(budget) // a second settlement counts for nothing
				if spent, left, _ := p.Spent(); spent > budget || left < 0 {
					t.Errorf("spent %d, left %d", spent, left)
				}
			}
		})
	}
	group.Wait()
	if p.reserved != 0 {
		t.Errorf("%d stay reserved", p.reserved)
	}
}

// TestReserve checks the maximum with which each call is sent.
func TestReserve(t *testing.T) {
	t.Parallel()
	budget, most := ledger.Amount(100), ledger.Amount(30)
	p := New(Limits{Budget: &budget, MaxPrice: &most})
	p.Learn("cheap", Price{Most: 20})
	p.Learn("dear", Price{Most: 90})
	p.Learn("odd", Price{Most: -5})
	for _, test := range []struct {
		item string
		max  ledger.Amount
		err  bool
	}{{"cheap", 20, false}, {"dear", 30, false}, {"odd", 30, false}, {"cheap", 20, false}, {"cheap", 0, true}, {"odd", 0, false}} {
		h, err := p.Reserve(test.item)
		var over *BudgetError
		if errors.As(err, &over) != test.err {
			t.Fatalf("%s: %v", test.item, err)
		}
		if test.err {
			continue
		}
		if got, ok := h.Max(); got != test.max || !ok {
			t.Errorf("%s: %d, want %d", test.item, got, test.max)
		}
	}
	if _, limited := must(New(Limits{}).Reserve("x")).Max(); limited {
		t.Error("a call without limits has a maximum")
	}
}

func must(h *Hold, _ error) *Hold { return h }

// TestUnstamped checks when a result without a charge counts as charged.
func TestUnstamped(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		item     string
		receipts bool
		long     bool
		spent    ledger.Amount
	}{
		{"priced", false, false, 10}, {"priced", true, false, 0}, {"priced", true, true, 10}, {"free", false, true, 0}, {"unlisted", true, false, 0}, {"unlisted", false, false, 100},
	} {
		p := limited(100)
		p.Learn("priced", Price{Most: 10})
		p.Learn("free", Price{})
		p.receipts = test.receipts
		must(p.Reserve(test.item)).Unstamped(test.long)
		if spent, _, _ := p.Spent(); spent != test.spent {
			t.Errorf("%+v: %d", test, spent)
		}
	}
}

// TestOddAmounts checks that amounts that no gateway charges cannot raise the budget.
func TestOddAmounts(t *testing.T) {
	t.Parallel()
	p := limited(100)
	p.Learn("x", Price{Most: 1})
	must(p.Reserve("x")).Charged(-50)
	if spent, left, _ := p.Spent(); spent != 0 || left != 100 {
		t.Errorf("spent %d, left %d", spent, left)
	}
	must(p.Reserve("x")).Charged(5)
	must(p.Reserve("x")).Charged(math.MaxInt64)
	if spent, left, _ := p.Spent(); spent != math.MaxInt64 || left >= 0 {
		t.Errorf("spent %d, left %d", spent, left)
	}
	if _, err := p.Reserve("x"); err == nil {
		t.Error("a call was allowed after the budget was exceeded")
	}
}

// TestTasks checks that the reservation of a task stays until the task is charged.
func TestTasks(t *testing.T) {
	t.Parallel()
	p := limited(100)
	p.Learn("x", Price{Most: 10})
	must(p.Reserve("x")).Park("task")
	if _, left, _ := p.Spent(); left != 90 {
		t.Errorf("left %d", left)
	}
	p.Task("task").Charged(4)
	p.Forget("task")
	if spent, left, _ := p.Spent(); spent != 4 || left != 96 || p.Task("task") != nil {
		t.Errorf("spent %d, left %d", spent, left)
	}
}

// TestEndedTasks checks that a task that ends without a charge gives its part of the
// budget back, that a late charge counts, and that the memory of such tasks is bounded.
func TestEndedTasks(t *testing.T) {
	budget := ledger.Amount(100)
	p := New(Limits{Budget: &budget})
	p.Learn("x", Price{Most: 10})
	for i := range 2 * maxEnded {
		h, err := p.Reserve("x")
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		h.Park(strconv.Itoa(i))
		p.End(strconv.Itoa(i))
		p.End(strconv.Itoa(i))
	}
	if len(p.tasks) != maxEnded || p.Task("0") != nil {
		t.Errorf("%d tasks are remembered", len(p.tasks))
	}
	late := p.Task(strconv.Itoa(2*maxEnded - 1))
	late.Charged(7)
	late.Charged(7)
	if spent, left, _ := p.Spent(); spent != 7 || left != 93 {
		t.Errorf("%d spent, %d left", spent, left)
	}
}
