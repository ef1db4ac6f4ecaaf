//go:build !race

package sqlitestore

import (
	"context"
	"errors"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// breakages returns constructors of faulty stores, by fault: at least one for each
// promise that the model checks. Each run constructs its own faulty store, because
// some faulty stores have state.
func breakages() map[string]func() breakage {
	all := map[string]func() breakage{}
	for _, group := range []map[string]func() breakage{brokenHolds(), brokenTerms(), brokenAnswers(), brokenPosts(), brokenCrashes()} {
		for name, broken := range group {
			all[name] = broken
		}
	}
	return all
}

func brokenHolds() map[string]func() breakage {
	ctx := context.Background()
	return map[string]func() breakage{
		"captures again when it is asked again": func() breakage {
			done := map[string]bool{}
			return breakage{capture: func(s *Store, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
				c, p, err := s.Capture(ctx, id, answer)
				if err == nil && done[id] {
					_, p, _ = s.Charge(ctx, "chg_"+newUUID().text(""), c.Order, ledger.Terms{}, nil)
				}
				done[id] = err == nil
				return c, p, err
			}}
		},
		"forgets a hold": func() breakage {
			return breakage{reserve: func(s *Store, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
				got, err := s.Reserve(ctx, id, o, terms)
				if err == nil {
					_ = s.Release(ctx, id)
				}
				return got, err
			}}
		},
		"ignores the balance": func() breakage {
			return breakage{reserve: func(s *Store, id string, o ledger.Order, terms ledger.Terms) (got ledger.Reservation, err error) {
				lifted(s, o.Account, func(a *account) { a.creditLimit += 1000 }, func() { got, err = s.Reserve(ctx, id, o, terms) })
				return got, err
			}}
		},
		"ignores the balance when a charge was not reserved": func() breakage {
			return breakage{charge: func(s *Store, id string, o ledger.Order, terms ledger.Terms, answer []byte) (c ledger.Charge, p ledger.Balance, err error) {
				lifted(s, o.Account, func(a *account) { a.creditLimit += 1000 }, func() { c, p, err = s.Charge(ctx, id, o, terms, answer) })
				return c, p, err
			}}
		},
		"captures what expired though the balance is gone": func() breakage {
			return breakage{capture: func(s *Store, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
				c, p, err := s.Capture(ctx, id, answer)
				if h := heldAs(s, id); h != nil && errors.Is(err, ledger.ErrInsufficient) {
					lifted(s, h.order.Account, func(a *account) { a.creditLimit += 1000 }, func() { c, p, err = s.Capture(ctx, id, answer) })
				}
				return c, p, err
			}}
		},
		"captures what expired beyond a cap": func() breakage {
			return breakage{capture: func(s *Store, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
				c, p, err := s.Capture(ctx, id, answer)
				if h := heldAs(s, id); h != nil && errors.Is(err, ledger.ErrCapped) {
					h.terms.Key, h.terms.Server = ledger.Caps{}, ledger.Caps{}
					lifted(s, h.order.Account, func(a *account) { a.caps = ledger.Caps{} }, func() { c, p, err = s.Capture(ctx, id, answer) })
				}
				return c, p, err
			}}
		},
		"captures beside the call that was run anew": func() breakage {
			return breakage{capture: func(s *Store, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
				c, p, err := s.Capture(ctx, id, answer)
				if h := heldAs(s, id); h != nil && h.state == holdExpired && errors.Is(err, ledger.ErrSettled) {
					h.terms.Idempotency.Key = ""
					return s.Capture(ctx, id, answer)
				}
				return c, p, err
			}}
		},
		"ignores expiry": func() breakage {
			return breakage{before: func(s *Store) {
				s.books.mu.Lock()
				defer s.books.mu.Unlock()
				for _, h := range s.books.holds {
					if h.state == holdOpen {
						h.expires = s.now().Add(ledger.ReservationLife)
					}
				}
			}}
		},
		"renews what expired": func() breakage {
			return breakage{renew: func(s *Store, id string) error {
				if err := s.Renew(ctx, id); !errors.Is(err, ledger.ErrSettled) {
					return err
				}
				return nil
			}}
		},
		"releases what is captured": func() breakage {
			return breakage{release: func(s *Store, id string) error {
				err := s.Release(ctx, id)
				if _, charged := s.ChargeByID(ctx, id); errors.Is(err, ledger.ErrSettled) && charged == nil {
					_, _, err = s.PostTransaction(ctx, ledger.Transaction{ID: "txn_" + newUUID().text(""), Kind: ledger.KindRefund, Charge: id}, ledger.Audit{})
				}
				return err
			}}
		},
		"loses a release": func() breakage {
			return breakage{release: func(s *Store, id string) error {
				if h := heldAs(s, id); h != nil && h.state == holdOpen {
					return nil
				}
				return s.Release(ctx, id)
			}}
		},
		"takes other content for the same": func() breakage {
			return breakage{reserve: func(s *Store, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
				got, err := s.Reserve(ctx, id, o, terms)
				if errors.Is(err, ledger.ErrConflict) {
					err = nil
				}
				return got, err
			}}
		},
	}
}

func brokenTerms() map[string]func() breakage {
	orders := map[string]func(*ledger.Order, *ledger.Terms){
		"ignores the caps of a key":    func(_ *ledger.Order, t *ledger.Terms) { t.Key = ledger.Caps{} },
		"ignores the caps at a server": func(_ *ledger.Order, t *ledger.Terms) { t.Server = ledger.Caps{} },
		"ignores the caps of a call":   func(_ *ledger.Order, t *ledger.Terms) { t.Key.Call, t.Server.Call = 0, 0 },
		"ignores the caps of a day":    func(_ *ledger.Order, t *ledger.Terms) { t.Key.Day, t.Server.Day = 0, 0 },
		"ignores the caps of a month":  func(_ *ledger.Order, t *ledger.Terms) { t.Key.Month, t.Server.Month = 0, 0 },
		"takes a day for a month": func(_ *ledger.Order, t *ledger.Terms) {
			t.Key = ledger.Caps{Call: t.Key.Call, Day: least(t.Key.Day, t.Key.Month)}
		},
		"ignores the free quota":          func(_ *ledger.Order, t *ledger.Terms) { t.FreeCalls = 0 },
		"is free without end":             func(_ *ledger.Order, t *ledger.Terms) { t.FreeCalls *= 1000 },
		"gives one free call too many":    func(_ *ledger.Order, t *ledger.Terms) { t.FreeCalls += min(t.FreeCalls, 1) },
		"counts one lineage for another":  func(o *ledger.Order, _ *ledger.Terms) { o.Lineage = "key_one" },
		"counts one server for another":   func(o *ledger.Order, _ *ledger.Terms) { o.Server = "one" },
		"swaps the provider":              func(o *ledger.Order, _ *ledger.Terms) { o.Provider, o.Fee, o.FeeTo = o.Account, 0, "" },
		"mixes live and test":             func(o *ledger.Order, _ *ledger.Terms) { o.Test = false },
		"takes no fee":                    func(o *ledger.Order, _ *ledger.Terms) { o.Fee, o.FeeTo = 0, "" },
		"takes a smaller fee":             func(o *ledger.Order, _ *ledger.Terms) { o.Fee -= min(1, max(0, o.Fee-1)) },
		"ignores the content of a repeat": func(_ *ledger.Order, t *ledger.Terms) { t.Idempotency.Fingerprint = [32]byte{} },
		"runs a call again":               func(_ *ledger.Order, t *ledger.Terms) { t.Idempotency = ledger.Idempotency{} },
		"takes all repeats for the same": func(_ *ledger.Order, t *ledger.Terms) {
			t.Idempotency.Key = t.Idempotency.Key[:min(1, len(t.Idempotency.Key))]
		},
		"takes one too much of a balance":   func(o *ledger.Order, _ *ledger.Terms) { o.Amount++ },
		"lets an account's operator go out": func(o *ledger.Order, _ *ledger.Terms) { o.FeeTo, o.Fee = "", 0 },
	}
	all := map[string]func() breakage{
		"ignores the caps of an account": func() breakage {
			return breakage{reserve: func(s *Store, id string, o ledger.Order, terms ledger.Terms) (got ledger.Reservation, err error) {
				lifted(s, o.Account, func(a *account) { a.caps = ledger.Caps{} }, func() { got, err = s.Reserve(context.Background(), id, o, terms) })
				return got, err
			}}
		},
		"lets a day begin with what was spent": func() breakage {
			return breakage{before: func(s *Store) {
				s.books.mu.Lock()
				defer s.books.mu.Unlock()
				for _, m := range s.books.counters {
					m.day = max(m.day, ledger.Day(s.now()))
				}
			}}
		},
	}
	delete(orders, "lets an account's operator go out")
	for name, change := range orders {
		all[name] = func() breakage { return onOrders(change) }
	}
	return all
}

// least returns the smaller of two caps. 0 means no cap.
func least(a, b ledger.Amount) ledger.Amount {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

func brokenAnswers() map[string]func() breakage {
	ctx := context.Background()
	type call struct {
		order ledger.Order
		terms ledger.Terms
	}
	onReserve := func(then func(s *Store, id string, o ledger.Order, terms ledger.Terms, got ledger.Reservation, err error) (ledger.Reservation, error)) func() breakage {
		return func() breakage {
			return breakage{reserve: func(s *Store, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
				got, err := s.Reserve(ctx, id, o, terms)
				return then(s, id, o, terms, got, err)
			}}
		}
	}
	runs := func(when error) func() breakage {
		return onReserve(func(s *Store, id string, o ledger.Order, terms ledger.Terms, got ledger.Reservation, err error) (ledger.Reservation, error) {
			if errors.Is(err, when) {
				terms.Idempotency = ledger.Idempotency{}
				return s.Reserve(ctx, id, o, terms)
			}
			return got, err
		})
	}
	return map[string]func() breakage{
		"runs a call that is in flight":    runs(ledger.ErrInFlight),
		"runs a call whose answer is gone": runs(ledger.ErrGone),
		"runs another call with the key":   runs(ledger.ErrReused),
		"keeps no answer": func() breakage {
			return breakage{capture: func(s *Store, id string, _ []byte) (ledger.Charge, ledger.Balance, error) {
				return s.Capture(ctx, id, nil)
			}}
		},
		"keeps what is too long": func() breakage {
			return breakage{capture: func(s *Store, id string, answer []byte) (ledger.Charge, ledger.Balance, error) {
				return s.Capture(ctx, id, answer[:min(len(answer), ledger.MaxStoredResponse)])
			}}
		},
		"gives another answer": onReserve(func(_ *Store, _ string, _ ledger.Order, _ ledger.Terms, got ledger.Reservation, err error) (ledger.Reservation, error) {
			if got.First != nil {
				got.First.Body = append([]byte("not "), got.First.Body...)
			}
			return got, err
		}),
		"gives another charge": onReserve(func(_ *Store, id string, _ ledger.Order, _ ledger.Terms, got ledger.Reservation, err error) (ledger.Reservation, error) {
			if got.First != nil {
				got.First.Charge.ID = id
			}
			return got, err
		}),
		"holds credits for a repeat": onReserve(func(s *Store, id string, o ledger.Order, _ ledger.Terms, got ledger.Reservation, err error) (ledger.Reservation, error) {
			if got.First != nil {
				_, _ = s.Reserve(ctx, id, o, ledger.Terms{})
			}
			return got, err
		}),
		"keeps the key of what was released": func() breakage {
			calls, taken := map[string]call{}, map[idempotencyHash]bool{}
			return breakage{
				reserve: func(s *Store, id string, o ledger.Order, terms ledger.Terms) (ledger.Reservation, error) {
					if taken[hashIdempotencyKey(&o, terms.Idempotency.Key)] && terms.Idempotency.Key != "" {
						return ledger.Reservation{}, ledger.ErrInFlight
					}
					got, err := s.Reserve(ctx, id, o, terms)
					if err == nil {
						calls[id] = call{o, terms}
					}
					return got, err
				},
				release: func(s *Store, id string) error {
					err := s.Release(ctx, id)
					if c, ok := calls[id]; ok && err == nil {
						taken[hashIdempotencyKey(&c.order, c.terms.Idempotency.Key)] = true
					}
					return err
				},
			}
		},
		"forgets a call with its refund": func() breakage {
			return afterRefund(func(s *Store, c ledger.Charge, _ ledger.Transaction, rest bool) {
				if rest {
					posted(s, func(x *tx) error { return x.deleteResponse(seqOf(s, c.ID), ledger.MaxStoredResponse) })
				}
			})
		},
	}
}

func seqOf(s *Store, charge string) int64 {
	u, _ := parseID(chargePrefix, charge)
	r, err := s.captured(u)
	if err != nil {
		panic(err)
	}
	return r.seq
}

func brokenPosts() map[string]func() breakage {
	ctx := context.Background()
	return map[string]func() breakage{
		"restores a cap with a refund": func() breakage {
			return afterRefund(func(s *Store, c ledger.Charge, refund ledger.Transaction, _ bool) {
				s.books.mu.Lock()
				defer s.books.mu.Unlock()
				for _, m := range s.books.countersOf(s.books.byID[c.Account].n, c.Lineage, c.Server, c.Test) {
					m.spentDay, m.spentMonth = m.spentDay-refund.Amount, m.spentMonth-refund.Amount
				}
			})
		},
		"loses a refund": func() breakage {
			return breakage{post: func(s *Store, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
				c, err := s.ChargeByID(ctx, t.Charge)
				left := c.Paid() - c.Refunded
				if t.Kind != ledger.KindRefund || err != nil || left == 0 || t.Amount > left {
					return s.PostTransaction(ctx, t, a)
				}
				if t.Amount == 0 {
					t.Amount = left
				}
				t.Debtor, t.Creditor, t.Test = c.Provider, c.Account, c.Test
				payer, err := s.Account(ctx, c.Account)
				return t, payer.Balance(c.Test), err
			}}
		},
		"does not return the fee": func() breakage {
			return afterRefund(func(s *Store, c ledger.Charge, refund ledger.Transaction, _ bool) {
				back := ledger.FeeReturned(c.Fee, c.Amount, c.Refunded, refund.Amount)
				if back == 0 {
					return
				}
				seq := seqOf(s, c.ID)
				posted(s, func(x *tx) error {
					b := s.books
					return x.insertFee(seq, back, b.byID[c.Provider], b.byID[c.FeeTo], &row{test: c.Test, at: 1})
				})
			})
		},
		"credits twice": func() breakage {
			return breakage{post: func(s *Store, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
				got, p, err := s.PostTransaction(ctx, t, a)
				if t.Kind == ledger.KindCredit && err == nil {
					t.ID = "txn_" + newUUID().text("")
					_, _, _ = s.PostTransaction(ctx, t, a)
				}
				return got, p, err
			}}
		},
		"loses the audit row": func() breakage {
			return breakage{post: func(s *Store, t ledger.Transaction, a ledger.Audit) (ledger.Transaction, ledger.Balance, error) {
				got, p, err := s.PostTransaction(ctx, t, a)
				if err == nil {
					posted(s, func(x *tx) error {
						_, err := x.exec(`DROP TRIGGER IF EXISTS audit_stays`)
						if err == nil {
							_, err = x.exec(`DELETE FROM audit WHERE n = (SELECT max(n) FROM audit)`)
						}
						return err
					})
				}
				return got, p, err
			}}
		},
		"changes limits though the change is given up": func() breakage {
			return breakage{update: func(s *Store, id string, change func(*ledger.Account) error, a ledger.Audit) (ledger.Account, error) {
				var gaveUp error
				got, err := s.UpdateAccount(ctx, id, func(a *ledger.Account) error { gaveUp = change(a); return nil }, a)
				return got, errors.Join(err, gaveUp)
			}}
		},
		"does not change limits": func() breakage {
			return breakage{update: func(s *Store, id string, change func(*ledger.Account) error, a ledger.Audit) (got ledger.Account, err error) {
				_, err = s.UpdateAccount(ctx, id, func(a *ledger.Account) error { got = *a; err := change(&got); return err }, a)
				return got, err
			}}
		},
	}
}

// brokenCrashes returns the faults that alter the file in a crash. A store with such
// a fault writes all snapshots before each call, so that a replay after the crash
// does not repair a snapshot that the fault made wrong.
func brokenCrashes() map[string]func() breakage {
	all := map[string]func() breakage{}
	for name, query := range map[string]string{
		"loses a charge at a crash": `DROP TRIGGER IF EXISTS txn_stays;
			DELETE FROM txn WHERE kind = 1 AND seq = (SELECT max(seq) FROM txn);
			DELETE FROM stored_response WHERE seq > (SELECT max(seq) FROM txn);
			UPDATE account SET live = 0, test = 0, as_of = 0, debit_head = 0, credit_head = 0;
			DELETE FROM spend; UPDATE meta SET replay_from = 1`,
		"forgets at a crash what was spent":   `DELETE FROM spend`,
		"forgets answers at a crash":          `DELETE FROM stored_response`,
		"forgets limits at a crash":           `UPDATE account SET credit_limit = 0, cap_call = 0, cap_day = 0, cap_month = 0`,
		"gives other answers after a crash":   `UPDATE stored_response SET body = x'00' WHERE size > 0`,
		"loses the last audit row at a crash": `DROP TRIGGER IF EXISTS audit_stays; DELETE FROM audit WHERE n = (SELECT max(n) FROM audit)`,
		"has another balance after a crash":   `UPDATE account SET live = live + 1 WHERE n = 2`,
		"begins a new quota with every crash": `UPDATE spend SET free_day = 0`,
		"begins a new day with every crash":   `UPDATE spend SET spent_day = 0`,
		"begins a new month with every crash": `UPDATE spend SET spent_month = spent_day`,
	} {
		all[name] = func() breakage {
			return breakage{crash: query, before: func(s *Store) {
				posted(s, func(x *tx) error { return x.flush(len(x.w.dirty), true) })
			}}
		}
	}
	return all
}
